"""A transition without structure: the matrix itself.

    h_t = A_t h_{t-1} + b_t          A [..., N, N]                                                               (1)

Every structure is one of these, and an instrument that knows nothing better makes it one. Two steps compose to one of the same kind,
(A, b) then (A', b') is (A' A, A' b + b'), so all T steps are a tree of pairs; where all steps share A the tree needs only its powers
A², A⁴, A⁸, ..., one product a level.

Paper    Blelloch 1990, "Prefix sums and their applications" (the tree); Martin and Cundy 2018, arXiv:1709.04057.
Cost     O(T N²) one by one; as a tree O(T N³) and log2(T) steps deep, O(T N² + N³ log T) where all steps share A.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, complex_of, expect_numbers, expect_reset, expect_shape, expect_tensor, working_dtype
from separatrix.recurrence.fused import operators, real
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.transition import Transition, at_least_single, expect_same_size, scan, start, times
from separatrix.recurrence.tree import Semiring, tree
from separatrix.recurrence.twins import twin

WORTH_A_PRODUCT = 32  # N of matrices that change with time: 16 runs twice as fast as a tree, 64 five times slower (T = 1024, no kernel)


def dense_scan(A: Tensor, b: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = A_t h_{t-1} + b_t.

    b [B, T, ..., N], A [B, T, ..., N, N] real or complex, 1 for every axis but the last two that shares it, initial_state [B, ..., N],
    reset [B, T] bool  ->  h [B, T, ..., N], final state [B, ..., N]; complex when A, b or the initial state is.

    Paper    Blelloch 1990 (the tree); Martin and Cundy 2018, arXiv:1709.04057.
    Raises   ValueError for shapes that do not fit; TypeError unless all are floats or complex, reset bool.
    """
    expect_numbers("b", b, A=A, initial_state=initial_state)
    if b.ndim < 3:
        raise ValueError(f"b is {list(b.shape)}, expected [batch, time, ..., state]")
    expect_tensor("A", A)
    size = b.shape[-1]
    shared = [own if own == 1 else wanted for own, wanted in zip(A.shape, b.shape[:-1])]
    if A.ndim != b.ndim + 1 or list(A.shape) != [*shared, size, size]:
        raise ValueError(f"A is {list(A.shape)}, expected [batch, time, ..., state, state] = {[*b.shape, size]}, or 1 where it is shared")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (b.shape[0], *b.shape[2:]), "batch, ..., state")
    expect_reset(reset, b.shape[0], b.shape[1])
    return run("dense_scan", b.shape[1], A, b, initial_state, reset)


@form
def dense_scan_recurrent(A, b, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    A, b, h, dtype = enter(A, b, initial_state)
    matrices = A.expand(A.shape[0], b.shape[1], *A.shape[2:]).unbind(1)
    steps = []
    for t, drive in enumerate(b.unbind(1)):
        h = apply(matrices[t], cleared(h, reset, t)) + drive
        steps.append(h)
    return along_time(steps, b).to(dtype), h


def _products_cost(A: Tensor, *_: Tensor | None) -> str | None:
    """On a CPU a step is one matrix times a vector, and a merge N of them."""
    costly = A.device.type == "cpu" and A.shape[-1] > WORTH_A_PRODUCT and A.shape[1] > 1
    return f"products of matrices of {A.shape[-1]} cost more than they save" if costly else None


@twin("dense_scan")
@form(refuses=_products_cost)
def dense_scan_chunked(A, b, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """A tree of pairs: chunks of two steps, of four, of eight."""
    A, b, h, dtype = enter(A, b, initial_state)
    if b.shape[1] == 0:
        return b.to(dtype), h
    states = tree(Semiring(apply, torch.matmul, torch.add, 0.0), A, b, h, reset)
    return states.to(dtype), states[:, -1].clone()


@form(refuses=real, pays_from=1)
def dense_scan_fused(A, b, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """In single or double precision; A is stored once where it is shared over batch or time."""
    A, b, h, dtype = enter(A, b, initial_state)
    if b.shape[1] == 0:
        return b.to(dtype), h
    if A.shape[2:-1] != b.shape[2:]:
        A = A.expand(*A.shape[:2], *b.shape[2:], b.shape[-1])
    states, final = operators().dense_scan(A, b, h, reset)
    return states.to(dtype), final


def apply(A: Tensor, h: Tensor) -> Tensor:
    """A h with axes of size 1 shared, without repeating A in memory.   A [..., N, N], h [..., N] -> [..., N]"""
    return torch.einsum("...ij,...j->...i", A, h)


def enter(A: Tensor, b: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    """A, b and the first state in the working precision, and the dtype of the states that go out."""
    out, working = b.dtype, working_dtype(A, b, initial_state)
    if A.is_complex() or b.is_complex() or (initial_state is not None and initial_state.is_complex()):
        out = working = complex_of(working)
    A, b = A.to(working), b.to(working)
    h = b.new_zeros(b.shape[0], *b.shape[2:]) if initial_state is None else initial_state.to(working)
    return A, b, h, out


@dataclass(frozen=True)
class Dense(Transition):
    """A.   A [..., N, N], real or complex"""

    runs_as = "dense_scan"

    A: Tensor

    @property
    def size(self) -> int:
        return self.A.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return times(self.A, h.unsqueeze(-1)).squeeze(-1)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return times(self.A, S)

    def compose(self, later: Transition) -> Transition:
        expect_same_size(self, later)
        after = later.dense()
        dtype = torch.promote_types(after.dtype, self.A.dtype)
        return Dense(after.to(dtype) @ self.A.to(dtype))

    def spectrum(self) -> Tensor:
        return torch.linalg.eigvals(at_least_single(self.A))

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(at_least_single(self.A), ord=2)

    def dense(self) -> Tensor:
        return self.A


@scan.register
def _(A: Dense, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return dense_scan(A.A, drive, start(A, drive, initial_state), reset)
