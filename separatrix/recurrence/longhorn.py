"""Longhorn: a step of the state is the exact solution of a small regression, so no step size makes it explode.

    S_t[d] = argmin_s |s - S_{t-1}[d]|² + β_t[d] (k_t·s - x_t[d])²                                                 (1)
           = S_{t-1}[d] + ε_t[d] (x_t[d] - k_t·S_{t-1}[d]) k_t               ε = β / (1 + β |k|²)                   (2)
    o_t[d] = S_t[d]·q_t

(2) is the delta rule with a rate for every channel. The released layer keeps the diagonal of its transition only, which makes it a
selective scan with its own discretisation:

    S_t[d] = (1 - ε_t[d] k_t ⊙ k_t) ⊙ S_{t-1}[d] + ε_t[d] x_t[d] k_t                                               (3)

`longhorn` is (2), `longhorn_diagonal` is (3). Every channel has a state of its own under the same keys: q, k [B, T, N], x [B, T, D],
state [B, D, N].

Paper    Liu et al. 2024, arXiv:2407.14207.
Cost     O(D N) a step; the fused forms keep the state before every 32nd step for the backward, the chunked ones every state.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    expect_at_least_zero,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    working_dtype,
)
from separatrix.recurrence.delta import delta_rule_chunked, delta_rule_dense
from separatrix.recurrence.diagonal import diagonal_scan
from separatrix.recurrence.fused import float32, keys_in_cache, operators, will_differentiate
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.twins import twin

CHUNK = 64

# Keys of few dimensions repeat: over 64 steps the triangular system of random keys errs up to twice as much.
SHORT = partial(delta_rule_chunked, chunk=16)


def longhorn(
    q: Tensor, k: Tensor, x: Tensor, beta: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = S_{t-1} + ε_t (x_t - S_{t-1} k_t) k_tᵀ with ε = β / (1 + β |k|²),  o_t = S_t q_t.

    q, k [B, T, N], x, beta [B, T, D] and beta >= 0, initial_state [B, D, N], reset [B, T] bool  ->  o [B, T, D], final state [B, D, N].
    Keys are squared: in float32 |k| has to stay below 1e18, and of larger ones nothing is written.

    Paper    Liu et al. 2024, arXiv:2407.14207.
    Raises   ValueError for shapes that do not fit, beta < 0 or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_arguments(q, k, x, beta, initial_state, reset)
    return run("longhorn", q.shape[1], q, k, x, beta, initial_state, reset)


def longhorn_diagonal(
    q: Tensor, k: Tensor, x: Tensor, beta: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """S_t = (1 - ε_t k_t ⊙ k_t) ⊙ S_{t-1} + ε_t x_t k_tᵀ with ε = β / (1 + β |k|²),  o_t = S_t q_t.   Shapes as for `longhorn`.

    Paper    Liu et al. 2024, arXiv:2407.14207.
    Raises   ValueError for shapes that do not fit, beta < 0 or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_arguments(q, k, x, beta, initial_state, reset)
    return run("longhorn_diagonal", q.shape[1], q, k, x, beta, initial_state, reset)


def expect_arguments(q: Tensor, k: Tensor, x: Tensor, beta: Tensor, initial_state: Tensor | None, reset: Tensor | None) -> None:
    expect_numbers("q", q, k=k, x=x, beta=beta, initial_state=initial_state)
    expect_real(q=q, k=k, x=x, beta=beta, initial_state=initial_state)
    expect_axes("q", q, "batch, time, state")
    expect_axes("x", x, "batch, time, channels")
    batch, time, state = q.shape
    channels = x.shape[2]
    expect_shape("k", k, q.shape, "batch, time, state")
    expect_shape("x", x, (batch, time, channels), "batch, time, channels")
    expect_shape("beta", beta, x.shape, "batch, time, channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, channels, state), "batch, channels, state")
    expect_reset(reset, batch, time)
    expect_at_least_zero("beta", beta)


def prepare(q: Tensor, k: Tensor, x: Tensor, beta: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(q, k, x, ε, S) in working precision."""
    dtype = working_dtype(q, k, x, beta, initial_state)
    q, k, x, beta = (y.to(dtype) for y in (q, k, x, beta))
    S = x.new_zeros(x.shape[0], x.shape[2], q.shape[2]) if initial_state is None else initial_state.to(dtype)
    return q, k, x, beta / (1 + beta * k.square().sum(-1, keepdim=True)), S


@form
def longhorn_recurrent(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (2), read aloud."""
    dtype = x.dtype
    q, k, x, step, S = prepare(q, k, x, beta, initial_state)
    reads = []
    for t in range(x.shape[1]):
        S = cleared(S, reset, t)
        miss = x[:, t] - (S @ k[:, t].unsqueeze(-1)).squeeze(-1)
        S = S + (step[:, t] * miss).unsqueeze(-1) * k[:, t].unsqueeze(-2)
        reads.append((S @ q[:, t].unsqueeze(-1)).squeeze(-1))
    return along_time(reads, x).to(dtype), S


@form
def longhorn_chunked(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The delta rule in chunks: every channel is a head with values of size 1, all of them share queries and keys."""
    dtype = x.dtype
    o, final = through_delta(SHORT, *prepare(q, k, x, beta, initial_state), reset)
    return o.to(dtype), final


@form
def longhorn_dense(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The attention matrix of every channel."""
    dtype = x.dtype
    o, final = through_delta(delta_rule_dense, *prepare(q, k, x, beta, initial_state), reset)
    return o.to(dtype), final


def through_delta(rule, q: Tensor, k: Tensor, x: Tensor, step: Tensor, S: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    o, final = rule(q.unsqueeze(2), k.unsqueeze(2), x.unsqueeze(-1), step, None, 1.0, S.unsqueeze(-1), reset)
    return o.squeeze(-1), final.squeeze(-1)


@form
def longhorn_diagonal_recurrent(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (3), read aloud."""
    dtype = x.dtype
    q, k, x, step, S = prepare(q, k, x, beta, initial_state)
    reads = []
    for t in range(x.shape[1]):
        S = cleared(S, reset, t)
        rate, key = step[:, t].unsqueeze(-1), k[:, t].unsqueeze(-2)
        S = (1 - rate * key * key) * S + rate * x[:, t].unsqueeze(-1) * key
        reads.append((S @ q[:, t].unsqueeze(-1)).squeeze(-1))
    return along_time(reads, x).to(dtype), S


@form
def longhorn_diagonal_chunked(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """A diagonal scan of one chunk after another."""
    dtype = x.dtype
    o, final = by_scan(*prepare(q, k, x, beta, initial_state), reset)
    return o.to(dtype), final


def by_scan(q: Tensor, k: Tensor, x: Tensor, step: Tensor, S: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    reads = [x[:, :0]]
    for start in range(0, x.shape[1], CHUNK):
        here = slice(start, start + CHUNK)
        rate, key = step[:, here].unsqueeze(-1), k[:, here].unsqueeze(-2)
        drive = rate * x[:, here].unsqueeze(-1) * key
        states, S = diagonal_scan(1 - rate * key * key, drive, S, None if reset is None else reset[:, here])
        reads.append((states @ q[:, here].unsqueeze(-1)).squeeze(-1))
    return torch.cat(reads, dim=1), S


@form(refuses=keys_in_cache, pays_from=1)
def longhorn_fused(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return by_kernel(False, q, k, x, beta, initial_state, reset)


@form(refuses=keys_in_cache, pays_from=1)
def longhorn_diagonal_fused(q, k, x, beta, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return by_kernel(True, q, k, x, beta, initial_state, reset)


def by_kernel(
    diagonal: bool, q: Tensor, k: Tensor, x: Tensor, beta: Tensor, initial_state: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    *inputs, state = prepare(*float32(q, k, x, beta, initial_state))  # type: ignore[arg-type]
    if x.shape[1] == 0:
        return x, state
    o, final, _ = operators().longhorn(*inputs, diagonal, state.mT, reset, will_differentiate(*inputs, state))
    return o.to(x.dtype), final.mT


@twin("longhorn")
def in_torch(q: Tensor, k: Tensor, x: Tensor, step: Tensor, diagonal: bool, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the kernel computes.   state [B, N, D]"""
    if diagonal:
        o, final = by_scan(q, k, x, step, state.mT, reset)
    else:
        o, final = through_delta(SHORT, q, k, x, step, state.mT, reset)
    return o, final.mT
