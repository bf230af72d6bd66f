"""Normalised decay: the state is an average, not a sum, and it forgets just as much as it learns.

    z_t = log(exp z_{t-1} + exp k_t)                              per key dimension, k are logits                 (1)
    S_t = diag(exp(z_{t-1} - z_t)) S_{t-1} + exp(k_t - z_t) v_tᵀ          o_t = scale S_tᵀ q_t                    (2)

Row i of S_t is the mean of all v_s so far under softmax_s(k_s[i]): nothing grows, whatever the length, and nothing decays unless
something louder arrives. The state is the pair (S, z); z = -inf is the state before the first step, and a logit of -inf writes nothing.

(2) is linear attention. (1) is a diagonal scan of exp(k_s - m_s), m the largest logit so far, which drops out of z: any number near it
will do, so it is found without gradients.

Paper    Qin et al. 2024 (LightNet), arXiv:2405.21022.
Cost     that of linear attention and of one diagonal scan of size H K.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.checks import NotANumber, expect_numbers, expect_parts, expect_real, expect_shape, readable, working_dtype
from separatrix.recurrence.diagonal import diagonal_scan
from separatrix.recurrence.heads import expect_heads
from separatrix.recurrence.linear_attention import linear_attention
from separatrix.recurrence.plan import runs_as
from separatrix.recurrence.resets import beside, cleared, filled


class Average(NamedTuple):
    """The state: weighted means of values, and the logarithm of what they were divided by.

    Paper    Qin et al. 2024 (LightNet), arXiv:2405.21022.
    """

    S: Tensor  # [B, H, K, V]
    z: Tensor  # [B, H, K]


torch.serialization.add_safe_globals([Average])  # as State: what torch.save wrote can be loaded


@runs_as("linear_attention")
def normalised_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float | None = None,
    initial_state: Average | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Average]:
    """S_t = Σ_s softmax_s(k) v_sᵀ over the steps s <= t, channel by channel;  o_t = scale S_tᵀ q_t.

    q, k [B, T, H, K], v [B, T, H, V], scale K^(-1/2) unless given, initial_state (S [B, H, K, V], z [B, H, K]), reset [B, T] bool
    ->  o [B, T, H, V], the final state.

    Paper    Qin et al. 2024 (LightNet), arXiv:2405.21022.
    Raises   ValueError for shapes that do not fit, k or z +inf or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    if initial_state is not None:
        expect_parts("initial_state", initial_state, "S, z")
    S, z = (None, None) if initial_state is None else initial_state
    expect_heads(q, k, v, None, None, S, reset, scale)
    batch, _, heads, key = q.shape
    expect_shape("v", v, (*q.shape[:3], v.shape[3]), "batch, time, heads, value")
    if z is not None:
        expect_numbers("q", q, z=z)
        expect_real(z=z)
        expect_shape("z", z, (batch, heads, key), "batch, heads, key")
    if k.shape[1] and S is not None and z is not None:
        S, z = cleared(S, reset, 0), cleared(z, reset, 0, rest=-torch.inf)
    for name, x in (("k", k), ("z", z)):
        if x is not None and readable(x) and not (largest := x.detach().amax().item()) < torch.inf:
            raise (NotANumber if math.isnan(largest) else ValueError)(f"{name} must be < inf, got max {largest}")
    dtype = working_dtype(q, k, v, S, z)
    k, v_ = k.to(dtype), v.to(dtype)
    z = k.new_full((batch, heads, key), -torch.inf) if z is None else z.to(dtype)
    if k.numel() == 0:
        S = v_.new_zeros(batch, heads, key, v.shape[3]) if S is None else S.to(dtype)
        return v, Average(S, z)
    sums = log_sums(k, z, reset)
    written = sums.masked_fill(sums.isneginf(), 0)
    # at a reset it would be a difference to another sequence
    log_decay = filled(torch.cat([z.unsqueeze(1), sums[:, :-1]], dim=1) - written, reset, 0)
    o, S = linear_attention(q, (k - written).exp(), v_, log_decay.clamp(max=0), scale, S, reset)
    return o.to(v.dtype), Average(S, sums[:, -1].clone())


def log_sums(k: Tensor, z: Tensor, reset: Tensor | None = None) -> Tensor:
    """Equation (1).   k [B, T, ...], z [B, ...] before the first step, reset [B, T] -> [B, T, ...]"""
    top = running_maximum(k.detach(), z.detach(), reset)
    gap = filled(torch.cat([z.unsqueeze(1), top[:, :-1]], dim=1) - top, reset, 0)
    sums, _ = diagonal_scan(gap.exp(), (k - top).exp(), torch.ones_like(z), reset)
    # a logarithm of 0 would have a derivative
    return torch.where(sums > 0, top + sums.clamp(min=torch.finfo(sums.dtype).tiny).log(), -torch.inf)


def running_maximum(k: Tensor, z: Tensor, reset: Tensor | None) -> Tensor:
    """The largest of z and all k so far, or since the last reset; there only about, which is enough. Never -inf."""
    lowest = k.masked_fill(k.isneginf(), torch.inf).amin().nan_to_num(posinf=0)
    k, first = torch.maximum(k, lowest), torch.maximum(z, lowest).unsqueeze(1)
    if reset is None:
        return torch.cat([first, k], dim=1).cummax(1).values[:, 1:]
    # every stretch is lifted above the one before it
    height = torch.maximum(k.amax(), first.amax()).double() - lowest + 1
    lift = beside(reset.cumsum(1) * height, k)
    lifted = torch.cat([first.double(), k + lift], dim=1)
    return (lifted.cummax(1).values[:, 1:] - lift).to(k.dtype)
