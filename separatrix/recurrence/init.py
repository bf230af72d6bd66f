"""Where the eigenvalues of a diagonal state space begin, and `hippo`, the matrices of a measure by its name.

    s4d_lin      A_n = -1/2 - i π n                               Fourier-like, evenly spaced frequencies
    s4d_inv      A_n = -1/2 - i (N/π) (N/(2n+1) - 1)               the law that LegS' frequencies follow for large N
    s4d_legs     the normal part of HiPPO-LegS, diagonalised       what DSS and S5 start from
    s4d_real     A_n = -(n+1)                                      decay without rotation (Mamba, Mega)
    s4d_random   real parts and frequencies at random              the baseline that shows what structure is worth
    s5           HiPPO-LegS' normal part in blocks, with its basis
    ring         |a| uniform over a ring in the disc, any angle     LRU, already discrete
    ptd          LegS itself, perturbed until it has modes         S4-PTD and S5-PTD (`ptd`)
    prophecy     LegT with a readout that predicts                 nothing to train (`prophecy`)

N is the full state size: N/2 eigenvalues are returned, one of each conjugate pair, imaginary part <= 0, for x' = A x + B u. Everything
comes in double precision, to be cast by the layer that keeps it.

Paper    Gu et al. 2022 (S4D), arXiv:2206.11893; Smith et al. 2022 (S5), arXiv:2208.04933; Orvieto et al. 2023 (LRU), arXiv:2303.06349.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.hippo import (
    Measure,
    NormalPlusLowRank,
    diagonalise,
    fout,
    lagt,
    legs,
    legt,
    nplr,
)
from separatrix.recurrence.prophecy import Prophecy, prophecy
from separatrix.recurrence.ptd import Diagonalised, ptd

__all__ = [
    "Basis",
    "Diagonalised",
    "Measure",
    "NormalPlusLowRank",
    "Prophecy",
    "fout",
    "hippo",
    "lagt",
    "legs",
    "legt",
    "nplr",
    "prophecy",
    "ptd",
    "ring",
    "s4d_inv",
    "s4d_legs",
    "s4d_lin",
    "s4d_random",
    "s4d_real",
    "s5",
]

# What each measure calls the time that it has of its own.
MEASURES = {"legs": (legs, "timescale"), "legt": (legt, "window"), "lagt": (lagt, "timescale"), "fout": (fout, "window")}


def hippo(measure: str, n: int, time: float | None = None) -> Measure:
    """x' = A x + B u of a HiPPO measure, A [N, N], B [N], float64.

    measure   "legs", "legt", "lagt" or "fout" (`recurrence/hippo.py`).
    time      its timescale or the length of its window, in the unit of t; None: as the function of that name has it.

    Paper    Gu et al. 2020, arXiv:2008.07669; Gu et al. 2022, arXiv:2206.12037.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}, expected one of {', '.join(MEASURES)}")
    matrices, own = MEASURES[measure]
    return matrices(n) if time is None else matrices(n, **{own: time})


def s4d_lin(n: int) -> tuple[Tensor, Tensor]:
    """A [N/2], B [N/2] complex128."""
    i = _pairs(n)
    return _with_ones(torch.complex(torch.full_like(i, -0.5), -torch.pi * i))


def s4d_inv(n: int) -> tuple[Tensor, Tensor]:
    """A [N/2], B [N/2] complex128."""
    i = _pairs(n)
    return _with_ones(torch.complex(torch.full_like(i, -0.5), -(n / torch.pi) * (n / (2 * i + 1) - 1)))


def s4d_real(n: int) -> tuple[Tensor, Tensor]:
    """A [N/2], B [N/2] complex128 with zero imaginary part."""
    i = _pairs(n)
    return _with_ones(torch.complex(-(i + 1), torch.zeros_like(i)))


def s4d_legs(n: int) -> tuple[Tensor, Tensor]:
    """A [N/2], B [N/2] complex128; B is LegS' own, its imaginary part kept within 2 so that no mode starts loud."""
    system = nplr(legs, n)
    return system.W, torch.complex(system.B.real, system.B.imag.clamp(-2, 2))


def s4d_random(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """A [N/2], B [N/2] complex128: real part -exp(normal), frequencies as widely spread as those of `s4d_lin`."""
    normal = torch.randn(2, n // 2, generator=generator, dtype=torch.float64)
    return _with_ones(torch.complex(-normal[0].exp(), -torch.pi * (n / 2) * normal[1].abs()))


class Basis(NamedTuple):
    """Eigenvalues and the way into and out of their basis.   W [P'], V [P, P'], V_inverse [P', P], complex128"""

    W: Tensor
    V: Tensor
    V_inverse: Tensor


def s5(n: int, blocks: int = 1, conjugate: bool = True) -> Basis:
    """HiPPO-LegS' normal part for a state of `n` in equal blocks; with `conjugate` only one of each pair, P' = n/2, else P' = n."""
    if n % blocks or (conjugate and (n // blocks) % 2):
        raise ValueError(f"n is {n}, expected a multiple of {'2 * ' if conjugate else ''}blocks = {2 * blocks if conjugate else blocks}")
    A, _, P = legs(n // blocks)
    W, V = diagonalise(A + P @ P.T)
    if conjugate:
        W, V = W[: n // blocks // 2], V[:, : n // blocks // 2]
    V = torch.block_diag(*[V] * blocks)
    return Basis(W.repeat(blocks), V, V.mH.contiguous())


def ring(n: int, low: float = 0.0, high: float = 1.0, phase: float = 2 * torch.pi, generator: torch.Generator | None = None) -> Tensor:
    """n multipliers, uniform by area between the radii `low` and `high`, angles uniform in [0, phase).   [n] complex128"""
    if not 0 <= low <= high <= 1:
        raise ValueError(f"low is {low} and high is {high}, expected 0 <= low <= high <= 1")
    radius, angle = torch.rand(2, n, generator=generator, dtype=torch.float64)
    return torch.polar((radius * (high**2 - low**2) + low**2).sqrt(), phase * angle)


def _pairs(n: int) -> Tensor:
    if n < 2 or n % 2:
        raise ValueError(f"n is {n}, expected an even state size: one of each conjugate pair is returned")
    return torch.arange(n // 2, dtype=torch.float64)


def _with_ones(A: Tensor) -> tuple[Tensor, Tensor]:
    return A, torch.ones_like(A)
