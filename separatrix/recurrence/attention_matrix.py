"""The attention matrix of a matrix state, whatever its transitions A_t are.

    S_t = A_t S_{t-1} + w_t v_tᵀ,   o_t = S_tᵀ q_t
    o_t = sum_{s <= t} M[t, s] v_s + S_0ᵀ q_t[0],   M[t, s] = w_s · q_t[s],   q_t[t] = q_t,   q_t[s-1] = A_sᵀ q_t[s]         (1)

A query is carried back through the transitions between it and step s: column by column from the last, all queries at once. The columns of
the identity, carried back from the last step, read the final state.

Cost     O(T² K) for a transition that applies in O(K), and the matrix is kept: for analysis, and as a witness.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def by_attention_matrix(q: Tensor, w: Tensor, v: Tensor, S: Tensor, back: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """(1).   q, w [B, T, H, K], v [B, T, H, V], S [B, H, K, V] -> o [B, T, H, V], the final state

    back(rows, s)   A_sᵀ of every row of [B, H, rows, K].
    """
    time, size = v.shape[1], w.shape[-1]
    last = torch.eye(size, dtype=w.dtype, device=w.device).expand(*S.shape[:2], size, size)
    rows = torch.cat([q.transpose(1, 2), last], dim=2)
    step = torch.arange(time + size, device=w.device).unsqueeze(-1)
    columns = []
    for s in reversed(range(time)):
        columns.append(torch.where(step >= s, rows @ w[:, s].unsqueeze(-1), 0))
        rows = torch.where(step >= s, back(rows, s), rows)
    o = rows @ S
    if time:
        o = o + torch.cat(columns[::-1], dim=-1) @ v.transpose(1, 2)
    return o[:, :, :time].transpose(1, 2), o[:, :, time:]
