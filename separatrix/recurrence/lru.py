"""Recurrences that keep unit variance: the gains of LRU and RG-LRU.

    h_t = a h_{t-1} + sqrt(1 - |a|²) x_t            white x of variance 1 gives h of variance 1, however slow a is   (1)
    RG-LRU    a_t = exp(-8 softplus(Λ) r_t),   h_t = a_t h_{t-1} + sqrt(1 - a_t²) (i_t x_t)                          (2)

The gain is computed from log |a|, as sqrt(-expm1(2 log |a|)): for slow modes |a|² rounds to 1 and the difference would lose every digit.

Paper    Orvieto et al. 2023 (LRU), arXiv:2303.06349; De et al. 2024 (Griffin), arXiv:2402.19427.
Departs  where |a| is 1 the gain is 0 and its slope, which is infinite, counts as 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import (
    expect_at_most_zero,
    expect_axes,
    expect_fraction,
    expect_number,
    expect_numbers,
    expect_positive,
    expect_real,
    expect_reset,
    expect_shape,
    expect_tensor,
    working_dtype,
)
from separatrix.recurrence.diagonal import diagonal_scan
from separatrix.recurrence.plan import runs_as
from separatrix.recurrence.resets import filled


def lru_gain(log_modulus: Tensor) -> Tensor:
    """sqrt(1 - |a|²) from log |a| <= 0.

    Paper    Orvieto et al. 2023 (LRU), arXiv:2303.06349.
    Raises   ValueError for log_modulus > 0 (CPU); TypeError unless it holds real floats.
    """
    expect_number("log_modulus", log_modulus)
    expect_real(log_modulus=log_modulus)
    expect_at_most_zero("log_modulus", log_modulus)
    return gain_of(log_modulus)


def gain_of(log_modulus: Tensor) -> Tensor:
    """`lru_gain` of what cannot be above 0."""
    lost = -torch.expm1(2 * log_modulus)
    return torch.where(lost > 0, torch.where(lost > 0, lost, 1).sqrt(), 0)


@runs_as("diagonal_scan")
def rg_lru(
    x: Tensor, r: Tensor, i: Tensor, lam: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None, c: float = 8.0
) -> tuple[Tensor, Tensor]:
    """RG-LRU: a_t = exp(-c softplus(Λ) r_t),  h_t = a_t h_{t-1} + sqrt(1 - a_t²) (i_t x_t).

    x [B, T, D], the gates r (of the recurrence) and i (of the input) in [0, 1] [B, T, D], lam [D] or a shape that broadcasts to x's,
    initial_state [B, D], reset [B, T] bool  ->  h [B, T, D], final state [B, D].
    At the start of a sequence the gain is 1: at the first step without an initial state, and at every reset.

    Paper    De et al. 2024 (Griffin), arXiv:2402.19427.
    Raises   ValueError for shapes that do not fit, c <= 0, gates outside [0, 1] (CPU); TypeError unless all are real floats, reset bool.
    """
    expect_numbers("x", x, r=r, i=i, lam=lam, initial_state=initial_state)
    expect_real(x=x, r=r, i=i, lam=lam, initial_state=initial_state)
    expect_axes("x", x, "batch, time, channels")
    for name, gate in (("r", r), ("i", i)):
        expect_shape(name, gate, tuple(x.shape), "batch, time, channels")
    expect_tensor("lam", lam)
    if lam.ndim > 3 or any(own not in (1, size) for own, size in zip(lam.shape[::-1], x.shape[::-1])):
        raise ValueError(f"lam is {list(lam.shape)}, expected [channels] or another shape that broadcasts to x's {list(x.shape)}")
    expect_reset(reset, *x.shape[:2])
    expect_positive("c", c, "number: gates would make the state grow")
    for name, gate in (("r", r), ("i", i)):
        expect_fraction(name, gate)
    working, dtype = working_dtype(x, r, i, lam, initial_state), x.dtype
    x, r, i, lam = (y.to(working) for y in (x, r, i, lam))
    log_a = -c * F.softplus(lam) * r
    gain = gain_of(log_a)
    if initial_state is None and x.shape[1]:
        gain = torch.cat([torch.ones_like(gain[:, :1]), gain[:, 1:]], dim=1)
    h, final = diagonal_scan(log_a.exp(), filled(gain, reset, 1) * i * x, initial_state, reset)
    return h.to(dtype), final
