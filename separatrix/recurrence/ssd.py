"""State space duality: Mamba-2, linear attention in the letters of state spaces.

    Δ_t = softplus(dt_t + dt_bias)          a_t = exp(Δ_t A)           one number per head, A < 0                 (1)
    h_t = a_t h_{t-1} + (Δ_t x_t) B_tᵀ       y_t = h_t C_t + D x_t      y_t <- y_t silu(z_t)                       (2)

With v = Δ x, k = B, q = C and log decay Δ A this is `linear_attention` with scale 1 and the state transposed: here it is [B, H, P, N],
channel first, as in the paper. Head h reads B and C of group h // (H / G).

Paper    Dao and Gu 2024, arXiv:2405.21060.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import (
    expect_at_least_zero,
    expect_at_most_zero,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    expect_tensor,
    readable,
    working_dtype,
)
from separatrix.recurrence.fused import keys_in_cache, matrix_state
from separatrix.recurrence.linear_attention import (
    linear_attention_chunked,
    linear_attention_dense,
    linear_attention_recurrent,
)
from separatrix.recurrence.plan import form, run


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = exp(Δ_t A) h_{t-1} + (Δ_t x_t) B_tᵀ,  y_t = (h_t C_t + D x_t) silu(z_t).

    x, z [B, T, H, P], dt [B, T, H], A, D, dt_bias [H] with A <= 0, B, C [B, T, G, N] with H a multiple of G,
    initial_state [B, H, P, N], reset [B, T] bool  ->  y [B, T, H, P], final state [B, H, P, N].

    Paper    Dao and Gu 2024 (Mamba-2), arXiv:2405.21060.
    Raises   ValueError for shapes that do not fit, A > 0 or a step below 0 on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("x", x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=initial_state)
    expect_real(x=x, dt=dt, A=A, B=B, C=C, D=D, z=z, dt_bias=dt_bias, initial_state=initial_state)
    expect_axes("x", x, "batch, time, heads, channels")
    expect_axes("B", B, "batch, time, groups, state")
    batch, time, heads, channels = x.shape
    groups, state = B.shape[2:]
    if groups == 0 or heads % groups:
        raise ValueError(f"x has {heads} heads and B has {groups} groups: the heads must be a multiple of the groups")
    expect_shape("B", B, (batch, time, groups, state), "batch, time, groups, state")
    expect_shape("C", C, (batch, time, groups, state), "batch, time, groups, state")
    expect_shape("dt", dt, (batch, time, heads), "batch, time, heads")
    expect_tensor("A", A)
    for name, vector in (("A", A), ("D", D), ("dt_bias", dt_bias)):
        if vector is not None:
            expect_shape(name, vector, (heads,), "heads")
    if z is not None:
        expect_shape("z", z, x.shape, "batch, time, heads, channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, heads, channels, state), "batch, heads, channels, state")
    expect_reset(reset, batch, time)
    expect_at_most_zero("A", A)
    if not dt_softplus and readable(dt):
        expect_at_least_zero(*(("dt", dt) if dt_bias is None else ("dt + dt_bias", dt + dt_bias)))
    return run("ssd", time, x, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state, reset)


def dual_form(attention: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The form of `ssd` that is this form of `linear_attention`, named after it: (1), then (2) in the other letters."""

    def through(x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
        v, step, decay, start = enter(x, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state)
        y, final = attention(C, B, v * step.unsqueeze(-1), decay, 1.0, start, reset)
        if D is not None:
            y = y + D.to(y.dtype).unsqueeze(-1) * v
        return leave(y, z, x), final.transpose(-1, -2)

    through.__name__ = through.__qualname__ = attention.__name__.replace("linear_attention", "ssd")
    return form(through, mixes=not attention.__name__.endswith("recurrent"))


ssd_recurrent, ssd_chunked, ssd_dense = map(dual_form, (linear_attention_recurrent, linear_attention_chunked, linear_attention_dense))


def states_in_cache(x: Any = None, dt: Any = None, A: Any = None, B: Tensor | None = None, *others: Any) -> str | None:
    """The keys of the duality are the states."""
    return keys_in_cache(B, x, dt, A, *others)


@form(refuses=states_in_cache, pays_from=1)
def ssd_fused(x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    v, step, decay, start = enter(x, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state)
    y, final = matrix_state(C, B.unsqueeze(2), v.unsqueeze(2), step.unsqueeze(2), decay, 1.0, start, reset, skip=D)
    return leave(y, z, x), final.transpose(-1, -2)


def enter(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    dt_bias: Tensor | None,
    dt_softplus: bool,
    initial_state: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """x, Δ and Δ A in the working precision, and the state as linear attention keeps it."""
    working = working_dtype(x, dt, A, B, C, D, z, dt_bias, initial_state)
    step = dt.to(working)
    if dt_bias is not None:
        step = step + dt_bias.to(working)
    if dt_softplus:
        step = F.softplus(step)
    return x.to(working), step, step * A.to(working), None if initial_state is None else initial_state.transpose(-1, -2)


def leave(y: Tensor, z: Tensor | None, x: Tensor) -> Tensor:
    """What the gate lets through, as x came."""
    return (y if z is None else y * F.silu(z.to(y.dtype))).to(x.dtype)
