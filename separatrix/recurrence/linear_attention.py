"""Linear attention: a matrix state that fades and is written by outer products.

    S_t = exp(g_t) S_{t-1} + k_t v_tᵀ          g_t <= 0 per head, or per key dimension: diag(exp g_t)            (1)
    o_t = scale S_tᵀ q_t                        scale = K^(-1/2) unless given

The decay acts before the write and the read sees the updated state. g absent is plain linear attention, a constant is RetNet, one number
a head and step is Mamba-2 (and simple GLA), one per key dimension is GLA, HGRN2 and, with its `bonus`, RWKV-6.

Paper    Katharopoulos et al. 2020, arXiv:2006.16236; Sun et al. 2023 (RetNet), arXiv:2307.08621; Yang et al. 2023 (GLA), arXiv:2312.06635.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.bonus import with_bonus
from separatrix.recurrence.checks import along_time, expect_numbers, expect_real, expect_shape
from separatrix.recurrence.decay import between, join, scores, since_start, split, until_end
from separatrix.recurrence.fused import keys_in_cache, matrix_state
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared

CHUNK = 64


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    bonus: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """S_t = exp(g_t) S_{t-1} + k_t v_tᵀ,  o_t = scale S_tᵀ q_t.

    q, k [B, T, H, K], v [B, T, H_v, V] with H_v a multiple of H, log_decay None, [B, T, H_v] or [B, T, H_v, K] and <= 0,
    scale K^(-1/2) unless given, initial_state [B, H_v, K, V], reset [B, T] bool  ->  o [B, T, H_v, V], final state [B, H_v, K, V].
    With a bonus [H_v, K] the read comes before the write and its decay, as in RWKV-6: o_t = scale (S_{t-1} + diag(bonus) k_t v_tᵀ)ᵀ q_t.

    Paper    Katharopoulos et al. 2020, arXiv:2006.16236 (RetNet arXiv:2307.08621, GLA arXiv:2312.06635, RWKV-6 arXiv:2404.05892).
    Raises   ValueError for shapes that do not fit, log_decay > 0 or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_heads(q, k, v, None, log_decay, initial_state, reset, scale)
    if bonus is not None:
        expect_numbers("q", q, bonus=bonus)
        expect_real(bonus=bonus)
        expect_shape("bonus", bonus, (v.shape[2], q.shape[3]), "value heads, key")
    return run("linear_attention", q.shape[1], q, k, v, log_decay, scale, initial_state, reset, bonus)


@form
@with_bonus
def linear_attention_recurrent(q, k, v, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    dtype = v.dtype
    q, k, v, _, g, S = enter(q, k, v, None, log_decay, scale, initial_state, None)
    keys, values, queries = k.unsqueeze(-1).unbind(1), v.unsqueeze(-2).unbind(1), q.unsqueeze(-2).unbind(1)
    decays = None if g is None else g.exp().unsqueeze(-1).unbind(1)
    reads = []
    for t in range(len(keys)):
        S = cleared(S, reset, t)
        S = (S if decays is None else decays[t] * S) + keys[t] * values[t]
        reads.append((queries[t] @ S).squeeze(-2))
    return along_time(reads, v).to(dtype), S


@form(mixes=True)
@with_bonus
def linear_attention_chunked(q, k, v, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Inside a chunk attention, between chunks the state: o_t = q_t D[t, 0] S_in + sum_s M[t, s] v_s, with M and D as in `decay`."""
    dtype, time = v.dtype, v.shape[1]
    q, k, v, _, g, S = enter(q, k, v, None, log_decay, scale, initial_state, reset)
    if time == 0:
        return v.to(dtype), S
    chunk = min(CHUNK, time)
    q, k, v = split(q, chunk), split(k, chunk), split(v, chunk)
    g = None if g is None else split(g, chunk)
    inside = scores(k, g, q)[0] @ v
    if g is None:
        decays, writes, reads = None, (k.transpose(-1, -2) @ v).unbind(2), q
    else:
        passed = since_start(g).exp()
        decays, reads = passed[..., -1, :].unsqueeze(-1).unbind(2), q * passed
        writes = ((k * until_end(g).exp()).transpose(-1, -2) @ v).unbind(2)
    states = []
    for i, write in enumerate(writes):
        states.append(S)
        S = (S if decays is None else decays[i] * S) + write
    return join(inside + reads @ torch.stack(states, dim=2), time).to(dtype), S


@form(mixes=True)
@with_bonus
def linear_attention_dense(q, k, v, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The attention matrix of all pairs of steps at once, applied to the values."""
    dtype = v.dtype
    q, k, v, _, g, S = enter(q, k, v, None, log_decay, scale, initial_state, reset)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    g = q.new_zeros(*q.shape[:3], 1) if g is None else g.transpose(1, 2)
    pairs = between(g).exp()
    o = ((q.unsqueeze(-2) * k.unsqueeze(-3) * pairs).sum(-1)) @ v + (q * since_start(g).exp()) @ S
    if q.shape[2]:
        S = since_start(g)[..., -1, :].exp().unsqueeze(-1) * S + (k * pairs[..., -1, :, :]).transpose(-1, -2) @ v
    return o.transpose(1, 2).to(dtype), S


@form(refuses=keys_in_cache, pays_from=1)
def linear_attention_fused(q, k, v, log_decay=None, scale=None, initial_state=None, reset=None, bonus=None) -> tuple[Tensor, Tensor]:
    if bonus is not None and (log_decay is None or log_decay.ndim == 3):
        each = q.new_zeros(*v.shape[:3]) if log_decay is None else log_decay
        log_decay = each.unsqueeze(-1).expand(-1, -1, -1, q.shape[3])
    return matrix_state(q, k.unsqueeze(2), v.unsqueeze(2), None, log_decay, scale, initial_state, reset, bonus=bonus)
