"""Chimera's scan: a state along time and one along variates, whose every step depends on the input.

For channel d, state n and the steps δ1, δ2 of cell (t, v):

    h1[t, v] = exp(δ1 A11) h1[t-1, v] + δ1 φ(δ1 A11) (A12 h2[t-1, v] + B1 u)          φ(z) = (exp(z) - 1) / z     (1)
    h2[t, v] = exp(δ2 A22) h2[t, v-1] + δ2 φ(δ2 A22) (A21 h1[t, v-1] + B2 u)
    y[t, v]  = Σ_n C1 h1 + C2 h2 + D u

the exact step of dh1/dτ = A11 h1 + A12 h2 + B1 u over δ1 while h2 and u are held, and likewise for h2. It is a `scan2d`
with coefficients by the input.

Paper    Behrouz et al. 2024, arXiv:2406.04320.
Departs  all four A are diagonal (Chimera's A1, A2, A3, A4 are A11, A12, A21, A22 here; it also takes companion matrices for the first two).
Cost     O(T V D N). The chunked form writes the states down, [T, V, 2, D, N] numbers; the fused one only every 16th line.
"""

from __future__ import annotations

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
from separatrix.recurrence.fused import operators, real_single, will_differentiate
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.scan2d import cells, scan2d_chunked
from separatrix.recurrence.twins import twin


def selective_scan2d(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None,
    initial_state: Tensor | None = None, reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Chimera's scan: a state along time, one along variates, and a step for each of them that depends on the input.

        h1[t, v] = exp(δ1 A11) h1[t-1, v] + δ1 φ(δ1 A11) (A12 h2[t-1, v] + B1 u),          φ(z) = (exp(z) - 1) / z
        h2[t, v] = exp(δ2 A22) h2[t, v-1] + δ2 φ(δ2 A22) (A21 h1[t, v-1] + B2 u),          y = Σ_n C1 h1 + C2 h2 + D u

    u [B, T, V, D], delta [B, T, V, 2, D], A [2, 2, D, N], B and C [B, T, V, 2, N], D [D], initial_state [B, V, 2, D, N], reset [B, T] bool
    ->  y [B, T, V, D], final state [B, V, 2, D, N], the last line.   delta >= 0; A[0, 0] and A[1, 1] at most 0 keep the state bounded.

    Paper    Behrouz et al. 2024 (Chimera), arXiv:2406.04320.
    Raises   ValueError for shapes that do not fit and delta < 0 (CPU); TypeError unless all are real floats, reset bool.
    """
    expect_numbers("u", u, delta=delta, A=A, B=B, C=C, D=D, initial_state=initial_state)
    expect_real(u=u, delta=delta, A=A, B=B, C=C, D=D, initial_state=initial_state)
    expect_axes("u", u, "batch, time, variate, channel")
    expect_axes("A", A, "2, 2, channel, state")
    *grid, channels = u.shape
    state = A.shape[3]
    expect_shape("delta", delta, (*grid, 2, channels), "batch, time, variate, 2, channel")
    expect_shape("A", A, (2, 2, channels, state), "2, 2, channel, state")
    for name, projection in (("B", B), ("C", C)):
        expect_shape(name, projection, (*grid, 2, state), "batch, time, variate, 2, state")
    if D is not None:
        expect_shape("D", D, (channels,), "channel")
    batch, time, variates = grid
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, variates, 2, channels, state), "batch, variate, 2, channel, state")
    expect_reset(reset, batch, time)
    expect_at_least_zero("delta", delta)
    return run("selective_scan2d", cells(time, variates), u, delta, A, B, C, D, initial_state, reset)


@form
def selective_scan2d_recurrent(u, delta, A, B, C, D=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), cell after cell."""
    dtype, (u, delta, A, B, C, before) = u.dtype, enter(u, delta, A, B, C, initial_state)
    kept, held = hold(delta.unsqueeze(-1), A[(0, 1), (0, 1)])  # [B, T, V, 2, D, N]
    write, rest, lines = B.unsqueeze(4) * u[:, :, :, None, :, None], before.new_zeros(before.shape[0], *before.shape[2:]), []
    for t, of_line in enumerate(zip(kept.unbind(1), held.unbind(1), write.unbind(1))):
        before = cleared(before, reset, t)
        left, line = rest, []
        for k, e, x, above in zip(*(y.unbind(1) for y in (*of_line, before))):
            h1 = k[:, 0] * above[:, 0] + e[:, 0] * (A[0, 1] * above[:, 1] + x[:, 0])
            h2 = k[:, 1] * left[:, 1] + e[:, 1] * (A[1, 0] * left[:, 0] + x[:, 1])
            left = torch.stack([h1, h2], dim=1)
            line.append(left)
        before = along_time(line, before)
        lines.append(before)
    h = along_time(lines, kept)
    return leave((h * C.unsqueeze(4)).sum((3, 5)), u, D, dtype), before


@form
def selective_scan2d_chunked(u, delta, A, B, C, D=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """All coefficients at once, and `scan2d` line by line."""
    dtype, (u, delta, A, B, C, before) = u.dtype, enter(u, delta, A, B, C, initial_state)
    kept, held = hold(delta.unsqueeze(-1), A[(0, 1), (0, 1)])  # [B, T, V, 2, D, N]
    given = held * A[(0, 1), (1, 0)]
    a = torch.stack([torch.stack([kept[:, :, :, 0], given[:, :, :, 0]], 3), torch.stack([given[:, :, :, 1], kept[:, :, :, 1]], 3)], 3)
    h, final = scan2d_chunked(a, held * B.unsqueeze(4) * u[:, :, :, None, :, None], before, reset)
    return leave((h * C.unsqueeze(4)).sum((3, 5)), u, D, dtype), final


@form(refuses=real_single)
def selective_scan2d_fused(u, delta, A, B, C, D=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The coefficients live for one cell."""
    dtype, (u, delta, A, B, C, before) = u.dtype, enter(u, delta, A, B, C, initial_state)
    if u.numel() * A.shape[3] == 0:
        return leave(torch.zeros_like(u), u, D, dtype), before
    start = before.transpose(3, 4)  # channels last, as the kernel walks them
    y, final, _ = operators().selective_scan2d(
        u, delta, A.transpose(2, 3), B, C, start, reset, will_differentiate(u, delta, A, B, C, before)
    )
    return leave(y, u, D, dtype), final.transpose(3, 4)


@twin("selective_scan2d")
def in_torch(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What the kernel computes, channels last.   A [2, 2, N, D], state [B, V, 2, N, D]"""
    y, final = selective_scan2d_chunked(u, delta, A.transpose(2, 3), B, C, None, state.transpose(3, 4), reset)
    return y, final.transpose(3, 4)


def enter(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Everything in the working precision, and the line before the first."""
    dtype = working_dtype(u, delta, A, B, C, initial_state)
    u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
    if initial_state is None:
        return u, delta, A, B, C, u.new_zeros(u.shape[0], u.shape[2], 2, *A.shape[2:])
    return u, delta, A, B, C, initial_state.to(dtype)


def hold(delta: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """What a step of delta keeps of the state, exp(δ A), and what it takes of an input that is held, δ φ(δ A)."""
    z = delta * A
    small = z.detach().abs() < torch.finfo(z.dtype).eps ** 0.5  # there the derivative of the quotient is a difference of large numbers
    safe = torch.where(small, torch.ones_like(z), z)
    kept = z.exp()  # exp(z) - 1 = tanh(z / 2) (exp(z) + 1), where nothing cancels
    return kept, delta * torch.where(small, 1 + z * (0.5 + z * (1 / 6)), torch.tanh(0.5 * safe) * (kept + 1) / safe)


def leave(y: Tensor, u: Tensor, D: Tensor | None, dtype: torch.dtype) -> Tensor:
    return (y if D is None else y + D.to(y.dtype) * u).to(dtype)
