"""Ridge attention: every step reads from the ridge regression of all values on all keys so far.

    P_t = a_t P_{t-1} + β_t k_t k_tᵀ          a = exp(log_decay) <= 1, β >= 0                                      (1)
    R_t = a_t R_{t-1} + β_t k_t v_tᵀ
    o_t = R_tᵀ x_t                            (P_t + Λ_t) x_t = q_t                                                (2)

o_t = Wᵀ q_t with the W that minimises Σ_s β_s (decay from s to t) |v_s - Wᵀ k_s|² + tr(Wᵀ Λ W): linear attention whose query was whitened
by the keys. The ridge does not fade. It is a tensor [heads, key] (Mesa), or `AdaptiveRidge`: λ_t = rho |P_t|_F, which bounds the condition
number of (2) by 1 + 1/rho at every step (Gated KalmaNet).

The state is the pair P [key, key], symmetric and positive semidefinite, and R [key, value]. Given x, (2) is `linear_attention`, and so
is P_t x_t; with that, no form but the definition needs P_t as a matrix (`gram`): its norm is a scalar recurrence, an iterative solver
applies P_t at all steps at once, and the derivative of x_t is one more solve (`solvers`) and the gradient of P_t x_t.

Paper    von Oswald et al. 2025 (MesaNet), arXiv:2506.05233; Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016.
Cost     K³/6 + 2 K (K + V) multiply-adds a token when it eliminates (`kernels/gram`), 3 K² an iteration in chunks of K steps; training
         solves twice.
Departs  no scale, no normalisation of q and k: that is the layer's. A ridge of zero is refused, where nothing was written x = q.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.autocast import outside_autocast
from separatrix.recurrence.checks import expect_axes, expect_numbers, readable
from separatrix.recurrence.decay import between
from separatrix.recurrence.diagonal import diagonal_scan_fused
from separatrix.recurrence.fused import double, float32, operators, state_or_rest
from separatrix.recurrence.gram import (
    gram_apply,
    gram_map,
    gram_solve,
    gram_square,
    growth,
    iterate,
    matrix_apply,
    matrix_map,
    matrix_solve,
    matrix_square,
    relative,
)
from separatrix.recurrence.heads import enter, expect_heads
from separatrix.recurrence.linear_attention import linear_attention_chunked, linear_attention_dense, linear_attention_fused
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.regression import ADAPTIVE, AdaptiveRidge, Ridge, expect_gram, expect_solver, matrices_of
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.solvers import Chebyshev, ConjugateGradient, Solver, implicit
from separatrix.recurrence.state import State

# The factors of one block of steps are 2 K² floats a lane: 2 MB here.
MOST_KEYS = 160


def ridge_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    ridge: Ridge = ADAPTIVE,
    solver: Solver | None = None,
    initial_state: State | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    """o_t = R_tᵀ (P_t + Λ_t)⁻¹ q_t,  P_t = a_t P_{t-1} + β_t k_t k_tᵀ,  R_t = a_t R_{t-1} + β_t k_t v_tᵀ.

    q, k [B, T, H, K], v [B, T, H_v, V] with H_v a multiple of H, beta [B, T, H_v] >= 0, log_decay None or [B, T, H_v] and <= 0,
    ridge [H_v, K] > 0 or an AdaptiveRidge, reset [B, T] bool  ->  o [B, T, H_v, V], State(P=[B, H_v, K, K], R=[B, H_v, K, V]).

    solver None solves exactly; a ConjugateGradient or Chebyshev warns when a residual (`ridge_solve` returns them) exceeds its tolerance.

    Paper    von Oswald et al. 2025 (MesaNet), arXiv:2506.05233; Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016.
    Raises   ValueError for shapes that do not fit, wrong signs on the CPU; TypeError unless all are real floats, reset bool.
    """
    P, R = matrices_of(initial_state)
    expect_heads(q, k, v, beta, log_decay, R, reset)
    expect_gram(q, v.shape[2], beta, log_decay, ridge, P)
    expect_solver(solver)
    return run("ridge_attention", q.shape[1], q, k, v, beta, log_decay, ridge, solver, initial_state, reset)


@form
def ridge_attention_recurrent(
    q, k, v, beta, log_decay=None, ridge=ADAPTIVE, solver=None, initial_state=None, reset=None
) -> tuple[Tensor, State]:
    """Equations (1) and (2), read aloud."""
    q, k, w, v_, g, P, R = _enter(q, k, v, beta, log_decay, initial_state, None)
    grams, memories = [], []
    for t in range(q.shape[1]):
        P, R = cleared(P, reset, t), cleared(R, reset, t)
        a, write = g[:, t].exp().unsqueeze(-1), w[:, t].unsqueeze(-1)
        P = a * P + write * k[:, t].unsqueeze(-2)
        R = a * R + write * v_[:, t].unsqueeze(-2)
        grams.append(P)
        memories.append(R)
    if not grams:
        return v, State(P=P, R=R)
    every = torch.stack(grams, dim=1)
    level = ridge(matrix_square(every), P.dtype).unsqueeze(-1) if isinstance(ridge, AdaptiveRidge) else ridge.to(P.dtype)
    if solver is None:
        x = matrix_solve(q, level, every)
    else:
        x = implicit(matrix_apply, partial(iterate, solver, matrix_map, matrix_square), q, level, every)
        with torch.no_grad():
            _warn(solver, relative(q, matrix_apply(x, level, every)), 6)  # through the form and `run`
    return (x.unsqueeze(-2) @ torch.stack(memories, dim=1)).squeeze(-2).to(v.dtype), State(P=P, R=R)


@form(mixes=True)
def ridge_attention_chunked(
    q, k, v, beta, log_decay=None, ridge=ADAPTIVE, solver=None, initial_state=None, reset=None
) -> tuple[Tensor, State]:
    """Everything but the solve is linear attention in chunks; the solve keeps its solution only."""
    q, k, w, v_, g, P, R = _enter(q, k, v, beta, log_decay, initial_state, reset)
    x, final, residual = _solve(q, k, w, g, P, ridge, solver)
    _warn(solver, residual, 7)  # through `selecting` too
    o, R = linear_attention_chunked(x, w, v_, g.squeeze(-1), 1.0, R)
    return o.to(v.dtype), State(P=final, R=R)


@form(mixes=True)
def ridge_attention_dense(
    q, k, v, beta, log_decay=None, ridge=ADAPTIVE, solver=None, initial_state=None, reset=None
) -> tuple[Tensor, State]:
    """All P_t at once, then the attention matrix of all pairs of steps; the solver is not asked, the solve is exact."""
    q, k, w, v_, g, P, R = _enter(q, k, v, beta, log_decay, initial_state, reset)
    pairs, carried = between(g.transpose(1, 2)).exp(), g.cumsum(1).exp().unsqueeze(-1)
    every = torch.einsum("bhts,bshi,bshj->bthij", pairs.squeeze(-1), w, k) + carried * P.unsqueeze(1)
    level = ridge(matrix_square(every), P.dtype).unsqueeze(-1) if isinstance(ridge, AdaptiveRidge) else ridge.to(P.dtype)
    x = matrix_solve(q, level, every)
    o, R = linear_attention_dense(x, w, v_, g.squeeze(-1), 1.0, R)
    return o.to(v.dtype), State(P=every[:, -1] if q.shape[1] else P, R=R)


def cannot_eliminate(q: Tensor, *inputs: object) -> str | None:
    if q.shape[-1] > MOST_KEYS:
        return "the factors outgrow the cache"
    if any(isinstance(x, ConjugateGradient | Chebyshev) for x in inputs):
        return "it eliminates, and an iterative solver was asked for"
    return double(q, *(x for x in inputs if isinstance(x, Tensor | State)))


@form(refuses=cannot_eliminate, pays_from=1)
def ridge_attention_fused(
    q, k, v, beta, log_decay=None, ridge=ADAPTIVE, solver=None, initial_state=None, reset=None
) -> tuple[Tensor, State]:
    (B, T, H, V), K = v.shape, q.shape[-1]
    starts = matrices_of(initial_state)
    P, R = state_or_rest(starts[0], B, H, K, K), state_or_rest(starts[1], B, H, K, V)
    if T == 0:
        return v, State(P=P, R=R)
    q, k, v_, beta, log_decay = float32(q, k, v, beta, log_decay)
    q, k = (x if x.shape[2] == H else x.repeat_interleave(H // x.shape[2], dim=2) for x in (q, k))
    w = beta.unsqueeze(-1) * k
    if isinstance(ridge, AdaptiveRidge):
        Pk, _ = linear_attention_fused(k, k, w, log_decay, 1.0, P, reset)
        keep = torch.ones_like(beta) if log_decay is None else (2 * log_decay.double()).exp()
        level = ridge(diagonal_scan_fused(keep, growth(k, w, Pk), matrix_square(P), reset)[0], P.dtype)
    else:
        level = ridge.float()
    x, P = operators().gram_solve(q, k, beta, log_decay, level, P, reset)
    o, R = linear_attention_fused(x, w, v_, log_decay, 1.0, R, reset)
    return o.to(v.dtype), State(P=P, R=R)


def _enter(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, initial_state: State | None, reset: Tensor | None
) -> tuple[Tensor, ...]:
    """q, k, β k [B, T, H_v, K], v [B, T, H_v, V], log decay [B, T, H_v, 1], P, R in the working precision."""
    P, R = matrices_of(initial_state)
    q, k, v, b, g, R = enter(q, k, v, beta, log_decay, 1.0, R, reset)
    assert b is not None
    P = R.new_zeros(*R.shape[:-1], k.shape[-1]) if P is None else P.to(R.dtype)
    return q, k, b * k, v, torch.zeros_like(b) if g is None else g, P, R


class RidgeSolution(NamedTuple):
    """The queries whitened by the keys, and how well they solve their systems.

    Paper    von Oswald et al. 2025 (MesaNet), arXiv:2506.05233; Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016.
    """

    x: Tensor  # [B, T, H_v, K], (P_t + Λ_t)⁻¹ q_t
    residual: Tensor  # [B, T, H_v], |q_t - (P_t + Λ_t) x_t| / |q_t|, measured


@outside_autocast
def ridge_solve(
    q: Tensor,
    k: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    ridge: Ridge = ADAPTIVE,
    solver: Solver | None = None,
    P: Tensor | None = None,
    reset: Tensor | None = None,
) -> RidgeSolution:
    """The whitened queries by which `ridge_attention` reads, and how well they solve their systems. Arguments as there; P is the first.

    Paper    von Oswald et al. 2025 (MesaNet), arXiv:2506.05233; Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016.
    Raises   ValueError and TypeError as `ridge_attention`.
    """
    expect_numbers("q", q, k=k, beta=beta)
    expect_axes("beta", beta, "batch, time, value heads")
    v = q.new_zeros(*beta.shape, 1)
    expect_heads(q, k, v, beta, log_decay, None, reset)
    expect_gram(q, v.shape[2], beta, log_decay, ridge, P)
    expect_solver(solver)
    state = None if P is None else State(P=P, R=P[..., :1])
    q, k, w, _, g, P, _ = _enter(q, k, v, beta, log_decay, state, reset)
    x, _, residual = _solve(q, k, w, g, P, ridge, solver)
    return RidgeSolution(x, residual)


def _solve(q: Tensor, k: Tensor, w: Tensor, g: Tensor, P: Tensor, ridge: Ridge, solver: Solver | None) -> tuple[Tensor, Tensor, Tensor]:
    """x, the last P, and the relative residual."""
    square, final = gram_square(k, w, g, P)
    level = ridge(square, P.dtype).unsqueeze(-1) if isinstance(ridge, AdaptiveRidge) else ridge.to(P.dtype)
    solve = gram_solve if solver is None else partial(iterate, solver, gram_map, lambda k, w, g, P: gram_square(k, w, g, P)[0])
    x = implicit(gram_apply, solve, q, level, k, w, g, P)
    with torch.no_grad():
        return x, final, relative(q, gram_apply(x, level, k, w, g, P))


def _warn(solver: Solver | None, residual: Tensor, frames: int) -> None:
    if solver is not None and readable(residual) and not (worst := residual.amax().item()) <= 2 * solver.tolerance:
        warnings.warn(f"ridge_attention: {solver} left a residual of {worst:.1e}", stacklevel=frames)
