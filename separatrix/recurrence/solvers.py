"""Symmetric positive systems A x = b by iteration, and the derivative of a solution.

    conjugate gradients   the best x of the Krylov space span(b, A b, ...): needs no bounds, two inner products an iteration
    Chebyshev             the polynomial that is smallest on [lower, upper]: needs both bounds, no inner product

After n iterations the error is at most 2 ((√κ - 1) / (√κ + 1))ⁿ of what it was, κ = upper / lower. Chebyshev pays for a loose upper bound;
conjugate gradients pay for roundings, which take their orthogonality. A is only ever applied, so one call solves a system a step, all
steps at once. A solved system stops moving: how many iterations another one takes cannot touch it.

Largest relative error of x in `ridge_solve`, float32, 1024 systems with K = 64, keys of correlation 0.5, decays exp(-0.05 u):

    ridge                       κ bound    conjugate gradients 10    20      30        Chebyshev 10    20      30      60
    0.25 + u (Mesa)                 60                       6e-4   5e-7    5e-7                1e-1   6e-3    4e-4    5e-7
    0.05 |P| (adaptive)             21                       5e-5   5e-7    5e-7                2e-2   3e-4    3e-6    5e-7
    0.02 |P| (Gated KalmaNet)       51                       1e-3   7e-7    7e-7                1e-1   7e-3    4e-4    7e-7

A solution is differentiated as what it is, not as how it was found:

    A x = b   =>   dL/db = y,  dL/dA = -y xᵀ          Aᵀ y = dL/dx                                                (1)

which costs one more solve and keeps no iterate.

Paper    Hestenes and Stiefel 1952; Golub and Varga 1961 (Chebyshev semi-iteration).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

LinearMap = Callable[[Tensor], Tensor]
Bounds = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ConjugateGradient:
    """At most `iterations`, fewer for a system whose residual is below `tolerance` |b|.

    Paper    Hestenes and Stiefel 1952.
    """

    iterations: int = 30
    tolerance: float = 1e-5

    def solve(self, apply: LinearMap, b: Tensor, bounds: Bounds) -> Tensor:
        """x with apply(x) = b.   b [..., N], every [...] a system; the bounds are not asked for."""
        size = b.abs().amax(-1, keepdim=True)  # squares of small numbers vanish
        x, r = torch.zeros_like(b), b / torch.where(size > 0, size, 1)
        p, rr = r, (r * r).sum(-1, keepdim=True)
        enough = max(self.tolerance, torch.finfo(b.dtype).eps) ** 2 * rr  # going on after the last digit ends in 0 / 0
        for _ in range(self.iterations):
            moving = rr > enough
            Ap = apply(p)
            step = torch.where(moving, rr / torch.where(moving, (p * Ap).sum(-1, keepdim=True), 1), 0)
            x, r = x + step * p, r - step * Ap
            before, rr = rr, torch.where(moving, (r * r).sum(-1, keepdim=True), rr)
            p = r + torch.where(moving, rr / torch.where(moving, before, 1), 0) * p
        return size * x


@dataclass(frozen=True)
class Chebyshev:
    """`iterations`, always; `tolerance` is what the residual is held to afterwards.

    Paper    Golub and Varga 1961 (Chebyshev semi-iteration).
    """

    iterations: int = 30
    tolerance: float = 1e-2

    def solve(self, apply: LinearMap, b: Tensor, bounds: Bounds) -> Tensor:
        """x with apply(x) = b.   b [..., N], bounds() = lower, upper [..., 1] of the eigenvalues of A."""
        lower, upper = bounds()
        centre, spread = (upper + lower) / 2, (upper - lower) / 2
        spread = torch.maximum(spread, 1e-3 * centre)  # a single point has no polynomial; a little wider does no harm
        ratio = spread / centre
        x = step = b / centre
        r = b
        for _ in range(1, self.iterations):
            r = r - apply(step)
            ratio_next = 1 / (2 * centre / spread - ratio)
            step = ratio_next * (ratio * step + 2 / spread * r)
            x, ratio = x + step, ratio_next
        return x


Solver = ConjugateGradient | Chebyshev


class _Implicit(torch.autograd.Function):
    """solve(b, *parameters) for apply(x, *parameters) = b, differentiated by (1). The last parameter's transpose transposes A."""

    generate_vmap_rule = True

    @staticmethod
    def forward(apply: Callable[..., Tensor], solve: Callable[..., Tensor], b: Tensor, *parameters: Tensor) -> Tensor:
        return solve(b, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.map, ctx.solve = inputs[:2]
        parameters = inputs[3:]
        ctx.save_for_backward(output, *parameters)
        ctx.save_for_forward(output, *parameters)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        x, *parameters = ctx.saved_tensors
        y = implicit(ctx.map, ctx.solve, grad, *parameters[:-1], parameters[-1].mT)
        pull = torch.func.vjp(partial(ctx.map, x), *parameters)[1]
        return None, None, y, *(-gradient for gradient in pull(y))

    @staticmethod
    def jvp(ctx: Any, _apply: None, _solve: None, b: Tensor | None, *changes: Tensor | None) -> Tensor:
        x, *parameters = ctx.saved_tensors
        tangents = tuple(torch.zeros_like(p) if c is None else c for p, c in zip(parameters, changes))
        moved = torch.func.jvp(partial(ctx.map, x), tuple(parameters), tangents)[1]
        return implicit(ctx.map, ctx.solve, -moved if b is None else b - moved, *parameters)


def implicit(apply: Callable[..., Tensor], solve: Callable[..., Tensor], b: Tensor, *parameters: Tensor) -> Tensor:
    """x = solve(b, *parameters), the solution of apply(x, *parameters) = b, with derivatives that do not go through the solver.

    Where the last parameter is transposed, so is the linear map."""
    return _Implicit.apply(apply, solve, b, *parameters)
