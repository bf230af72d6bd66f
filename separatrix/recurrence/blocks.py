"""Block transitions whose blocks are diagonal: k numbers a channel that mix, channels that do not.

    h_t[i] = sum_j A_t[i, j] * h_{t-1}[j] + x_t[i]          i, j < k;  A[i, j], h[i], x[i] [n], elementwise         (1)

The state of a channel is a small vector, that of an LSTM with diagonal weights a pair (its output and its memory). The state of all
channels is k parts of n numbers, one after the other. Steps compose to steps of the same kind, so all T of them are a tree of pairs.

Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450.
Cost     O(T k² n) work one by one, O(T k³ n) as a tree, log2(T) steps deep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_axes, expect_numbers, expect_real, expect_reset, expect_shape, working_dtype
from separatrix.recurrence.diagonal import Diagonal
from separatrix.recurrence.diagonal_plus_low_rank import product
from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.transition import Transition, at_least_single, scan, start
from separatrix.recurrence.tree import Semiring, tree
from separatrix.recurrence.twins import twin


def block_scan(A: Tensor, x: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t[i] = sum_j A_t[i, j] * h_{t-1}[j] + x_t[i].

    A [B, T, k, k, n] (1 for B or T where all share it), x [B, T, k n], initial_state [B, k n], reset [B, T] bool
    ->  h [B, T, k n], final state [B, k n].

    Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("x", x, A=A, initial_state=initial_state)
    expect_real(A=A, x=x, initial_state=initial_state)
    expect_axes("x", x, "batch, time, state")
    expect_axes("A", A, "batch, time, k, k, channels")
    batch, time, size = x.shape
    shape = tuple(1 if own == 1 else wanted for own, wanted in zip(A.shape, (batch, time)))
    expect_shape("A", A, (*shape, A.shape[2], A.shape[2], size // max(A.shape[2], 1)), "batch, time, k, k, channels")
    expect_shape("x", x, (batch, time, A.shape[2] * A.shape[4]), "batch, time, k channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, size), "batch, state")
    expect_reset(reset, batch, time)
    return run("block_scan", time, A, x, initial_state, reset)


@form
def block_scan_recurrent(A, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    out, (A, x, h) = x.dtype, enter(A, x, initial_state)
    blocks = A.expand(-1, x.shape[1], -1, -1, -1).unbind(1)
    steps = []
    for t, drive in enumerate(x.unbind(1)):
        h = apply(blocks[t], cleared(h, reset, t)) + drive
        steps.append(h)
    return along_time(steps, x).flatten(2).to(out), h.flatten(1)


@form
def block_scan_chunked(A, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """A tree of pairs: chunks of two steps, of four, of eight."""
    out, (A, x, h) = x.dtype, enter(A, x, initial_state)
    if x.shape[1] == 0:
        return x.flatten(2).to(out), h.flatten(1)
    states = tree(Semiring(apply, multiply, torch.add, 0.0), A, x, h, reset)
    return states.flatten(2).to(out), states[:, -1].flatten(1).clone()


@form
def block_scan_fused(A, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """In single or double precision; A is stored once where it is shared over batch or time."""
    out, (A, x, h) = x.dtype, enter(A, x, initial_state)
    if x.shape[1] == 0:
        return x.flatten(2).to(out), h.flatten(1)
    states, final = operators().block_scan(A, x, h, reset)
    return states.flatten(2).to(out), final.flatten(1)


@twin("block_scan")
def in_torch(A: Tensor, x: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the kernel computes, with an axis for the parts.   x [B, T, k, n], state [B, k, n]"""
    h, final = block_scan_chunked(A, x.flatten(2), state.flatten(1), reset)
    return h.reshape(x.shape), final.reshape(state.shape)


def apply(A: Tensor, h: Tensor) -> Tensor:
    """A [..., k, k, n], h [..., k, n] -> [..., k, n]"""
    return (A * h.unsqueeze(-3)).sum(-2)


def multiply(later: Tensor, first: Tensor) -> Tensor:
    """[..., k, k, n], [..., k, k, n] -> [..., k, k, n]"""
    return (later.unsqueeze(-2) * first.unsqueeze(-4)).sum(-3)


def enter(A: Tensor, x: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """A, x [B, T, k, n] and the first state [B, k, n], in the working precision."""
    dtype, k = working_dtype(A, x, initial_state), A.shape[2]
    A, x = A.to(dtype), x.to(dtype).unflatten(-1, (k, A.shape[4]))
    h = x.new_zeros(x.shape[0], *x.shape[2:]) if initial_state is None else initial_state.to(dtype).unflatten(-1, x.shape[2:])
    return A, x, h


@dataclass(frozen=True)
class DiagonalBlocks(Transition):
    """[[diag(A_00), diag(A_01), ...], ...].   A [..., k, k, n], real or complex; N = k n

    Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450.
    """

    runs_as = "block_scan"

    A: Tensor

    @property
    def size(self) -> int:
        return self.A.shape[-2] * self.A.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return apply(self.A, h.unflatten(-1, self.A.shape[-2:])).flatten(-2)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        columns = S.unflatten(-2, self.A.shape[-2:])
        return (self.A.unsqueeze(-1) * columns.unsqueeze(-4)).sum(-3).flatten(-3, -2)

    def compose(self, later: Transition) -> Transition:
        if isinstance(later, DiagonalBlocks) and later.A.shape[-3:] == self.A.shape[-3:]:
            return DiagonalBlocks(multiply(later.A, self.A))
        if isinstance(later, Diagonal) and later.size == self.size:
            return DiagonalBlocks(later.a.unflatten(-1, self.A.shape[-2:]).unsqueeze(-2) * self.A)
        return product(self, later)

    def spectrum(self) -> Tensor:
        return torch.linalg.eigvals(at_least_single(self.channels())).flatten(-2)

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(at_least_single(self.channels()), ord=2).amax(-1)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.A).transpose(-3, -2).flatten(-4, -3).flatten(-2)

    def channels(self) -> Tensor:
        """The small matrix of every channel, [..., n, k, k]."""
        return self.A.movedim(-1, -3)


@scan.register
def _(A: DiagonalBlocks, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    h = start(A, drive, initial_state)
    if drive.ndim > 3 or any(x.is_complex() for x in (A.A, drive, h)):
        return scan.dispatch(Transition)(A, drive, h, reset)
    return block_scan(A.A, drive, h, reset)
