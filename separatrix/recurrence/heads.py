"""Queries, keys and values as every matrix-state operation reads them.

    q, k [B, T, H, K]    v [B, T, H_v, V]    log_decay None, [B, T, H_v] or [B, T, H_v, K]    state [B, H_v, K, V]

H_v is a multiple of H: value head j reads the queries and keys of head j // (H_v / H). A reset clears the state before the step writes:
the recurrent forms and the kernels write zeros. To forms that are matrix products it is a log decay of minus infinity, a factor of exactly
0, which is the same thing as long as all numbers are finite.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.checks import (
    expect_at_most_zero,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_scale,
    expect_shape,
    expect_some,
    working_dtype,
)
from separatrix.recurrence.resets import filled


class Heads(NamedTuple):
    q: Tensor  # [B, T, H_v, K], scaled
    k: Tensor  # [B, T, H_v, K]
    v: Tensor  # [B, T, H_v, V]
    beta: Tensor | None  # [B, T, H_v, 1]
    log_decay: Tensor | None  # [B, T, H_v, 1] or [B, T, H_v, K]
    state: Tensor  # [B, H_v, K, V]


def enter(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    log_decay: Tensor | None,
    scale: float | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
) -> Heads:
    """The arguments of an operation in its working precision, one query and key per value head."""
    dtype = working_dtype(q, k, v, beta, log_decay, initial_state)
    batch, _, heads, key = q.shape
    value_heads, value = v.shape[2:]
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    scale = key**-0.5 if scale is None else scale
    q = q if scale == 1 else q * scale
    if value_heads != heads:
        q, k = (x.repeat_interleave(value_heads // heads, dim=2) for x in (q, k))
    if log_decay is not None:
        log_decay = log_decay.to(dtype)
        log_decay = log_decay if log_decay.ndim == 4 else log_decay.unsqueeze(-1)
    if reset is not None:
        log_decay = v.new_zeros(*v.shape[:3], 1) if log_decay is None else log_decay
        log_decay = filled(log_decay, reset, -torch.inf)
    state = v.new_zeros(batch, value_heads, key, value) if initial_state is None else initial_state.to(dtype)
    return Heads(q, k, v, None if beta is None else beta.to(dtype).unsqueeze(-1), log_decay, state)


def expect_heads(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    log_decay: Tensor | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    scale: float | None = None,
    query: str = "q",
) -> None:
    """Refuse what `enter` cannot read. `query` is the operation's own name for q."""
    expect_scale(scale)
    expect_numbers(query, q, k=k, v=v, beta=beta, log_decay=log_decay, initial_state=initial_state)
    expect_real(**{query: q}, k=k, v=v, beta=beta, log_decay=log_decay, initial_state=initial_state)
    expect_axes(query, q, "batch, time, heads, key")
    expect_axes("v", v, "batch, time, value heads, value")
    expect_shape("k", k, q.shape, "batch, time, heads, key")
    batch, time, heads, key = q.shape
    value_heads, value = v.shape[2:]
    expect_shape("v", v, (batch, time, value_heads, value), "batch, time, value heads, value")
    expect_some(key=key, value=value)
    if heads == 0 or value_heads % heads:
        raise ValueError(f"v has {value_heads} heads and {query} has {heads}: the value heads must be a multiple of the query heads")
    if beta is not None:
        expect_shape("beta", beta, (batch, time, value_heads), "batch, time, value heads")
    if log_decay is not None:
        if log_decay.ndim == 4:
            expect_shape("log_decay", log_decay, (batch, time, value_heads, key), "batch, time, value heads, key")
        else:
            expect_shape("log_decay", log_decay, (batch, time, value_heads), "batch, time, value heads")
        expect_at_most_zero("log_decay", log_decay)
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, value_heads, key, value), "batch, value heads, key, value")
    expect_reset(reset, batch, time)
