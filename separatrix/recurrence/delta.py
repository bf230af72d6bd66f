"""The delta rule: a matrix state that corrects what it holds under a key instead of adding to it.

    S_t = (I - β_t k_t k_tᵀ) diag(exp g_t) S_{t-1} + β_t k_t v_tᵀ                                                (1)
    o_t = scale S_tᵀ q_t                                               scale = K^(-1/2) unless given

Read as learning, one gradient step of size β on |Sᵀ k_t - v_t|²/2. g absent is DeltaNet, one number a head is Gated DeltaNet, one per
key dimension is Kimi delta attention; β = η / |k|² is the Kaczmarz iteration. Keys are used as they come: normalise them before.

With u_t = β_t (v_t - k_tᵀ diag(exp g_t) S_{t-1}), the correction that is written, (1) is linear attention with values u. Inside a chunk
the u depend on each other through a triangular system, so they all come out of one solve, linear in the state S before the chunk:

    (I + tril(β_t M_kk[t, s], -1)) U = β V - β (K D[., 0]) S             M_kk, D as in `decay`                    (2)

Paper    Yang et al. 2024, arXiv:2406.06484 (chunks) and arXiv:2412.06464 (gated); Kimi team 2025, arXiv:2510.26692.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.attention_matrix import by_attention_matrix
from separatrix.recurrence.checks import along_time, expect_tensor
from separatrix.recurrence.decay import join, scores, since_start, split, until_end
from separatrix.recurrence.fused import keys_in_cache, matrix_state
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared


def delta_rule(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """S_t = (I - β_t k_t k_tᵀ) diag(exp g_t) S_{t-1} + β_t k_t v_tᵀ,  o_t = scale S_tᵀ q_t.

    q, k [B, T, H, K], v [B, T, H_v, V] with H_v a multiple of H, beta [B, T, H_v], log_decay None, [B, T, H_v] or [B, T, H_v, K] and <= 0,
    scale K^(-1/2) unless given, initial_state [B, H_v, K, V], reset [B, T] bool  ->  o [B, T, H_v, V], final state [B, H_v, K, V].

    Paper    Yang et al. 2024, arXiv:2406.06484 (chunks) and arXiv:2412.06464 (gated); Kimi team 2025, arXiv:2510.26692.
    Raises   ValueError for shapes that do not fit, log_decay > 0 or NaN on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_heads(q, k, v, beta, log_decay, initial_state, reset, scale)
    expect_tensor("beta", beta)
    return run("delta_rule", q.shape[1], q, k, v, beta, log_decay, scale, initial_state, reset)


@form
def delta_rule_recurrent(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud: let the state fade, see what it holds under k, write the difference."""
    dtype = v.dtype
    q, k, v, b, g, S = enter(q, k, v, beta, log_decay, scale, initial_state, None)
    assert b is not None
    keys, values, queries = k.unsqueeze(-2).unbind(1), v.unsqueeze(-2).unbind(1), q.unsqueeze(-2).unbind(1)
    writes = (k * b).unsqueeze(-1).unbind(1)
    decays = None if g is None else g.exp().unsqueeze(-1).unbind(1)
    reads = []
    for t in range(len(keys)):
        S = cleared(S, reset, t)
        S = S if decays is None else decays[t] * S
        S = S + writes[t] * (values[t] - keys[t] @ S)
        reads.append((queries[t] @ S).squeeze(-2))
    return along_time(reads, v).to(dtype), S


@form(mixes=True)
def delta_rule_chunked(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None, chunk=64) -> tuple[Tensor, Tensor]:
    """Equation (2) for all chunks at once, then a few products per chunk to carry the state."""
    dtype, time, width = v.dtype, v.shape[1], v.shape[3]
    q, k, v, b, g, S = enter(q, k, v, beta, log_decay, scale, initial_state, reset)
    if time == 0:
        return v.to(dtype), S
    assert b is not None
    chunk = min(chunk, time)
    q, k, v, b = split(q, chunk), split(k, chunk), split(v, chunk), split(b, chunk)
    g = None if g is None else split(g, chunk)
    passed = None if g is None else since_start(g).exp()
    right = torch.cat([v, k if passed is None else k * passed], dim=-1) * b
    among_keys, reading = scores(k, g, k, q)
    solved = torch.linalg.solve_triangular(b * among_keys, right, upper=False, unitriangular=True)
    fixed, seen = solved[..., :width].unbind(2), solved[..., width:].unbind(2)
    inside = reading.unbind(2)
    reads = (q if passed is None else q * passed).unbind(2)
    writes = (k if g is None else k * until_end(g).exp()).transpose(-1, -2).unbind(2)
    decays = None if passed is None else passed[..., -1, :].unsqueeze(-1).unbind(2)
    outputs = []
    for i in range(len(fixed)):
        u = fixed[i] - seen[i] @ S
        outputs.append(reads[i] @ S + inside[i] @ u)
        S = (S if decays is None else decays[i] * S) + writes[i] @ u
    return join(torch.stack(outputs, dim=2), time).to(dtype), S


@form(mixes=True)
def delta_rule_dense(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The attention matrix, with A_tᵀ q = exp(g_t) ⊙ (q - β_t (k_t·q) k_t)."""
    dtype = v.dtype
    q, k, v, b, g, S = enter(q, k, v, beta, log_decay, scale, initial_state, reset)
    assert b is not None
    writes = b * k

    def back(rows: Tensor, s: int) -> Tensor:
        rows = rows - (rows @ writes[:, s].unsqueeze(-1)) * k[:, s].unsqueeze(-2)
        return rows if g is None else rows * g[:, s].exp().unsqueeze(-2)

    o, final = by_attention_matrix(q, writes, v, S, back)
    return o.to(dtype), final


@form(refuses=keys_in_cache, pays_from=1)
def delta_rule_fused(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return matrix_state(q, k.unsqueeze(2), v.unsqueeze(2), beta.unsqueeze(2), log_decay, scale, initial_state, reset, delta=True)
