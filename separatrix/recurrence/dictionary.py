"""Transitions chosen from a dictionary: every step's matrix is a mixture of K learned ones, its columns normalised.

    M_t = sum_k softmax(s_t)_k D_k,   A_t[:, j] = M_t[:, j] / |M_t[:, j]|_p                                        (1)
    h_t = A_t h_{t-1} + b_t                                                                                       (2)

A dense A_t can permute, so a state of N numbers follows any automaton of N states, which no diagonal transition does in one layer.
Columns of p-norm 1 keep products of A_t in bounds without making A_t a stochastic matrix: signs are free.

Paper    Terzić et al. 2024 (SD-SSM), arXiv:2412.19350: p = 1.2.
Departs  a column of zeros stays zero; the fused form mixes the matrices of a stretch of steps at a time and mixes them again in the
         backward, so that nothing of size batch x time x N x N is kept.
Cost     O(T K N²) to mix, O(T N²) to move.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from separatrix.recurrence.autocast import outside_autocast
from separatrix.recurrence.checks import (
    along_time,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    expect_some,
    working_dtype,
)
from separatrix.recurrence.dense import Dense, dense_scan_chunked
from separatrix.recurrence.fused import operators, real_single
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.twins import twin

P = 1.2  # the paper's


@outside_autocast
def dictionary_transition(selection: Tensor, dictionary: Tensor, p: float = P) -> Dense:
    """M = sum_k softmax(s)_k D_k,  A[:, j] = M[:, j] / |M[:, j]|_p.

    selection s [..., K] before its softmax, dictionary D [K, N, N]  ->  A [..., N, N].

    Paper    Terzić et al. 2024 (SD-SSM), arXiv:2412.19350.
    Raises   ValueError for shapes that do not fit and p outside [1, inf); TypeError unless all are real floats.
    """
    expect_numbers("selection", selection, dictionary=dictionary)
    expect_real(selection=selection, dictionary=dictionary)
    expect_axes("dictionary", dictionary, "entries, state, state")
    entries, size = dictionary.shape[:2]
    expect_shape("dictionary", dictionary, (entries, size, size), "entries, state, state")
    if selection.shape[-1:] != (entries,):
        raise ValueError(f"selection is {list(selection.shape)}, expected [..., entries] with the {entries} entries of the dictionary")
    if not 1 <= p < math.inf:
        raise ValueError(f"p is {p}, expected a norm with a derivative: 1 <= p < inf")
    return Dense(normalise(mixture(selection, dictionary), p))


def mixture(selection: Tensor, dictionary: Tensor) -> Tensor:
    """sum_k softmax(selection)_k dictionary_k   [..., N, N]"""
    return (selection.softmax(-1) @ dictionary.flatten(1)).unflatten(-1, dictionary.shape[1:])


def normalise(M: Tensor, p: float) -> Tensor:
    """Columns of p-norm 1, or 0. The result is blind to the scale of a column, whose powers may leave the range of numbers."""
    largest = M.detach().abs().amax(-2, keepdim=True)
    M = M / torch.where(largest > 0, largest, 1)
    size = M.abs().pow(p).sum(-2, keepdim=True)
    return torch.where(size > 0, M * torch.where(size > 0, size, 1).pow(-1 / p), 0)


def dictionary_scan(
    selection: Tensor,
    dictionary: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    p: float = P,
) -> tuple[Tensor, Tensor]:
    """h_t = A_t h_{t-1} + b_t,  A_t the mixture of a dictionary, its columns of p-norm 1.

    selection [B, T, K] before its softmax, dictionary [K, N, N], b [B, T, N], initial_state [B, N], reset [B, T] bool, 1 <= p < inf
    ->  h [B, T, N], final state [B, N].

    Paper    Terzić et al. 2024 (SD-SSM), arXiv:2412.19350.
    Raises   ValueError for shapes that do not fit and p outside [1, inf); TypeError unless all are real floats, reset bool.
    """
    expect_numbers("b", b, selection=selection, dictionary=dictionary, initial_state=initial_state)
    expect_real(b=b, selection=selection, dictionary=dictionary, initial_state=initial_state)
    expect_axes("b", b, "batch, time, state")
    expect_axes("dictionary", dictionary, "entries, state, state")
    (batch, time, size), entries = b.shape, dictionary.shape[0]
    expect_some(entries=entries, state=size)
    expect_shape("dictionary", dictionary, (entries, size, size), "entries, state, state")
    expect_shape("selection", selection, (batch, time, entries), "batch, time, entries")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, size), "batch, state")
    expect_reset(reset, batch, time)
    if not 1 <= p < math.inf:
        raise ValueError(f"p is {p}, expected a norm with a derivative: 1 <= p < inf")
    return run("dictionary_scan", time, selection, dictionary, b, initial_state, reset, p)


@form
def dictionary_scan_recurrent(selection, dictionary, b, initial_state=None, reset=None, p=P) -> tuple[Tensor, Tensor]:
    """Equations (1) and (2), read aloud."""
    dtype = b.dtype
    selection, dictionary, b, h = enter(selection, dictionary, b, initial_state)
    steps = []
    for t in range(b.shape[1]):
        h = dictionary_transition(selection[:, t], dictionary, p).apply(cleared(h, reset, t)) + b[:, t]
        steps.append(h)
    return along_time(steps, b).to(dtype), h


@twin("dictionary_scan")
@form
def dictionary_scan_chunked(selection, dictionary, b, initial_state=None, reset=None, p=P) -> tuple[Tensor, Tensor]:
    """All matrices at once, and the tree of pairs."""
    dtype = b.dtype
    selection, dictionary, b, h = enter(selection, dictionary, b, initial_state)
    states, final = dense_scan_chunked(normalise(mixture(selection, dictionary), p), b, h, reset)
    return states.to(dtype), final


@form(refuses=real_single)
def dictionary_scan_fused(selection, dictionary, b, initial_state=None, reset=None, p=P) -> tuple[Tensor, Tensor]:
    """A stretch of steps at a time."""
    dtype = b.dtype
    selection, dictionary, b, h = enter(selection, dictionary, b, initial_state)
    if b.shape[1] == 0:
        return b.to(dtype), h
    states, final = operators().dictionary_scan(selection, dictionary, b, h, reset, float(p))
    return states.to(dtype), final


def enter(selection: Tensor, dictionary: Tensor, b: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The arguments in the working precision, and the first state."""
    working = working_dtype(selection, dictionary, b, initial_state)
    b = b.to(working)
    h = b.new_zeros(b.shape[0], b.shape[2]) if initial_state is None else initial_state.to(working)
    return selection.to(working), dictionary.to(working), b, h
