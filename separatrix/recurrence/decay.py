"""How much of step s is left at step t, without ever dividing.

    D[t, s] = exp(g_{s+1} + ... + g_t)          s <= t, else 0                                                   (1)
    M[t, s] = sum_i q_t[i] k_s[i] D[t, s][i]                                                                     (2)

With G the running sum of g, (1) is exp(G_t - G_s), and the tempting factors exp(G_t) and exp(-G_s) overflow as soon as a chunk forgets
much (one step may decay by exp(-94)). Here every exponent is a sum of log decays over a stretch of time: it is <= 0, loses no digit to
cancellation, and may be minus infinity, which is a reset. For one decay per key dimension the pairs of (2) are formed one by one only
inside blocks of 8 steps; between blocks the decays meet at the later block's first step and (2) is a matrix product.

Paper    Yang et al. 2023 (secondary chunks), arXiv:2312.06635; Dao and Gu 2024 (segment sums), arXiv:2405.21060.
Cost     O(C² K) for a chunk of C steps, O(8 C K) of it elementwise when the decay is per key dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8


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


def scores(k: Tensor, g: Tensor | None, *queries: Tensor) -> list[Tensor]:
    """(2) for each of the queries.   k, q [..., C, K], g None, [..., C, 1] or [..., C, K] -> [..., t, s], zero for s > t"""
    if g is None:
        return [(q @ k.transpose(-1, -2)).tril() for q in queries]
    if g.shape[-1] == 1:
        left = between(g).exp().squeeze(-1)
        return [(q @ k.transpose(-1, -2)) * left for q in queries]
    steps = k.shape[-2]
    k, g, *rows = (F.pad(x, (0, 0, 0, -steps % BLOCK)).unflatten(-2, (-1, BLOCK)) for x in (k, g, *queries))
    inside = (k.unsqueeze(-3) * between(g).exp()) @ torch.stack(rows, dim=-1)
    # the exponent from the end of block j to the start of the later block i: the blocks strictly between them
    gap = F.pad(between(g.sum(-2))[..., :-1, :, :], (0, 0, 0, 0, 1, 0), value=-torch.inf)
    early = (k.unsqueeze(-4) * (until_end(g).unsqueeze(-4) + gap.unsqueeze(-2)).exp()).flatten(-3, -2)
    arrive = since_start(g).exp()
    same = torch.eye(k.shape[-3], dtype=k.dtype, device=k.device)[:, None, :, None]
    found = []
    for q, pairs in zip(rows, inside.unbind(-1)):
        across = ((q * arrive) @ early.transpose(-1, -2)).unflatten(-1, (-1, BLOCK))
        blocks = across + pairs.unsqueeze(-2) * same
        found.append(blocks.flatten(-4, -3).flatten(-2, -1)[..., :steps, :steps])
    return found


def split(x: Tensor, chunk: int) -> Tensor:
    """[B, T, H, K] -> [B, H, chunks, C, K], the last chunk filled with zeros: steps that neither decay nor write."""
    return F.pad(x.transpose(1, 2), (0, 0, 0, -x.shape[1] % chunk)).unflatten(2, (-1, chunk))


def join(x: Tensor, time: int) -> Tensor:
    """[B, H, chunks, C, V] -> [B, T, H, V]"""
    return x.flatten(2, 3)[:, :, :time].transpose(1, 2)
