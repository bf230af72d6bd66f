"""Nonlinear recurrences: a cell is a map from one state to the next.

    h_t = f(h_{t-1}, x_t)                                                                                         (1)

A `Cell` is a value, a frozen dataclass whose tensors are its parameters; x_t is what the layer around it feeds in at that step, projections
included. `cell_scan` runs (1) over a sequence. Its forms are the loop, which is the definition; one compiled kernel for the cells that have
one; and Newton's iteration, which turns (1) into a few linear recurrences (`newton`).

Cost     O(T) steps of f. Newton: a handful of f and its Jacobian at all steps at once, and as many linear scans.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_axes, expect_numbers, expect_real, expect_reset, expect_shape, working_dtype
from separatrix.recurrence.dense import Dense
from separatrix.recurrence.fused import double, operators
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.transition import Transition


class Operands(NamedTuple):
    """A cell whose units all hear each other, as the kernel knows it: the letters of `kernels/dense_cell.py`."""

    kind: str  # elman, gru, lstm, plrnn
    W: Tensor  # [P, L]
    V: Tensor | None = None  # [L, n]
    vectors: tuple[Tensor, ...] = ()  # [n] each
    slopes: Tensor | None = None  # [bases]
    shifts: Tensor | None = None  # [bases, L]
    linear: int = 0
    clipped: bool = False
    observed: int = 0


# All states and the last one, of (x, state, reset), in float32.
Kernel = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]


class Cell(ABC):
    """The promises of every cell: a frozen dataclass of tensors (and of cells). `...` are any leading axes, [batch] or [batch, time]."""

    def __init_subclass__(cls) -> None:
        """A subclass with a step of its own is another cell: what its parent says of kernels and Jacobians does not hold for it."""
        super().__init_subclass__()
        if "step" in vars(cls):
            for name in {"operands", "kernel", "linearize"} - vars(cls).keys():
                setattr(cls, name, getattr(Cell, name))

    @property
    @abstractmethod
    def size(self) -> int:
        """N, the numbers in the state."""

    @property
    @abstractmethod
    def width(self) -> int:
        """M, the numbers that come in at every step."""

    @abstractmethod
    def step(self, h: Tensor, x: Tensor) -> Tensor:
        """f(h, x).   h [..., N], x [..., M] -> [..., N]"""

    def operands(self) -> Operands | None:
        """What the kernel of dense cells needs to know of this one, or None: it is not of their kinds."""
        return None

    def kernel(self) -> Kernel | None:
        """The loop over this cell, compiled, or None."""
        given = self.operands()
        if given is None:
            return None
        kind, W, V, vectors, *rest = given

        def run_kernel(x: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
            return operators().dense_cell(kind, x, W, V, torch.stack(vectors) if vectors else None, *rest, state, reset)

        return run_kernel

    def linearize(self, h: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        """f(h, x) [..., N] and df/dh, a Transition with the same leading axes: what both need is computed once.

        Here a dense one, by automatic differentiation, for a cell that does not know its own.
        """
        flat_h, flat_x = h.reshape(-1, self.size), x.reshape(-1, self.width)

        def twice(state: Tensor, drive: Tensor) -> tuple[Tensor, Tensor]:
            value = self.step(state, drive)
            return value, value

        jacobian, value = torch.func.vmap(torch.func.jacrev(twice, has_aux=True))(flat_h, flat_x)
        return value.reshape(h.shape), Dense(jacobian.reshape(*h.shape, self.size))

    def tensors(self) -> list[Tensor]:
        """Its parameters, those of a cell inside it too, in the order of their fields."""
        parts = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]  # all are dataclasses
        return [x for part in parts for x in ([part] if isinstance(part, Tensor) else part.tensors() if isinstance(part, Cell) else [])]

    def with_tensors(self, tensors: Iterable[Tensor]) -> Any:
        """The same cell with other numbers, in the order of `tensors()`."""
        rest = iter(tensors)
        changed: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]
            part = getattr(self, field.name)
            if isinstance(part, Tensor):
                changed[field.name] = next(rest)
            elif isinstance(part, Cell):
                changed[field.name] = part.with_tensors([next(rest) for _ in part.tensors()])
        return replace(self, **changed)  # type: ignore[type-var]


def linearize(cell: Cell, h: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
    """f(h, x) and df/dh: the cell's own, or a dense one from automatic differentiation.

    Raises   ValueError for shapes that do not fit; TypeError unless cell is a Cell, h and x floats or complex.
    """
    expect_cell(cell)
    expect_numbers("h", h, x=x)
    expect_shape("h", h, (*h.shape[:-1], cell.size), "..., state")
    expect_shape("x", x, (*h.shape[:-1], cell.width), "..., width")
    return cell.linearize(h, x)


def cell_scan(cell: Cell, inputs: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = f(h_{t-1}, x_t).

    inputs [B, T, M], x_t; initial_state [B, N], reset [B, T] bool: the state is cleared before these steps
    ->  h [B, T, N], final state [B, N].

    Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450; Lim et al. 2023 (DEER), arXiv:2309.12252.
    Raises   ValueError for shapes that do not fit; TypeError unless cell is a Cell, x and state real floats, reset bool.
    """
    expect_cell_inputs(cell, inputs, initial_state, reset)
    return run("cell_scan", inputs.shape[1], cell, inputs, initial_state, reset)


def expect_cell(cell: object) -> None:
    if not isinstance(cell, Cell):
        raise TypeError(f"cell is {type(cell).__name__}, expected a Cell: a frozen dataclass with size, width and step(h, x)")


def expect_cell_inputs(cell: Cell, inputs: Tensor, initial_state: Tensor | None, reset: Tensor | None) -> None:
    expect_cell(cell)
    expect_numbers("inputs", inputs, initial_state=initial_state)
    expect_real(inputs=inputs, initial_state=initial_state)
    expect_axes("inputs", inputs, "batch, time, width")
    batch, time = inputs.shape[:2]
    expect_shape("inputs", inputs, (batch, time, cell.width), "batch, time, width")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, cell.size), "batch, state")
    expect_reset(reset, batch, time)


@form
def cell_scan_recurrent(cell, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    out = x.dtype
    cell, x, h = enter(cell, x, initial_state)
    steps = []
    for t, drive in enumerate(x.unbind(1)):
        h = cell.step(cleared(h, reset, t), drive)
        steps.append(h)
    return along_time(steps, x.new_zeros(x.shape[0], 0, cell.size)).to(out), h


# Past so many weights a step reads them from memory, and a matrix product over all rows of the batch reads them once.
MOST_WEIGHTS = 2**20


def _no_kernel(*inputs: Any) -> str | None:
    if not inputs:
        return None
    cell, dense = inputs[0], inputs[0].operands()
    if dense is None and cell.kernel() is None:
        return f"there is no kernel for {type(cell).__name__}"
    if dense is not None and dense.W.numel() + (0 if dense.V is None else dense.V.numel()) > MOST_WEIGHTS:
        return "the weights outgrow the cache"
    return double(*inputs, *cell.tensors())


@form(refuses=_no_kernel)
def cell_scan_fused(cell, x, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The loop as one kernel, for the cells that have one."""
    out, (cell, x, h) = x.dtype, enter(cell, x, initial_state)
    if x.shape[1] == 0:
        return x.new_zeros(*x.shape[:2], cell.size, dtype=out), h
    states, final = cell.kernel()(x, h, reset)
    return states.to(out), final


def enter(cell: Any, x: Tensor, initial_state: Tensor | None) -> tuple[Any, Tensor, Tensor]:
    """The cell, what comes in and the first state, in the working precision."""
    parameters = cell.tensors()
    dtype = working_dtype(x, initial_state, *parameters)
    h = x.new_zeros(x.shape[0], cell.size, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    if any(p.dtype != dtype for p in parameters):
        cell = cell.with_tensors([p.to(dtype) for p in parameters])
    return cell, x.to(dtype), h
