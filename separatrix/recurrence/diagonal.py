"""Diagonal transitions: every number of the state lives alone.

    h_t = a_t h_{t-1} + x_t          elementwise, a real or complex, its modulus the memory, its angle the rotation   (1)

Two steps compose to one of the same kind, (a, x) then (b, y) is (b a, b x + y), so all T steps are a tree of pairs: products and sums
only, exact for a = 0 and for any sign or angle.

Paper    Martin and Cundy 2018, arXiv:1709.04057 (linear recurrences in parallel); Blelloch 1990, "Prefix sums and their applications".
Cost     O(T N) work; log2(T) steps deep as a tree, T steps one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, complex_of, expect_numbers, expect_reset, expect_shape, expect_tensor, working_dtype
from separatrix.recurrence.diagonal_plus_low_rank import product
from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared, filled, parted
from separatrix.recurrence.transition import Transition, scan, start, to_complex
from separatrix.recurrence.tree import NUMBERS, tree
from separatrix.recurrence.twins import twin


def diagonal_scan(a: Tensor, x: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = a_t h_{t-1} + x_t.

    x [B, T, ...], a real or complex of a shape that broadcasts to x's, initial_state [B, ...], reset [B, T] bool
    ->  h [B, T, ...], final state [B, ...]; complex when a, x or the initial state is.

    Paper    Martin and Cundy 2018, arXiv:1709.04057; Blelloch 1990.
    Raises   ValueError for shapes that do not fit; TypeError unless all are floats or complex, reset bool.
    """
    expect_numbers("x", x, a=a, initial_state=initial_state)
    if x.ndim < 2:
        raise ValueError(f"x is {list(x.shape)}, expected [batch, time, ...]")
    expect_tensor("a", a)
    if a.ndim > x.ndim or any(own not in (1, size) for own, size in zip(a.shape[::-1], x.shape[::-1])):
        raise ValueError(f"a is {list(a.shape)}, expected a shape that broadcasts to x's {list(x.shape)}")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (x.shape[0], *x.shape[2:]), "batch, ...")
    expect_reset(reset, x.shape[0], x.shape[1])
    return run("diagonal_scan", x.shape[1], a, x, initial_state, reset)


@form
def diagonal_scan_recurrent(a, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    a, x, h, dtype = enter(a, x, initial_state)
    multipliers, inputs = a.expand(*a.shape[:1], x.shape[1], *a.shape[2:]).unbind(1), x.unbind(1)
    steps = []
    for t in range(len(inputs)):
        h = cleared(h, reset, t)
        h = multipliers[t] * h + inputs[t]
        steps.append(h)
    return along_time(steps, x).to(dtype), h


@twin("diagonal_scan")
@form
def diagonal_scan_chunked(a, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """A tree of pairs: chunks of two steps, of four, of eight."""
    a, x, h, dtype = enter(a, x, initial_state)
    if x.shape[1] == 0:
        return x.to(dtype), h
    states = tree(NUMBERS, a, x, h, reset)
    return states.to(dtype), states[:, -1].clone()


@form(mixes=True)
def diagonal_scan_dense(a, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The lower triangular matrix of all products of multipliers, applied to the inputs."""
    a, x, h, dtype = enter(a, x, initial_state)
    if x.shape[1] == 0:
        return x.to(dtype), h
    matrix = diagonal_matrix(a.expand(a.shape[0], x.shape[1], *a.shape[2:]))
    terms = matrix * torch.cat([h.unsqueeze(1), x], dim=1).unsqueeze(1)
    states = filled(terms, None if reset is None else parted(reset), 0).sum(2)
    return states.to(dtype), states[:, -1].clone()


@form
def diagonal_scan_fused(a, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """In single or double precision, real or complex; a is stored once where it is shared over batch or time."""
    a, x, state, dtype = enter(a, x, initial_state)
    if a.is_complex() or x.is_complex() or state.is_complex():
        working = torch.promote_types(torch.promote_types(a.dtype, x.dtype), state.dtype)
        a, x, state = a.to(working), x.to(working), state.to(working)
    if x.shape[1] == 0:
        return x.to(dtype), state
    if a.shape[2:] != x.shape[2:]:
        a = a.expand(*a.shape[:2], *x.shape[2:])
    h, final = operators().diagonal_scan(a, x, state, reset)
    return h.to(dtype), final


def diagonal_matrix(a: Tensor) -> Tensor:
    """What is left at step t of the initial state (column 0) and of input s (column s + 1).   a [B, T, ...] -> [B, T, T + 1, ...]"""
    time = a.shape[1]
    one = torch.ones_like(a[:, :1])
    row, rows = one, []
    for t in range(time):
        row = torch.cat([a[:, t : t + 1] * row, one], dim=1)
        rows.append(torch.cat([row, row.new_zeros(row.shape[0], time - 1 - t, *row.shape[2:])], dim=1))
    return torch.stack(rows, dim=1)


def enter(a: Tensor, x: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor, torch.dtype]:
    """a with axes [B or 1, T or 1, ...], x, the first state, and the dtype of the states that go out."""
    out, real = x.dtype, working_dtype(a, x, initial_state)
    working = real
    if a.is_complex() or x.is_complex() or (initial_state is not None and initial_state.is_complex()):
        out = working = complex_of(real)
    a = a.to(working if a.is_complex() else real)  # a real multiplier of a complex state stays real
    if a.ndim < x.ndim:
        a = a.reshape(*[1] * (x.ndim - a.ndim), *a.shape)
    x = x.to(working)
    h = x.new_zeros(x.shape[0], *x.shape[2:]) if initial_state is None else initial_state.to(working)
    return a, x, h, out


@dataclass(frozen=True)
class Scalar(Transition):
    """a I, one number for the whole state.   a [...], width N

    Paper    Dao and Gu 2024, arXiv:2405.21060.
    """

    runs_as = "diagonal_scan"

    a: Tensor
    width: int

    @property
    def size(self) -> int:
        return self.width

    def apply(self, h: Tensor) -> Tensor:
        return self.a.unsqueeze(-1) * h

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return self.a[..., None, None] * S

    def compose(self, later: Transition) -> Transition:
        if isinstance(later, Scalar) and later.size == self.size:
            return Scalar(later.a * self.a, self.width)
        return self.as_diagonal().compose(later)

    def spectrum(self) -> Tensor:
        return self.as_diagonal().spectrum()

    def norm(self) -> Tensor:
        return self.a.abs()

    def dense(self) -> Tensor:
        return self.as_diagonal().dense()

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.as_diagonal().low_rank()

    def as_diagonal(self) -> Diagonal:
        return Diagonal(self.a.unsqueeze(-1).expand(*self.a.shape, self.width))


@dataclass(frozen=True)
class Diagonal(Transition):
    """diag(a).   a [..., N], real or complex

    Paper    Martin and Cundy 2018, arXiv:1709.04057.
    """

    runs_as = "diagonal_scan"

    a: Tensor

    @property
    def size(self) -> int:
        return self.a.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return self.a * h

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return self.a.unsqueeze(-1) * S

    def compose(self, later: Transition) -> Transition:
        if isinstance(later, Scalar):
            later = later.as_diagonal()
        if isinstance(later, Diagonal) and later.size == self.size:
            return Diagonal(later.a * self.a)
        return product(self, later)

    def spectrum(self) -> Tensor:
        return to_complex(self.a)

    def norm(self) -> Tensor:
        return self.a.abs().amax(-1)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.a)

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        nothing = self.a.new_zeros(*self.a.shape, 0)
        return self.a, nothing, nothing


@scan.register
def _(A: Scalar, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return diagonal_scan(A.a.unsqueeze(-1), drive, start(A, drive, initial_state), reset)


@scan.register
def _(A: Diagonal, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return diagonal_scan(A.a, drive, start(A, drive, initial_state), reset)
