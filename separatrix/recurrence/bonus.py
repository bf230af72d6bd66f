"""RWKV-6's bonus: the state is read before a step writes, and the step's own pair is read with a weight of its own.

    o_t = scale (S_{t-1} + diag(u) k_t v_tᵀ)ᵀ q_t                          u [heads, key]                          (1)
    S_t = diag(exp g_t) S_{t-1} + k_t v_tᵀ

S_{t-1} meets q_t before it fades. Linear attention reads S_t; asked with the queries of the next step it reads what (1) wants, one step
early, so a form of it becomes a form of (1) by moving its outputs one step later. The first query meets the initial state, and a query at a
reset meets nothing but its own pair. The kernel does without: its queries can read early.

Paper    Peng et al. 2024 (RWKV-5 and 6), arXiv:2404.05892.
Cost     that of linear attention and O(B T H (K + V)).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from separatrix.recurrence.heads import enter
from separatrix.recurrence.resets import filled

Attention = Callable[..., tuple[Tensor, Tensor]]


def with_bonus(attention: Attention) -> Attention:
    """A form of `linear_attention` that takes (1) too: its last argument is u, [H_v, K], or None for a read after the write."""

    @wraps(attention)
    def read_before_write(q, k, v, log_decay=None, scale=None, initial_state=None, reset=None, bonus=None) -> tuple[Tensor, Tensor]:
        if bonus is None:
            return attention(q, k, v, log_decay, scale, initial_state, reset)
        shifted = torch.cat([q[:, 1:], q[:, :1]], dim=1)
        if reset is not None:  # or what is masked below would have a gradient: 0 times the state before
            shifted = filled(shifted, torch.cat([reset[:, 1:], reset[:, :1]], dim=1), 0)
        query, key, value, _, _, S = enter(q, k, v, None, None, scale, initial_state, None)
        early, final = attention(shifted, k, value, log_decay, scale, initial_state, reset)
        first = (query[:, :1].transpose(1, 2) @ S).transpose(1, 2)
        held = filled(torch.cat([first, early[:, :-1]], dim=1), reset, 0)
        own = (query * bonus.to(query.dtype) * key).sum(-1, keepdim=True)
        return (held + own * value).to(v.dtype), final

    return read_before_write
