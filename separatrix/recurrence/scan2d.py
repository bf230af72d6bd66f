"""Two dimensions: a state that moves along time and along variates, each movement fed by both.

    h1[t, v] = a11 h1[t-1, v] + a12 h2[t-1, v] + x1[t, v]          along time                                     (1)
    h2[t, v] = a21 h1[t, v-1] + a22 h2[t, v-1] + x2[t, v]          along variates (or: columns of an image)       (2)

elementwise, every a of the cell that is entered, so they may depend on the input there. h1 and h2 are one tensor with an axis of two, the
a a matrix of two by two. With a12 = a21 = 0 these are two diagonal scans that do not meet.

Line by line: (1) needs only the line before, all of it at once, and then (2) is a diagonal scan along the line; or the same with the axes
exchanged. So T x V cells are min(T, V) steps with a tree of depth log2(max(T, V)) in each.

Paper    Roesser 1975, doi:10.1109/TAC.1975.1100844 (the two states); Behrouz et al. 2024, arXiv:2406.04320 (Chimera).
Departs  every a is a number for each number of the state. Chimera's A1, A2, A3, A4 are a11, a12, a21, a22 here; how it gets them from the
         input is in `selective2d.py`.
Cost     O(T V N), N numbers a cell.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, complex_of, expect_numbers, expect_reset, expect_shape, expect_tensor, working_dtype
from separatrix.recurrence.diagonal import diagonal_scan_chunked
from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import form, run, taken_apart
from separatrix.recurrence.resets import beside, cleared
from separatrix.recurrence.twins import twin

# Cells of a line that make a program of reasonable length; it takes some five instructions for each.
LINE = 64


def scan2d(
    a: Tensor, x: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None, edge: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A state along time and one along variates, each fed by both, elementwise.

        h1[t, v] = a11 h1[t-1, v] + a12 h2[t-1, v] + x1[t, v],      h2[t, v] = a21 h1[t, v-1] + a22 h2[t, v-1] + x2[t, v]

    x [B, T, V, 2, ...], a of a shape that broadcasts to [B, T, V, 2, 2, ...]: a[..., i, j, ...] is what h_j gives to h_i,
    initial_state [B, V, 2, ...] the line before the first, edge [B, T, 2, ...] the column left of the first, reset [B, T] bool
    ->  h [B, T, V, 2, ...], and its last line [B, V, 2, ...]: the initial_state of the times that follow. The edge of the variates that
    follow is h[:, :, -1].

    Paper    Roesser 1975, doi:10.1109/TAC.1975.1100844; Behrouz et al. 2024 (Chimera), arXiv:2406.04320.
    Raises   ValueError for shapes that do not fit; TypeError unless all are floats or complex, reset bool.
    """
    expect_numbers("x", x, a=a, initial_state=initial_state, edge=edge)
    if x.ndim < 4 or x.shape[3] != 2:
        raise ValueError(f"x is {list(x.shape)}, expected [batch, time, variate, 2, ...]")
    expect_tensor("a", a)
    B, T, V, _, *rest = x.shape
    whole = (B, T, V, 2, 2, *rest)
    if a.ndim > len(whole) or any(own not in (1, wanted) for own, wanted in zip(reversed(a.shape), reversed(whole))):
        raise ValueError(f"a is {list(a.shape)}, expected a shape that broadcasts to [batch, time, variate, 2, 2, ...] = {list(whole)}")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (B, V, 2, *rest), "batch, variate, 2, ...")
    if edge is not None:
        expect_shape("edge", edge, (B, T, 2, *rest), "batch, time, 2, ...")
    expect_reset(reset, B, T)
    return run("scan2d", cells(T, V), a, x, initial_state, reset, edge)


@form
def scan2d_recurrent(a, x, initial_state=None, reset=None, edge=None) -> tuple[Tensor, Tensor]:
    """Cell after cell."""
    a, x, before, edge, dtype = enter(a, x, initial_state, None, edge)
    _, T, V, *_ = x.shape
    a = a.expand(a.shape[0], T, V, *a.shape[3:])
    lines = []
    for t, (a_t, x_t, left) in enumerate(zip(a.unbind(1), x.unbind(1), edge.unbind(1))):
        before = cleared(before, reset, t)
        line = []
        for gain, drive, above in zip(a_t.unbind(1), x_t.unbind(1), before.unbind(1)):
            from_above, from_left = gain[:, 0] * above, gain[:, 1] * left
            left = torch.stack([from_above.sum(1), from_left.sum(1)], dim=1) + drive
            line.append(left)
        before = along_time(line, before)
        lines.append(before)
    return along_time(lines, x).to(dtype), before


@form(mixes=True)
def scan2d_chunked(a, x, initial_state=None, reset=None, edge=None) -> tuple[Tensor, Tensor]:
    """A chunk is a line along the longer axis: products with the line before, and a tree of pairs inside."""
    a, x, before, edge, dtype = enter(a, x, initial_state, reset, edge)
    if x.shape[2] >= x.shape[1]:
        h = _line_by_line(a, x, before, edge)
    else:  # exchange the axes, and with them the two states
        h = _line_by_line(a.transpose(1, 2).flip(3, 4), x.transpose(1, 2).flip(3), edge.flip(2), before.flip(2)).transpose(1, 2).flip(3)
    return h.to(dtype), (h[:, -1].clone() if x.shape[1] else before)


def _line_by_line(a: Tensor, x: Tensor, before: Tensor, edge: Tensor) -> Tensor:
    lines = []
    for t in range(x.shape[1]):
        at = a[:, min(t, a.shape[1] - 1)]
        h1 = at[:, :, 0, 0] * before[:, :, 0] + at[:, :, 0, 1] * before[:, :, 1] + x[:, t, :, 0]
        left = torch.cat([edge[:, t : t + 1, 0], h1], dim=1)[:, :-1]
        h2, _ = diagonal_scan_chunked(at[:, :, 1, 1], at[:, :, 1, 0] * left + x[:, t, :, 1], edge[:, t, 1])
        before = torch.stack([h1, h2], dim=2)
        lines.append(before)
    return along_time(lines, x)


def _real(*inputs: Any) -> str | None:
    return "the kernel is for real numbers" if any(isinstance(x, Tensor) and x.is_complex() for x in inputs) else None


@form(refuses=_real)
def scan2d_fused(a, x, initial_state=None, reset=None, edge=None) -> tuple[Tensor, Tensor]:
    """Line after line in one kernel; a is stored once where it is shared over batch, time or variates."""
    a, x, before, edge, dtype = enter(a, x, initial_state, None, edge)
    if x.numel() == 0:
        return x.to(dtype), before
    numbers = x[0, 0, 0, 0].numel()
    a = a.expand(*a.shape[:5], *x.shape[4:]).reshape(*a.shape[:5], numbers)
    h, final = operators().scan2d(a, x.flatten(3), before.flatten(2), edge.flatten(2), reset)
    return h.reshape(x.shape).to(dtype), final.reshape(before.shape)


@twin("scan2d")
def in_torch(a: Tensor, x: Tensor, state: Tensor, edge: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the kernel computes, the numbers of both states one after another.   x [B, T, V, 2 D], state [B, V, 2 D], edge [B, T, 2 D]"""
    pair = (2, x.shape[3] // 2)
    h, final = scan2d_chunked(a, x.unflatten(3, pair), state.unflatten(2, pair), reset, edge.unflatten(2, pair))
    return h.flatten(3), final.flatten(2)


def enter(
    a: Tensor, x: Tensor, initial_state: Tensor | None, reset: Tensor | None, edge: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, torch.dtype]:
    """a with axes [B or 1, T or 1, V or 1, 2, 2, ...], nothing coming from the line before at the resets; x; the line before; the column
    before; the dtype of the states that go out."""
    tensors = [y for y in (a, x, initial_state, edge) if y is not None]
    out, working = x.dtype, working_dtype(*tensors)
    if any(y.is_complex() for y in tensors):
        out = working = complex_of(working)
    B, T, V, _, *rest = x.shape
    a = a.to(working)
    a = a.reshape(*[1] * (x.ndim + 1 - a.ndim), *a.shape).expand(*[-1] * 3, 2, 2, *[-1] * len(rest))
    if reset is not None:
        into_time = torch.tensor([True, False], device=x.device).reshape(2, *[1] * (len(rest) + 1))
        a = a.masked_fill(beside(reset, a) & into_time, 0)
    x = x.to(working)
    before = x.new_zeros(B, V, 2, *rest) if initial_state is None else initial_state.to(working)
    edge = x.new_zeros(B, T, 2, *rest) if edge is None else edge.to(working)
    return a, x, before, edge, out


def cells(T: int, V: int) -> int:
    """Steps of a grid, one for each cell; but a single line is one step of the program that a Stepper makes of it."""
    return 1 if T == 1 and V <= LINE and taken_apart() else T * V
