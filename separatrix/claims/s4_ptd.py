"""Perturbed by a little, HiPPO-LegS has modes and is still itself at every frequency; without its low rank it is not.

Paper    Yu et al. 2023, Robustifying State-space Models for Long Sequences via Approximate Diagonalization, arXiv:2310.01698.
Scale    LegS of size 64, a perturbation of spectral norm 0.1, standard normal readouts; under a minute on one core.
Holds    the eigenvectors' condition is below 1e6 and the transfer function's H-infinity error below 0.1 of its norm, while S4D-LegS with
         the same readout is above 0.5, on 5 seeds of 5.

S4D-LegS is the normal part of A with B halved, the form that converges for smooth inputs (arXiv:2206.11893). Norms are taken of the systems
under the bilinear rule, which maps the imaginary axis to the unit circle and so changes none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.claims import Claim
from separatrix.recurrence.init import legs, ptd
from separatrix.report.ink import DATA, MODEL, RIVAL
from separatrix.stability.gain import Gain, h_infinity
from separatrix.stability.number import Number, weakest
from separatrix.systems.linear import LinearSystem

SIZE, EPS, STEP = 64, 0.1, 0.05


def on_the_circle(A: Tensor, B: Tensor, C: Tensor) -> LinearSystem:
    """C (s - A)^-1 B at s = 2/Δ (z - 1)/(z + 1), as a system in z."""
    inverse = torch.linalg.inv(torch.eye(len(A), dtype=A.dtype) - STEP / 2 * A)
    return LinearSystem(
        inverse @ (torch.eye(len(A), dtype=A.dtype) + STEP / 2 * A), STEP * inverse @ B, C @ inverse, STEP / 2 * C @ inverse @ B
    )


def difference(A: Tensor, B: Tensor, other_A: Tensor, other_B: Tensor, C: Tensor) -> LinearSystem:
    """Of two systems that are read by the same C."""
    return on_the_circle(torch.block_diag(A, other_A), torch.cat([B, other_B]), torch.cat([C, -C], dim=1))


def claim(seeds=(0, 1, 2, 3, 4)) -> Claim:
    A, B, P = legs(SIZE)
    B = B.unsqueeze(1)
    condition, perturbed, diagonal = [], [], []
    drawn: list[LinearSystem] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        modes = ptd(A, EPS, generator)
        C = torch.randn(1, SIZE, dtype=torch.float64, generator=generator)
        itself = on_the_circle(A, B, C)
        near = difference(A, B, ((modes.V * modes.W) @ modes.V_inverse).real, B, C)
        normal = difference(A, B, A + P @ P.T, B / 2, C)
        drawn = drawn or [itself, near, normal]
        size, *found = (h_infinity(system) for system in (itself, near, normal))
        condition.append(modes.condition)
        perturbed.append(_share(found[0], size))
        diagonal.append(_share(found[1], size))

    def figure(sheet) -> None:
        axes = sheet.subplots()
        resonances = torch.linalg.eigvals(A + P @ P.T).imag.abs()
        frequency = torch.cat([torch.logspace(-2, 4, 600, dtype=torch.float64), resonances]).sort().values
        for system, colour, name in zip(drawn, (DATA, MODEL, RIVAL), ("LegS itself", "error, perturbed", "error, S4D-LegS")):
            response = system.frequency_response(2 * torch.atan(frequency * STEP / 2)).abs()
            axes.loglog(frequency, response[:, 0, 0], color=colour, label=name)
        axes.set_xlabel("frequency")
        axes.set_ylabel("gain")
        axes.legend(frameon=False)
        sheet.tight_layout()

    holds = max(condition) < 1e6 and all(_most(x) < 0.1 for x in perturbed) and all(_least(x) > 0.5 for x in diagonal)
    return Claim(
        holds=holds,
        numbers={"condition": condition, "perturbed_error": perturbed, "s4d_error": diagonal},
        figure=figure,
        dtype="float64",
        seeds=seeds,
    )


def _least(number: Number) -> float:
    return number.value if number.low is None else number.low


def _most(number: Number) -> float:
    return number.value if number.high is None else number.high


def _share(error: Gain, size: Gain) -> Number:
    """Relative to the norm of LegS, between the ends that were bounded; without them it bounds nothing."""
    (least, most), (small, large) = ((norm.low, norm.high) for norm in (error.norm, size.norm))
    low, high = least / large if least is not None and large else None, most / small if most is not None and small else None
    value = error.norm.value / size.norm.value
    return Number(value, "measured" if low is None and high is None else weakest((error.norm, size.norm)), low, high)
