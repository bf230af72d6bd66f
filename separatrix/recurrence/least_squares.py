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
Cost     2 K² + 3 K V multiply-adds a token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_tensor
from separatrix.recurrence.fused import keys_in_cache, operators, will_differentiate
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.regression import expect_gram, matrices_of
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.state import State
from separatrix.recurrence.twins import twin


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
    and <= 0, reset [B, T] bool: back to Λ⁻¹ and 0  ->  o [B, T, H_v, V], State(Q=[B, H_v, K, K], W=[B, H_v, K, V]). Of a Q that is not
    symmetric, the symmetric part is taken.

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
    dtype = v.dtype
    o, Q, W = walk(*_enter(q, k, v, beta, ridge, log_decay, initial_state), reset)
    return o.to(dtype), State(Q=Q, W=W)


@form(refuses=keys_in_cache, pays_from=1)
def recursive_least_squares_fused(q, k, v, beta, ridge, log_decay=None, initial_state=None, reset=None) -> tuple[Tensor, State]:
    dtype, inputs = v.dtype, _enter(q, k, v, beta, ridge, log_decay, initial_state)
    o, Q, W, *_ = operators().least_squares(*inputs, reset, will_differentiate(*inputs))
    return o.to(dtype), State(Q=Q, W=W)


@twin("least_squares")
def walk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    rest: Tensor,
    Q: Tensor,
    W: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The equations, read aloud: o, Q and W, of what the compiled operator takes: a query and key a value head, the diagonal of Λ⁻¹."""
    reads = []
    for t in range(q.shape[1]):
        if reset is not None:
            Q = torch.where(reset[:, t, None, None, None], torch.diag_embed(rest), Q)
        W = cleared(W, reset, t)
        b, key = beta[:, t, :, None], k[:, t].unsqueeze(-1)
        a = torch.ones_like(b) if log_decay is None else log_decay[:, t, :, None].exp()
        u = (Q @ key).squeeze(-1)
        e = u * b / (a + b * (k[:, t] * u).sum(-1, keepdim=True))
        W = W + e.unsqueeze(-1) * (v[:, t].unsqueeze(-2) - key.mT @ W)
        Q = (Q - e.unsqueeze(-1) * u.unsqueeze(-2)) / a.unsqueeze(-1)
        reads.append((q[:, t].unsqueeze(-2) @ W).squeeze(-2))
    return along_time(reads, v), Q, W


def _enter(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, ridge: Tensor, log_decay: Tensor | None, initial_state: State | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor]:
    """The arguments of `walk` in the working precision, without the reset."""
    Q, W = matrices_of(initial_state, "Q", "W")
    q, k, v, b, g, W = enter(q, k, v, beta, log_decay, 1.0, W, None)
    assert b is not None
    rest = 1 / ridge.to(W.dtype)
    Q = torch.diag_embed(rest).expand(*W.shape[:2], -1, -1) if Q is None else (Q + Q.mT).to(W.dtype) / 2
    return q, k, v, b.squeeze(-1), None if g is None else g.squeeze(-1), rest, Q, W
