"""HiPPO states are coefficients of functions in a time of their own, and that time has to be that of the task.

Paper    Gu et al. 2022, How to Train Your HiPPO, arXiv:2206.12037.
Scale    LegS, LegT and Fourier, 32 coefficients; noise of at most 4 cycles per 100 samples, a ridge readout of the input 100 samples ago;
         seconds on one core.
Holds    exp(tA) B of LegS is the exponentially warped Legendre basis within 1e-8, and for each of the three measures the readout's error
         with the measure's time equal to the delay is under a third of its error with a time ten times too short or ten times too long,
         on 5 seeds of 5.

The warm-up was lengthened after a first run, in which LegS with the longest timescale had not yet settled; the bar was met before and is as
it was. For LegT and LegS the best time is not the delay itself but within a factor of two of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.claims import Claim
from separatrix.recurrence import dense_scan
from separatrix.recurrence.basis import basis
from separatrix.recurrence.discretize import zoh_matrix
from separatrix.recurrence.init import hippo, legs
from separatrix.report.ink import MODEL, RIVAL

SIZE, DELAY, CYCLES = 32, 100, 4
MEASURES = ("legs", "legt", "fout")
TIMES = DELAY * torch.logspace(-1, 1, 9, dtype=torch.float64)  # a tenth, ..., the delay, ..., ten times


def noise(length: int, generator: torch.Generator) -> Tensor:
    """White below CYCLES per DELAY, nothing above.   [length]"""
    spectrum = torch.fft.rfft(torch.randn(length, dtype=torch.float64, generator=generator))
    spectrum[int(length * CYCLES / DELAY) :] = 0
    return torch.fft.irfft(spectrum, n=length)


def delay_error(name: str, time: float, u: Tensor) -> float:
    """Of a ridge readout of u[t - DELAY], fitted on the first half and tested on the second, relative to the signal."""
    A, B, _ = hippo(name, SIZE, time)
    a, b = zoh_matrix(A, B, torch.ones((), dtype=torch.float64))
    states, _ = dense_scan(a[None, None], u[None, :, None] * b)
    start = 50 * DELAY  # five of the longest times
    x, y = states[0, start:], u[start - DELAY : len(u) - DELAY]
    half = len(x) // 2
    gram = x[:half].T @ x[:half]
    ridge = 1e-9 * gram.diagonal().mean() * torch.eye(SIZE, dtype=torch.float64)
    readout = torch.linalg.solve(gram + ridge, x[:half].T @ y[:half])
    return float((x[half:] @ readout - y[half:]).norm() / y[half:].norm())


def claim(seeds=(0, 1, 2, 3, 4)) -> Claim:
    t = torch.linspace(0, 10, 201, dtype=torch.float64)
    A, B, _ = hippo("legs", SIZE)
    gap = float((torch.linalg.matrix_exp(t[:, None, None] * A) @ B - basis(legs, SIZE, t)).abs().max())
    errors = {name: torch.zeros(len(seeds), len(TIMES), dtype=torch.float64) for name in MEASURES}
    for i, seed in enumerate(seeds):
        u = noise(10000, torch.Generator().manual_seed(seed))
        for name in MEASURES:
            errors[name][i] = torch.tensor([delay_error(name, float(time), u) for time in TIMES])
    matched = len(TIMES) // 2
    ratios = {name: error[:, matched] / torch.minimum(error[:, 0], error[:, -1]) for name, error in errors.items()}
    numbers: dict[str, object] = {"basis_gap": gap}
    for name, error in errors.items():
        numbers |= {f"{name}_matched": error[:, matched], f"{name}_matched_over_tenfold_off": ratios[name]}

    def figure(sheet) -> None:
        axes = sheet.subplots()
        for (name, error), colour, style in zip(errors.items(), (MODEL, RIVAL, MODEL), ("-", "-", "--")):
            axes.loglog(TIMES / DELAY, error.median(0).values, style, color=colour, label=name)
        axes.set_xlabel("time of the measure, in delays")
        axes.set_ylabel("error of the delayed input")
        axes.legend(frameon=False)
        sheet.tight_layout()

    holds = gap < 1e-8 and all(float(ratio.max()) < 1 / 3 for ratio in ratios.values())
    return Claim(holds=holds, numbers=numbers, figure=figure, dtype="float64", seeds=seeds)
