"""What a state undergoes in one step: a linear map, and the structure that makes it cheap.

    h_t = A_t h_{t-1} + x_t                                                                                       (1)

A `Transition` holds A for many steps at once: its tensors carry leading axes, [batch, time, ...] when it comes from a layer, and an
axis of size 1 is shared by all steps. The type is the structure, and the type picks the algorithm: `scan(A, x, h)` dispatches on it, and
what it does always equals `unroll`, equation (1) with A as a dense matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, replace
from functools import reduce, singledispatch
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_number, expect_reset, expect_shape
from separatrix.recurrence.resets import cleared


class Transition(ABC):
    """The promises of every structure. `...` are the leading axes, N is the size of the state, all maps are complex where A is."""

    runs_as: ClassVar[str | None] = None  # the operation that `scan` turns this structure into, if there is one
    linear_in: ClassVar[str] = "the field of real or complex numbers"  # where its sums and products are taken

    @property
    @abstractmethod
    def size(self) -> int:
        """N, the numbers in the state."""

    @abstractmethod
    def apply(self, h: Tensor) -> Tensor:
        """A h.   h [..., N] -> [..., N]"""

    @abstractmethod
    def apply_to_columns(self, S: Tensor) -> Tensor:
        """A S, every column a state.   S [..., N, V] -> [..., N, V]"""

    @abstractmethod
    def compose(self, later: Transition) -> Transition:
        """First this step, then `later`: its dense() is later.dense() @ self.dense()."""

    @abstractmethod
    def spectrum(self) -> Tensor:
        """The eigenvalues, complex [..., N], in no particular order."""

    @abstractmethod
    def norm(self) -> Tensor:
        """The spectral norm, the largest factor by which one step can stretch a state.   [...]"""

    @abstractmethod
    def dense(self) -> Tensor:
        """What it means, as a matrix [..., N, N]; the rest is how it is done."""

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """d [..., N], L, R [..., N, r] with A = diag(d) + L Rᵀ, or None for a structure that has no such form."""
        return None

    def arguments(self) -> tuple[Tensor, ...]:
        """What the operation `runs_as` takes before the drive."""
        return tuple(self.tensors().values())

    def tensors(self) -> dict[str, Tensor]:
        """The numbers it is made of, by the name of their field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]  # all are dataclasses
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def at(self, t: int) -> Self:
        """Step t of a transition with axes [batch, time, ...]; the time axis goes."""
        chosen: dict[str, Any] = {name: x[:, t if x.shape[1] > 1 else 0] for name, x in self.tensors().items()}
        return replace(self, **chosen)  # type: ignore[type-var]


def unroll(A: Tensor, x: Tensor, h: Tensor) -> Tensor:
    """The definition, read aloud.   A [B, T, ..., N, N], x [B, T, ..., N], h [B, ..., N] -> [B, T, ..., N]"""
    steps = []
    for t in range(x.shape[1]):
        h = (A[:, t if A.shape[1] > 1 else 0] @ h.unsqueeze(-1)).squeeze(-1) + x[:, t]
        steps.append(h)
    return along_time(steps, x)


@singledispatch
def scan(A: Transition, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """All states of h_t = A_t h_{t-1} + drive_t, and the last one.   drive [B, T, ..., N] -> [B, T, ..., N], [B, ..., N]

    Here, for a structure that has nothing better: one `apply` after another. The state is cleared before the steps where reset [B, T] is
    true.

    Raises   ValueError for shapes that do not fit; TypeError unless A is a Transition, drive floats or complex, reset bool.
    """
    h = start(A, drive, initial_state)
    expect_reset(reset, *drive.shape[:2])
    dtype = reduce(torch.promote_types, [x.dtype for x in (drive, h, *A.tensors().values())])
    drive, h = drive.to(dtype), h.to(dtype)
    steps = []
    for t in range(drive.shape[1]):
        h = A.at(t).apply(cleared(h, reset, t)) + drive[:, t]
        steps.append(h)
    return along_time(steps, drive), h


def start(A: Transition, drive: Tensor, initial_state: Tensor | None) -> Tensor:
    """The state before the first step, [B, ..., N], and a complaint when it does not fit."""
    if not isinstance(A, Transition):
        raise TypeError(f"A is a {type(A).__name__}, expected a Transition, such as Diagonal or Dense")
    expect_number("drive", drive)
    if drive.ndim < 3 or drive.shape[-1] != A.size:
        raise ValueError(f"drive is {list(drive.shape)}, expected [batch, time, ..., state] with a state of {A.size}")
    shape = (drive.shape[0], *drive.shape[2:])
    if initial_state is None:
        return drive.new_zeros(shape)
    expect_shape("initial_state", initial_state, shape, "batch, ..., state")
    return initial_state


def expect_same_size(first: Transition, later: Transition) -> None:
    """`later` moves the states that `first` leaves, with the same sums and products."""
    if first.linear_in != later.linear_in:
        raise TypeError(
            f"later is {type(later).__name__}, expected a map that is linear in {first.linear_in}: there is no product of the two"
        )
    if first.size != later.size:
        raise ValueError(f"later moves a state of {later.size}, expected the state of {first.size} that this step leaves")


def times(A: Tensor, S: Tensor) -> Tensor:
    """A S in the wider dtype of the two: a complex map moves real states, and a real one complex ones."""
    dtype = torch.promote_types(A.dtype, S.dtype)
    return A.to(dtype) @ S.to(dtype)


def to_complex(x: Tensor) -> Tensor:
    x = at_least_single(x)
    return x if x.is_complex() else torch.complex(x, torch.zeros_like(x))


def at_least_single(x: Tensor) -> Tensor:
    """Matrices of shorter numbers have no eigenvalues and no norm in torch."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
