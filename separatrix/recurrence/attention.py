"""Rotary positions without a clock, and one step of causal softmax attention.

    c_s = q_t . R(s - t) k_s / sqrt(K),   y_t = sum_s softmax_s(c) v_s,   s = 0 .. t, those alive                  (1)

R(τ) rotates neighbouring dimensions by angles proportional to τ. What is kept are keys as they came, not rotated: only differences of
time enter (1), so positions are counted from the current call and angles stay exact however long the run.

A step of generation reads all keys and values once, as one kernel; whoever has to see inside gets torch's operations.

Paper    Vaswani et al. 2017, arXiv:1706.03762; Su et al. 2021, arXiv:2104.09864 (rotation).
Cost     of a step O(S H K). Generation copies no keys: a state shares its memory with those that follow it (`operators/attention.py`), so
         one whose parts are to be written into is cloned first.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import recorded, single, transformed

AttentionStep = tuple[Tensor, Tensor, Tensor, Tensor]


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Each pair of neighbours in x, as a complex number, times its turn.    x [B, T, H, K], turns [T, 1, K/2] complex"""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))  # there is no complex bfloat16
    return torch.view_as_real(torch.view_as_complex(wide.unflatten(-1, (-1, 2))) * turns).flatten(-2).to(x.dtype)


def turns(rates: Tensor, start: int, stop: int, like: Tensor) -> Tensor:
    """R of the steps start .. stop - 1, relative to step 0, for tensors like this one.    [stop - start, 1, K/2] complex"""
    exact = torch.float32 if like.device.type == "mps" else torch.float64  # float32 has lost 1e-4 radians after 4,000 steps
    angles = torch.arange(start, stop, device=like.device, dtype=exact)[:, None, None] * rates.to(like.device, exact)
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.complex(angles.cos().to(dtype), angles.sin().to(dtype))


def attention_step(qkv: Tensor, keys: Tensor, values: Tensor, alive: Tensor, rates: Tensor | None, forget: int = 0) -> AttentionStep:
    """(1) for a step after S others: y [B, H, K], and keys, values and what is alive after it, without the `forget` oldest.

    qkv [B, 3, H, K] of the step, keys, values [B, S, H, K], alive [B, S] 1 or 0, rates [K/2] radians a step or None for no positions
    """
    inputs = (qkv, keys, values, alive)
    form = operators().attention_step if single(inputs) and not recorded(inputs) else attention_step_plain
    return form(*inputs, None if rates is None else turns_until_now(rates, keys.shape[1], keys), forget)


def turns_until_now(rates: Tensor, before: int, like: Tensor) -> Tensor:
    """R of the steps -before .. 0: in generation the last rows of a table that serves many steps."""
    if recorded(()) or transformed() or not like.is_cpu:  # such a table would be of use to nobody else
        return turns(rates, -before, 1, like)
    return turns_table(tuple(rates.tolist()), max(256, 1 << before.bit_length()), like.dtype)[-before - 1 :]


@functools.lru_cache(maxsize=16)
def turns_table(rates: tuple[float, ...], steps: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # it may be used where gradients are wanted
        return turns(torch.tensor(rates, dtype=torch.float64, device="cpu"), 1 - steps, 1, torch.empty(0, dtype=dtype, device="cpu"))


def attention_step_plain(qkv: Tensor, keys: Tensor, values: Tensor, alive: Tensor, turns: Tensor | None, forget: int) -> AttentionStep:
    """(1), R given as turns [S + 1, 1, K/2], the last one now."""
    q, k, v = qkv.unbind(1)
    keys, values = torch.cat([keys, k[:, None]], 1), torch.cat([values, v[:, None]], 1)
    alive = torch.cat([alive, alive.new_ones(len(alive), 1)], 1)
    turned = keys if turns is None else rotate(keys, turns)
    y = F.scaled_dot_product_attention(q[:, :, None], turned.transpose(1, 2), values.transpose(1, 2), (alive > 0.5)[:, None, None])
    return y[:, :, 0], keys[:, forget:], values[:, forget:], alive[:, forget:]
