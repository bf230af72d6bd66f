"""Recursive least squares: ridge regression whose inverse is carried along instead of solved for.

    u_t = Q_{t-1} k_t                                                  Q_0 = Λ⁻¹, W_0 = 0
    e_t = u_t β_t / (a_t + β_t k_tᵀ u_t)                               the Kalman gain
    W_t = W_{t-1} + e_t (v_t - W_{t-1}ᵀ k_t)ᵀ                          a delta rule along it
    Q_t = (Q_{t-1} - e_t u_tᵀ) / a_t
    o_t = W_tᵀ q_t

so that Q_t⁻¹ = a_t Q_{t-1}⁻¹ + β_t k_t k_tᵀ. The ridge is the first state and fades like all else: without decay this is
`ridge_attention`, with decay it is not, and Q grows by 1/a_t in every direction that no key excites (windup). In exchange a step
costs O(K² + K V), and the memory is a weight matrix that can be read as one.

Paper    Plackett 1950; as a layer's memory, Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016, which shows why it is fragile.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_tensor
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.regression import expect_gram, matrices_of
from separatrix.recurrence.state import State


def recursive_least_squares(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    ridge: Tensor,
    log_decay: Tensor | None = None,
    initial_state: State | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    """o_t = W_tᵀ q_t with W_t the regression of all values on all keys, both fading, and the ridge with them.

    q, k [B, T, H, K], v [B, T, H_v, V] with H_v a multiple of H, beta [B, T, H_v] >= 0, ridge [H_v, K] > 0, log_decay None or [B, T, H_v]
    and <= 0, reset [B, T] bool: back to Λ⁻¹ and 0  ->  o [B, T, H_v, V], State(Q=[B, H_v, K, K], W=[B, H_v, K, V]).

    Paper    Plackett 1950; Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016.
    Raises   ValueError for shapes that do not fit, wrong signs on the CPU; TypeError unless all are real floats, reset bool.
    """
    expect_tensor("ridge", ridge)  # not a rule that makes one: here it fades with the regression
    Q, W = matrices_of(initial_state, "Q", "W")
    expect_heads(q, k, v, beta, log_decay, W, reset)
    expect_gram(q, v.shape[2], beta, log_decay, ridge, Q, "Q")
    return run("recursive_least_squares", q.shape[1], q, k, v, beta, ridge, log_decay, initial_state, reset)


@form
def recursive_least_squares_recurrent(q, k, v, beta, ridge, log_decay=None, initial_state=None, reset=None) -> tuple[Tensor, State]:
    Q, W = matrices_of(initial_state, "Q", "W")
    dtype = v.dtype
    q, k, v, b, g, W = enter(q, k, v, beta, log_decay, 1.0, W, None)
    assert b is not None
    rest = torch.diag_embed(1 / ridge.to(W.dtype)).expand(*W.shape[:-1], -1)
    Q = rest if Q is None else Q.to(W.dtype)
    reads = []
    for t in range(q.shape[1]):
        if reset is not None:
            starts = reset[:, t, None, None, None]
            Q, W = torch.where(starts, rest, Q), W.masked_fill(starts, 0)
        a = torch.ones_like(b[:, t]) if g is None else g[:, t].exp()
        key = k[:, t].unsqueeze(-1)
        u = (Q @ key).squeeze(-1)
        gain = (u * b[:, t] / (a + b[:, t] * (k[:, t] * u).sum(-1, keepdim=True))).unsqueeze(-1)
        W = W + gain * (v[:, t].unsqueeze(-2) - key.mT @ W)
        Q = (Q - gain * u.unsqueeze(-2)) / a.unsqueeze(-1)
        reads.append((q[:, t].unsqueeze(-2) @ W).squeeze(-2))
    return along_time(reads, v).to(dtype), State(Q=Q, W=W)
