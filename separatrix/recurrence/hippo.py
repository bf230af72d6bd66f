"""HiPPO: matrices whose state is the best polynomial summary of everything heard so far.

    x' = A x + B u          x_n(t) the coefficients of u's history in an orthogonal basis under a measure          (1)

    legs   all of the past, fading as e^-t (Legendre)     A = -sqrt(2n+1) sqrt(2k+1) below, -(n+1) on the diagonal
    legt   a sliding window (translated Legendre)         A = -1/2 sqrt(2n+1) sqrt(2k+1) (1 below and on the diagonal, else (-1)^(n-k))
    lagt   an exponential window (Laguerre)               A = -1 below, -(1+β)/2 on the diagonal
    fout   a sliding window (truncated Fourier)           A = rotation by πm on the pair (2m, 2m+1) - B Bᵀ

Every measure has a time of its own, in the unit of t: the length of the window, or the time in which the past fades by e. A and B go with
its inverse; legt and fout are written here for a window of 2. The functions whose coefficients the state holds are in `basis`; what happens
when u comes in samples is in `online` and `discretize`.

Each is a normal matrix minus a low rank: A + P Pᵀ has a constant diagonal and a skew rest, so a unitary basis diagonalises it:
A = V (W - (V*P)(V*P)*) V*, diagonal plus low rank.

Paper    Gu et al. 2020, arXiv:2008.07669; Gu et al. 2021 (S4), arXiv:2111.00396; Gu et al. 2022, arXiv:2206.12037 (FouT, timescales).
Departs  the eigenvalues of the full A are never taken from it: LegT's mean nothing in float64 from N = 32 on (`eigenvalues`);
         generalised Laguerre functions are left unnormalised, which keeps A normal plus low rank for every α.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Measure(NamedTuple):
    """x' = A x + B u with A + P Pᵀ normal.   A [N, N], B [N], P [N, r], float64"""

    A: Tensor
    B: Tensor
    P: Tensor


class NormalPlusLowRank(NamedTuple):
    """One of each conjugate pair, the most negative imaginary part first, complex128.

    W [N/2], V [N, N/2], P = V*P [N/2, r], B = V*B [N/2]
    """

    W: Tensor
    V: Tensor
    P: Tensor
    B: Tensor


def legs(n: int, timescale: float = 1.0) -> Measure:
    """The past is weighted by exp(-s / timescale), s the time that has passed since."""
    return _in_time(legs_on(None, n), timescale, "timescale")


def legs_on(device: torch.device | None, n: int) -> Measure:
    """`legs` with its numbers on that device, whatever the default one is."""
    i, root = _basis(n, device)
    A = -torch.tril(torch.outer(root, root), -1) - torch.diag(i + 1)
    return Measure(A, root, (i + 0.5).sqrt().unsqueeze(1))


def legt(n: int, window: float = 2.0) -> Measure:
    """The last `window` of the past, evenly."""
    i, root = _basis(n)
    sign = torch.where(i[:, None] >= i[None, :], 1.0, (-1.0) ** (i[:, None] - i[None, :]))
    even = i % 2 == 0
    P = torch.stack([torch.where(even, 0, root), torch.where(even, root, 0)], dim=1)
    return _in_time(Measure(-torch.outer(root, root) * sign, root, P), window, "window")


def lagt(n: int, alpha: float = 0.0, beta: float = 0.0, timescale: float = 1.0) -> Measure:
    """Generalised Laguerre functions L_n^α(s) exp(-(1+β) s / 2) of s = passed time / timescale; β < 1 hears further than the measure."""
    if not (alpha > -1 and beta > -1):
        raise ValueError(f"alpha is {alpha} and beta is {beta}, expected both above -1: below, the functions do not decay or have no norm")
    ones = torch.ones(n, dtype=torch.float64)
    A = -torch.tril(torch.ones(n, n, dtype=torch.float64), -1) - (1 + beta) / 2 * torch.eye(n, dtype=torch.float64)
    i = torch.arange(1, n, dtype=torch.float64)
    B = torch.cat([ones[:1], ((i + alpha) / i).cumprod(0)])  # binomial(n + α, n)
    return _in_time(Measure(A, B, (ones * 0.5**0.5).unsqueeze(1)), timescale, "timescale")


def fout(n: int, window: float = 2.0) -> Measure:
    """The last `window` of the past, as if it were periodic. Index 1 is a dead state: the sine of frequency 0."""
    if n % 2:
        raise ValueError(f"n is {n}, expected an even number: the Fourier basis comes in pairs")
    B = torch.zeros(n, dtype=torch.float64)
    B[0], B[2::2] = 1, 2**0.5
    turn = torch.zeros(n - 1, dtype=torch.float64)
    turn[0::2] = torch.pi * torch.arange(n // 2, dtype=torch.float64)
    A = torch.diag(turn, -1) - torch.diag(turn, 1) - torch.outer(B, B)
    return _in_time(Measure(A, B, B.unsqueeze(1)), window / 2, "window")


def nplr(measure: Callable[[int], Measure], n: int) -> NormalPlusLowRank:
    """The measure's matrices in the basis that makes their normal part diagonal."""
    if n < 2 or n % 2:
        raise ValueError(f"n is {n}, expected an even state size: one of each conjugate pair is kept")
    A, B, P = measure(n)
    W, V = diagonalise(A + P @ P.T)
    W, V = W[: n // 2], V[:, : n // 2]
    if W[-1].imag.abs() < 1e-9:
        # a frequency of zero is a plane of real vectors (FouT's first two); one complex vector spans it with its conjugate
        rest = V[:, :-1]
        plane = torch.eye(n, dtype=torch.complex128) - 2 * (rest @ rest.mH).real
        x, y = torch.linalg.svd(plane.real)[0][:, :2].T
        x, y = x * x[x.abs().argmax()].sign(), y * y[y.abs().argmax()].sign()
        V = torch.cat([rest, torch.complex(x, y).unsqueeze(1) * 0.5**0.5], dim=1)
    adjoint = V.mH
    return NormalPlusLowRank(W, V, adjoint @ P.to(V.dtype), adjoint @ B.to(V.dtype))


def diagonalise(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (ascending imaginary part) and unitary eigenvectors of a matrix with a constant diagonal and a skew rest."""
    skew = (normal - normal.T) / 2
    frequency, V = torch.linalg.eigh(skew * -1j)
    return torch.complex(normal.diagonal().mean().expand_as(frequency), frequency), V


def _in_time(measure: Measure, scale: float, name: str) -> Measure:
    if not scale > 0:
        raise ValueError(f"{name} is {scale}, expected a length of time > 0")
    return Measure(measure.A / scale, measure.B / scale, measure.P / scale**0.5)


def _basis(n: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    i = torch.arange(n, dtype=torch.float64, device=device)
    return i, (2 * i + 1).sqrt()
