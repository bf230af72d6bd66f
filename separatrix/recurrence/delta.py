"""The delta rule: a matrix state that corrects what it holds under a key instead of adding to it.

    S_t = (I - β_t k_t k_tᵀ) diag(exp g_t) S_{t-1} + β_t k_t v_tᵀ                                                (1)
    o_t = scale S_tᵀ q_t                                               scale = K^(-1/2) unless given

Read as learning, one gradient step of size β on |Sᵀ k_t - v_t|²/2. g absent is DeltaNet, one number a head is Gated DeltaNet, one per
key dimension is Kimi delta attention; β = η / |k|² is the Kaczmarz iteration. Keys are used as they come: normalise them before.

Paper    Yang et al. 2024, arXiv:2406.06484 (chunks) and arXiv:2412.06464 (gated); Kimi team 2025, arXiv:2510.26692.
"""

from __future__ import annotations

from torch import Tensor

from separatrix.recurrence.checks import along_time
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run


def delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None, scale: float | None = None,
               initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """S_t = (I - β_t k_t k_tᵀ) diag(exp g_t) S_{t-1} + β_t k_t v_tᵀ,  o_t = scale S_tᵀ q_t.

    q, k [B, T, H, K], v [B, T, H_v, V] with H_v a multiple of H, beta [B, T, H_v], log_decay None, [B, T, H_v] or [B, T, H_v, K] and <= 0,
    initial_state [B, H_v, K, V], reset [B, T] bool  ->  o [B, T, H_v, V], final state [B, H_v, K, V].
    """
    expect_heads(q, k, v, beta, log_decay, initial_state, reset)
    return run("delta_rule", q.shape[1], q, k, v, beta, log_decay, scale, initial_state, reset)


@form
def delta_rule_recurrent(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None, scale: float | None = None,
                         initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud: let the state fade, see what it holds under k, write the difference."""
    dtype = v.dtype
    q, k, v, beta, g, S = enter(q, k, v, beta, log_decay, scale, initial_state, reset)
    keys, values, queries = k.unsqueeze(-2).unbind(1), v.unsqueeze(-2).unbind(1), q.unsqueeze(-2).unbind(1)
    writes = (k * beta).unsqueeze(-1).unbind(1)
    decays = None if g is None else g.exp().unsqueeze(-1).unbind(1)
    reads = []
    for t in range(len(keys)):
        S = S if decays is None else decays[t] * S
        S = S + writes[t] * (values[t] - keys[t] @ S)
        reads.append((queries[t] @ S).squeeze(-2))
    return along_time(reads, v).to(dtype), S
