"""Products of delta rules: n corrections of the state for every token.

    S <- diag(exp g_t) S_{t-1}                                                 once a token
    S <- (I - β_tj k_tj k_tjᵀ) S + β_tj k_tj v_tjᵀ                             for j = 1 .. n                     (1)
    o_t = scale Sᵀ q_t                                                         scale = K^(-1/2) unless given

One delta rule moves the state by a reflection at most; a product of n of them can be any rotation of an n-dimensional subspace, which is
what tracking a permutation takes. n = 1 is `delta_rule`. The other forms see (1) as the delta rule over n T steps, with a decay before
the first and a query after the last of every n.

Paper    Siems et al. 2025, arXiv:2502.10297.
Cost     n times the delta rule's for writing, once for reading and fading.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_axes, expect_numbers, expect_shape
from separatrix.recurrence.delta import delta_rule_chunked, delta_rule_dense
from separatrix.recurrence.fused import keys_in_cache, matrix_state
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.linear_attention import linear_attention_chunked
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.twins import twin

MOST_FACTORS = 16


def delta_product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """S <- diag(exp g_t) S, then S <- (I - β_tj k_tj k_tjᵀ) S + β_tj k_tj v_tjᵀ for j = 1 .. n,  o_t = scale Sᵀ q_t.

    q [B, T, H, K], k [B, T, n, H, K], v [B, T, n, H_v, V] with H_v a multiple of H, beta [B, T, n, H_v], log_decay None, [B, T, H_v] or
    [B, T, H_v, K] and <= 0, scale K^(-1/2) unless given, initial_state [B, H_v, K, V], reset [B, T] bool
    ->  o [B, T, H_v, V], final state [B, H_v, K, V].

    Paper    Siems et al. 2025, arXiv:2502.10297.
    Raises   ValueError for shapes that do not fit, log_decay > 0 or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("q", q, k=k, v=v, beta=beta)
    expect_axes("q", q, "batch, time, heads, key")
    expect_axes("k", k, "batch, time, factors, heads, key")
    expect_axes("v", v, "batch, time, factors, value heads, value")
    (batch, time, heads, key), factors, (value_heads, value) = q.shape, k.shape[2], v.shape[3:]
    if factors == 0:
        raise ValueError(f"k is {list(k.shape)}, expected at least one factor: [batch, time, factors, heads, key]")
    expect_shape("k", k, (batch, time, factors, heads, key), "batch, time, factors, heads, key")
    expect_shape("v", v, (batch, time, factors, value_heads, value), "batch, time, factors, value heads, value")
    expect_shape("beta", beta, (batch, time, factors, value_heads), "batch, time, factors, value heads")
    expect_heads(q, k[:, :, 0], v[:, :, 0], beta[:, :, 0], log_decay, initial_state, reset, scale)
    return run("delta_product", time, q, k, v, beta, log_decay, scale, initial_state, reset)


@form
def delta_product_recurrent(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    factors = [enter(q, *each, log_decay, scale, initial_state, None) for each in zip(k.unbind(2), v.unbind(2), beta.unbind(2))]
    queries, g, S = factors[0].q.unsqueeze(-2).unbind(1), factors[0].log_decay, factors[0].state
    decays = None if g is None else g.exp().unsqueeze(-1).unbind(1)
    keys = [x.k.unsqueeze(-2).unbind(1) for x in factors]
    values = [x.v.unsqueeze(-2).unbind(1) for x in factors]
    writes = [(x.k * x.beta).unsqueeze(-1).unbind(1) for x in factors if x.beta is not None]
    reads = []
    for t in range(len(queries)):
        S = cleared(S, reset, t)
        S = S if decays is None else decays[t] * S
        for key, value, write in zip(keys, values, writes):
            S = S + write[t] * (value[t] - key[t] @ S)
        reads.append((queries[t] @ S).squeeze(-2))
    return along_time(reads, v[:, :, 0]).to(v.dtype), S


@form
def delta_product_chunked(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Chunks of the delta rule over n T steps."""
    o, final = delta_rule_chunked(*as_steps(q, k, v, beta, log_decay), scale, initial_state, first_steps(reset, k.shape[2]))
    return o[:, k.shape[2] - 1 :: k.shape[2]], final


@form
def delta_product_dense(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The attention matrix of the delta rule over n T steps."""
    o, final = delta_rule_dense(*as_steps(q, k, v, beta, log_decay), scale, initial_state, first_steps(reset, k.shape[2]))
    return o[:, k.shape[2] - 1 :: k.shape[2]], final


def few_keys_and_factors(*inputs: Any) -> str | None:
    """A chunk of the kernel holds whole tokens."""
    if len(inputs) > 1 and inputs[1] is not None and inputs[1].ndim == 5 and inputs[1].shape[2] > MOST_FACTORS:
        return f"more than {MOST_FACTORS} factors a token"
    return keys_in_cache(*inputs)


@form(refuses=few_keys_and_factors, pays_from=1)
def delta_product_fused(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return matrix_state(q, k, v, beta, log_decay, scale, initial_state, reset, delta=True)


@twin("matrix_state")
def in_torch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    log_decay: Tensor | None,
    skip: Tensor | None,
    bonus: Tensor | None,
    scale: float,
    state: Tensor | None,
    reset: Tensor | None,
    delta: bool,
) -> tuple[Tensor, Tensor]:
    """What the kernel of all matrix states computes: (1), or without `delta` linear attention, where n is 1."""
    if delta:
        assert beta is not None
        return delta_product_chunked(q, k, v, beta, log_decay, scale, state, reset)
    u = v if beta is None else beta.unsqueeze(-1) * v
    o, final = linear_attention_chunked(q, k.squeeze(2), u.squeeze(2), log_decay, scale, state, reset, bonus)
    return o if skip is None else o + skip.unsqueeze(-1) * v.squeeze(2), final


def as_steps(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The arguments of `delta_rule` over n T steps. Every step has its token's query; only the output of the last of n is meant."""
    n = k.shape[2]
    k, v, beta = (x.flatten(1, 2) for x in (k, v, beta))
    return q.repeat_interleave(n, dim=1), k, v, beta, None if log_decay is None else first_steps(log_decay, n)


def first_steps(x: Tensor | None, n: int) -> Tensor | None:
    """What happens to a token happens to the first of its n steps: [B, T, ...] -> [B, n T, ...], zeros or False elsewhere."""
    if x is None:
        return None
    return torch.stack([x] + [torch.zeros_like(x)] * (n - 1), dim=2).flatten(1, 2)
