"""Decaying Gram matrices at all steps: their action, their norm, and systems with them.

    P_t = a_t P_{t-1} + β_t k_t k_tᵀ,      x_t -> (P_t + Λ_t) x_t,      |P_t|_F,      (P_t + Λ_t)⁻¹ q_t               (1)

Given as k and w = β k [B, T, H, K], log decays g [B, T, H, 1] and the P before the first step [B, H, K, K], where no matrix of a step is
formed unless it is eliminated; or as the matrices themselves [..., K, K], for the definition.

    |P_t|² = a_t² |P_{t-1}|² + 2 β_t k_tᵀ P_t k_t - β_t² |k_t|⁴                                                    (2)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from separatrix.recurrence.decay import between, join, since_start, split, until_end
from separatrix.recurrence.diagonal import diagonal_scan_chunked
from separatrix.recurrence.linear_attention import linear_attention_chunked
from separatrix.recurrence.resets import filled
from separatrix.recurrence.solvers import LinearMap, Solver, implicit
from separatrix.recurrence.twins import twin


def gram_map(level: Tensor, k: Tensor, w: Tensor, g: Tensor, P: Tensor, chunk: int = 64) -> LinearMap:
    """x_t -> (P_t + Λ_t) x_t.   x [B, T, H, K]; linear attention in chunks, made ready for many x."""
    time = k.shape[1]
    if time == 0:
        return lambda x: level * x
    k, w, g = (split(x, min(chunk, time)) for x in (k, w, g))
    passed, pairs = since_start(g).exp(), between(g).exp().squeeze(-1)
    writes, decays, states = ((k * until_end(g).exp()).mT @ w).unbind(2), passed[..., -1:, :].unbind(2), [P.mT]
    for decay, write in zip(decays[:-1], writes):
        states.append(decay * states[-1] + write)
    before = torch.stack(states, dim=2)

    def apply(x: Tensor) -> Tensor:
        rows = split(x, k.shape[3])
        return join(((rows @ k.mT) * pairs) @ w + (rows * passed) @ before, time) + level * x

    return apply


def gram_apply(x: Tensor, level: Tensor, k: Tensor, w: Tensor, g: Tensor, P: Tensor) -> Tensor:
    return gram_map(level, k, w, g, P)(x)


def gram_square(k: Tensor, w: Tensor, g: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
    """|P_t|_F² by (2), [B, T, H] in float64, and the last P."""
    Pk, final = linear_attention_chunked(k, k, w, g.squeeze(-1), 1.0, P)
    return diagonal_scan_chunked((2 * g.double()).exp().squeeze(-1), growth(k, w, Pk), matrix_square(P))[0], final


def growth(k: Tensor, w: Tensor, Pk: Tensor) -> Tensor:
    """What (2) adds to |P_t|_F², given P_t k_t."""
    w = w.double()
    return 2 * (w * Pk.double()).sum(-1) - (w * k.double()).sum(-1).square()


@twin("gram_solve")
def gram_solve_chunked(
    q: Tensor, k: Tensor, beta: Tensor, log_decay: Tensor | None, ridge: Tensor, P: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The compiled operator in plain torch: x and the last P.   ridge [H, K] or [B, T, H]"""
    w, g = beta.unsqueeze(-1) * k, torch.zeros_like(beta) if log_decay is None else log_decay
    g = filled(g, reset, -torch.inf)
    x = implicit(gram_apply, gram_solve, q, ridge if ridge.ndim == 2 else ridge.unsqueeze(-1), k, w, g.unsqueeze(-1), P)
    return x, linear_attention_chunked(k, k, w, g, 1.0, P)[1]


def gram_solve(q: Tensor, level: Tensor, k: Tensor, w: Tensor, g: Tensor, P: Tensor, chunk: int = 64) -> Tensor:
    """x with (P_t + Λ_t) x_t = q_t, by elimination, a chunk of matrices at a time."""
    level, solved = level.expand(q.shape), []
    for start in range(0, q.shape[1], chunk):
        matrices = []
        for t in range(start, min(start + chunk, q.shape[1])):
            P = g[:, t].exp().unsqueeze(-1) * P + w[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
            matrices.append(P)
        steps = slice(start, start + len(matrices))
        solved.append(matrix_solve(q[:, steps], level[:, steps], torch.stack(matrices, 1)))
    return torch.cat(solved, dim=1) if solved else q.clone()


def matrix_map(level: Tensor, P: Tensor) -> LinearMap:
    """x -> (P + Λ) x.   x [..., K], P [..., K, K]"""
    return lambda x: (P @ x.unsqueeze(-1)).squeeze(-1) + level * x


def matrix_apply(x: Tensor, level: Tensor, P: Tensor) -> Tensor:
    return matrix_map(level, P)(x)


def matrix_solve(q: Tensor, level: Tensor, P: Tensor) -> Tensor:
    """x with (P + Λ) x = q; as in the kernel, no error where there is none, which would take other steps, heads and rows along."""
    return torch.linalg.solve_ex(P + torch.diag_embed(level.expand(q.shape)), q).result


def matrix_square(P: Tensor) -> Tensor:
    """|P|_F² in float64: in float32 that of a faded P is zero long before P is."""
    return P.double().square().sum((-2, -1))


def iterate(
    solver: Solver, ready: Callable[..., LinearMap], square: Callable[..., Tensor], b: Tensor, level: Tensor, *gram: Tensor
) -> Tensor:
    """P is positive semidefinite and |P| <= |P|_F: the eigenvalues of P + Λ are within [min Λ, max Λ + |P|_F]."""

    def bounds() -> tuple[Tensor, Tensor]:
        return level.amin(-1, keepdim=True), level.amax(-1, keepdim=True) + square(*gram).sqrt().unsqueeze(-1).to(level.dtype)

    return solver.solve(ready(level, *gram), b, bounds)


def relative(q: Tensor, reached: Tensor) -> Tensor:
    """|q - reached| / |q|"""
    return (q - reached).norm(dim=-1) / q.norm(dim=-1).clamp(min=torch.finfo(q.dtype).tiny)
