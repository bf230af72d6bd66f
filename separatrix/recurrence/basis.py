"""The functions whose coefficients a HiPPO state holds.

    x_n(t) = ∫ K_n(s) u(t - s) ds,   s >= 0 the time that has passed                                              (1)
    u(t - s) ≈ sum_n x_n(t) g_n(s),   ∫ K_m g_n ds = 1 if m = n else 0                                             (2)

    legs   K = e^-s g,  g = sqrt(2n+1) P_n(2e^-s - 1)          Legendre, its argument warped exponentially; s in timescales
    legt   K = g / θ,   g = sqrt(2n+1) P_n(1 - 2s/θ)           s < θ, the window
    lagt   K = L_n^α(s) e^-(1+β)s/2,   g = L_n^α(s) s^α e^-(1-β)s/2 n!/Γ(n+α+1)
    fout   K = g / θ,   g = 1, 0, then sqrt 2 (cos, sin)(2πms/θ)

For legs and lagt the system's own answer to a pulse, exp(sA) B, is K exactly. For the sliding windows a state of finite size
cannot forget at the edge: exp(sA) B only approaches K as n grows, in the mean and not at the edges.

Paper    Gu et al. 2022, arXiv:2206.12037 (warped Legendre, Fourier); Gu et al. 2020, arXiv:2008.07669 (Laguerre with α, β);
         Voelker et al. 2019, "Legendre Memory Units" (LegT is the Padé approximation of a delay).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from separatrix.recurrence.hippo import Measure, fout, lagt, legs, legt


def basis(measure: Callable[..., Measure], n: int, s: Tensor) -> Tensor:
    """K_0 ... K_{n-1} at the passed times s >= 0.   s [...] -> [..., n] float64

    measure   one of `hippo`, with its options bound: partial(legt, window=9).
    """
    return _functions(measure, n, s)[0]


def dual(measure: Callable[..., Measure], n: int, s: Tensor) -> Tensor:
    """g_0 ... g_{n-1} at s; s < 0 looks ahead of the present.   s [...] -> [..., n] float64"""
    return _functions(measure, n, s)[1]


def reconstruct(measure: Callable[..., Measure], state: Tensor, s: Tensor) -> Tensor:
    """Equation (2): what the state remembers of u at the passed times s.   state [..., n], s [S] -> [..., S]"""
    return state @ dual(measure, state.shape[-1], s).to(state.dtype).T


def _functions(measure: Callable[..., Measure], n: int, s: Tensor) -> tuple[Tensor, Tensor]:
    """K and g.   [..., n] each"""
    kind, options = options_of(measure)
    return _BASES[kind](n, s.double(), **options)


def options_of(measure: Callable[..., Measure]) -> tuple[Callable[..., Measure], dict[str, Any]]:
    """The function of `hippo` that a partial stands for, and what is bound."""
    options: dict[str, Any] = {}
    while isinstance(measure, partial):
        if measure.args:
            raise ValueError(f"measure is a partial with the arguments {measure.args}, expected only named ones such as window=9")
        options = measure.keywords | options
        measure = measure.func
    if measure not in _BASES:
        raise ValueError(f"measure is {measure!r}, expected one of {', '.join(known.__name__ for known in _BASES)}, or a partial of one")
    return measure, options


def _legs(n: int, s: Tensor, timescale: float = 1.0) -> tuple[Tensor, Tensor]:
    fade = torch.exp(-s / timescale)
    g = legendre(n, 2 * fade - 1)
    return fade.unsqueeze(-1) / timescale * g, g


def _legt(n: int, s: Tensor, window: float = 2.0) -> tuple[Tensor, Tensor]:
    g = legendre(n, 1 - 2 * s / window)
    return g / window * (s <= window).unsqueeze(-1), g


def _lagt(n: int, s: Tensor, alpha: float = 0.0, beta: float = 0.0, timescale: float = 1.0) -> tuple[Tensor, Tensor]:
    x = s / timescale
    L = torch.stack(_laguerre(n, alpha, x), dim=-1)
    i = torch.arange(n, dtype=torch.float64, device=s.device)
    norm = (torch.lgamma(i + alpha + 1) - torch.lgamma(i + 1)).exp()
    tilt = x**alpha * torch.exp(-(1 - beta) / 2 * x) if alpha else torch.exp(-(1 - beta) / 2 * x)
    return L * torch.exp(-(1 + beta) / 2 * x).unsqueeze(-1) / timescale, L * tilt.unsqueeze(-1) / norm


def _fout(n: int, s: Tensor, window: float = 2.0) -> tuple[Tensor, Tensor]:
    angle = (2 * math.pi / window) * s.unsqueeze(-1) * torch.arange(n // 2, dtype=torch.float64, device=s.device)
    g = torch.stack([angle.cos(), angle.sin()], dim=-1).flatten(-2) * 2**0.5
    g = torch.cat([torch.ones_like(g[..., :1]), g[..., 1:]], dim=-1)
    return g / window * (s <= window).unsqueeze(-1), g


_BASES: dict[Callable[..., Measure], Callable[..., tuple[Tensor, Tensor]]] = {legs: _legs, legt: _legt, lagt: _lagt, fout: _fout}


def legendre(n: int, x: Tensor) -> Tensor:
    """sqrt(2k+1) P_k(x), orthonormal under the mean over [-1, 1].   x [...] -> [..., n]"""
    values = [torch.ones_like(x), x]
    for k in range(1, n - 1):
        values.append(((2 * k + 1) * x * values[k] - k * values[k - 1]) / (k + 1))
    return torch.stack(values[:n], dim=-1) * (2 * torch.arange(n, dtype=x.dtype, device=x.device) + 1).sqrt()


def _laguerre(n: int, alpha: float, x: Tensor) -> list[Tensor]:
    values = [torch.ones_like(x), 1 + alpha - x]
    for k in range(1, n - 1):
        values.append(((2 * k + 1 + alpha - x) * values[k] - (k + alpha) * values[k - 1]) / (k + 1))
    return values[:n]
