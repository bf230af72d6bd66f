"""How much of step s is left at step t, without ever dividing.

    D[t, s] = exp(g_{s+1} + ... + g_t)          s <= t, else 0                                                   (1)
    M[t, s] = sum_i q_t[i] k_s[i] D[t, s][i]                                                                     (2)

With G the running sum of g, (1) is exp(G_t - G_s), and the tempting factors exp(G_t) and exp(-G_s) overflow as soon as a chunk forgets
much (one step may decay by exp(-94)). Here every exponent is a sum of log decays over a stretch of time: it is <= 0, loses no digit to
cancellation, and may be minus infinity, which is a reset. For one decay per key dimension the pairs of (2) are formed one by one only
inside blocks of 16 steps; between blocks the decays meet at the later block's first step and (2) is a matrix product.

Paper    Yang et al. 2023 (secondary chunks), arXiv:2312.06635; Dao and Gu 2024 (segment sums), arXiv:2405.21060.
Cost     O(C² K) for a chunk of C steps, O(16 C K) of it elementwise when the decay is per key dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16


def between(g: Tensor) -> Tensor:
    """The exponent of (1), minus infinity for s > t.   g [..., C, K] -> [..., t, s, K]"""
    square = torch.ones(g.shape[-2], g.shape[-2], dtype=torch.bool, device=g.device)
    steps = g.unsqueeze(-2).masked_fill(square.triu().unsqueeze(-1), 0)
    return steps.cumsum(-3).masked_fill(square.triu(1).unsqueeze(-1), -torch.inf)


def since_start(g: Tensor) -> Tensor:
    """The exponent that takes the state before the chunk to step t: g_1 + ... + g_t.   [..., C, K]"""
    return g.cumsum(-2)


def until_end(g: Tensor) -> Tensor:
    """The exponent that takes step s to the end of the chunk: g_{s+1} + ... + g_C.   [..., C, K]"""
    return F.pad(g[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)


def scores(q: Tensor, k: Tensor, g: Tensor | None) -> Tensor:
    """(2).   q, k [..., C, K], g None, [..., C, 1] or [..., C, K] -> [..., t, s], zero for s > t"""
    if g is None:
        return (q @ k.transpose(-1, -2)).tril()
    if g.shape[-1] == 1:
        return (q @ k.transpose(-1, -2)) * between(g).exp().squeeze(-1)
    steps = q.shape[-2]
    if steps <= BLOCK:
        return (q.unsqueeze(-2) * k.unsqueeze(-3) * between(g).exp()).sum(-1)
    q, k, g = (F.pad(x, (0, 0, 0, -steps % BLOCK)).unflatten(-2, (-1, BLOCK)) for x in (q, k, g))
    inside = (q.unsqueeze(-2) * k.unsqueeze(-3) * between(g).exp()).sum(-1)
    # exponent from the end of block j to the start of the later block i: the blocks strictly between them
    gap = F.pad(between(g.sum(-2))[..., :-1, :, :], (0, 0, 0, 0, 1, 0), value=-torch.inf)
    early = k.unsqueeze(-4) * (until_end(g).unsqueeze(-4) + gap.unsqueeze(-2)).exp()
    late = q * since_start(g).exp()
    across = late.unsqueeze(-3) @ early.transpose(-1, -2)
    blocks = across + inside.unsqueeze(-3) * torch.eye(q.shape[-3], dtype=q.dtype, device=q.device)[:, :, None, None]
    return blocks.transpose(-2, -3).flatten(-4, -3).flatten(-2, -1)[..., :steps, :steps]


def split(x: Tensor, chunk: int) -> Tensor:
    """[B, T, H, K] -> [B, H, chunks, C, K], the last chunk filled with zeros: steps that neither decay nor write."""
    return F.pad(x.transpose(1, 2), (0, 0, 0, -x.shape[1] % chunk)).unflatten(2, (-1, chunk))


def join(x: Tensor, time: int) -> Tensor:
    """[B, H, chunks, C, V] -> [B, T, H, V]"""
    return x.flatten(2, 3)[:, :, :time].transpose(1, 2)
