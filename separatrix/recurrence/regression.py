"""What regressions of values on keys share (`ridge`, `least_squares`): the ridge, the two matrices of the state, and what is refused.

    W_t = argmin_W  Σ_{s ≤ t} β_s (decay from s to t) |v_s - Wᵀ k_s|² + tr(Wᵀ Λ W)                                  (1)

P_t, the Gram matrix of the keys under these weights, and R_t, their products with the values, are all that (1) needs of the past.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_at_least_zero, expect_numbers, expect_real, expect_shape, expect_tensor, readable
from separatrix.recurrence.solvers import Chebyshev, ConjugateGradient, Solver
from separatrix.recurrence.state import State


@dataclass(frozen=True)
class AdaptiveRidge:
    """Λ = λ_t I with λ_t = rho |P_t|_F, P_t the Gram matrix of the keys so far; 1 while it is zero, or so small that its numbers lose
    digits.

    Paper    Peng et al. 2025 (Gated KalmaNet), arXiv:2511.21016.
    """

    rho: float = 0.05

    def __call__(self, square: Tensor, dtype: torch.dtype) -> Tensor:
        """λ of |P|_F² in float64, for a P in dtype."""
        least = max((torch.finfo(dtype).tiny / torch.finfo(dtype).eps) ** 2, torch.finfo(square.dtype).tiny / torch.finfo(square.dtype).eps)
        written = square > least
        return torch.where(written, self.rho * torch.where(written, square, 1).sqrt(), 1).to(dtype)


Ridge = Tensor | AdaptiveRidge
ADAPTIVE = AdaptiveRidge()


def matrices_of(state: State | None, square: str = "P", memory: str = "R") -> tuple[Tensor | None, Tensor | None]:
    """The two parts of a state, [B, H_v, K, K] and [B, H_v, K, V]; None for rest."""
    if state is None:
        return None, None
    if not isinstance(state, State) or set(state.parts) != {square, memory}:
        came = f"State of {sorted(state.parts)}" if isinstance(state, State) else type(state).__name__
        raise ValueError(f"initial_state is a {came}, expected State({square}=..., {memory}=...) as this operation returns it")
    return state.parts[square], state.parts[memory]  # type: ignore[return-value]


def expect_solver(solver: Solver | None) -> None:
    if not isinstance(solver, ConjugateGradient | Chebyshev | None):
        raise TypeError(f"solver is a {type(solver).__name__}, expected a ConjugateGradient, a Chebyshev, or None to eliminate")


def expect_gram(q: Tensor, heads: int, beta: Tensor, log_decay: Tensor | None, ridge: Ridge, P: Tensor | None, part: str = "P") -> None:
    """Refuse what would not be positive definite, or not be a Gram matrix."""
    key = q.shape[-1]
    expect_tensor("beta", beta)
    expect_at_least_zero("beta", beta)
    if log_decay is not None and log_decay.ndim != 3:
        raise ValueError(f"log_decay is {list(log_decay.shape)}, expected [batch, time, value heads]: P stays symmetric only so")
    if isinstance(ridge, Tensor):
        expect_numbers("q", q, ridge=ridge)
        expect_real(ridge=ridge)
        expect_shape("ridge", ridge, (heads, key), "value heads, key")
        if readable(ridge) and not (least := ridge.detach().amin().item()) > 0:
            raise ValueError(f"ridge must be > 0, got min {least:.3g}")
    elif not isinstance(ridge, AdaptiveRidge):
        raise TypeError(f"ridge is a {type(ridge).__name__}, expected a tensor [value heads, key] or an AdaptiveRidge")
    elif not ridge.rho > 0:
        raise ValueError(f"ridge.rho must be > 0, got {ridge.rho:.3g}")
    if P is not None:
        name = f"initial_state.{part}"
        expect_numbers("q", q, **{name: P})
        expect_real(**{name: P})
        expect_shape(name, P, (q.shape[0], heads, key, key), "batch, value heads, key, key")
