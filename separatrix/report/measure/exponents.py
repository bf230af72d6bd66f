"""Lyapunov exponents: of data and free run with the same eyes, and of the model's own equations."""

from __future__ import annotations

import time

import torch
from numpy.typing import NDArray

from separatrix.recurrence import State
from separatrix.report.finding import Finding, Made
from separatrix.report.sections.divergence import Growth, divergence, exponents
from separatrix.report.subject import Subject
from separatrix.report.verdict import Criterion
from separatrix.stability import (
    Divergence,
    Number,
    Verdict,
    lyapunov_spectrum,
    rosenstein,
)

LEADING = 3  # exponents of the model
EVERY = 5  # steps between two orthonormalisations: at rates far below one per step, more often only costs time


def divergences(subject: Subject, run: NDArray) -> tuple[Finding | None, Criterion, str, str]:
    """The largest exponent of data and of run, with the same eyes.    -> finding, criterion, shared character, what is missing"""
    began = time.perf_counter()
    name = "largest exponent, model / data"
    generator = torch.Generator().manual_seed(subject.seed)
    try:
        of_data = rosenstein(subject.data, generator=generator)
    except ValueError as error:
        return None, Criterion(name, None, ""), "", f"The exponent of the data could not be measured: {error}"
    growths, numbers = [_growth("data", of_data, subject)], {"largest exponent of the data": _per(of_data.exponent, subject.unit)}
    trouble, of_model = "", None
    try:
        of_model = rosenstein(torch.from_numpy(run[-max(len(subject.data), 2000) :]), like=of_data, generator=generator)
        growths.append(_growth("model", of_model, subject))
        numbers["largest exponent of the model's free run"] = _per(of_model.exponent, subject.unit)
    except ValueError as error:
        trouble = f"The exponent of the free run could not be measured: {error}"
    if of_data.verdict is not Verdict.SETTLED:
        trouble = (
            "The data have no stretch over which nearby moments part like a straight line: their exponent is a direction, not a value."
        )
    made = Made(
        subject.inputs,
        len(run),
        subject.seed,
        "float64",
        time.perf_counter() - began,
        f"embeddings {of_data.embedding}, delay {of_data.delay}, neighbours more than {of_data.theiler} rows apart; both series alike",
    )
    finding = divergence(
        growths,
        numbers=numbers,
        unit=subject.unit,
        made=made,
        call="separatrix.stability.rosenstein(run, like=separatrix.stability.rosenstein(data))",
    )
    a, b = of_data.exponent, None if of_model is None else of_model.exponent
    settled = of_data.verdict is Verdict.SETTLED and (of_model is None or of_model.verdict is Verdict.SETTLED)
    if b is None or not settled:
        return finding, Criterion(name, None, "", reason="both have to be measurable"), "", trouble
    assert a.low is not None and a.high is not None and b.low is not None and b.high is not None
    if a.low > 0:
        ends = [x / y for x in (b.low, b.high) for y in (a.low, a.high)]
        ratio = Number(b.value / a.value, "estimated", min(ends), max(ends), how="ratio of the two estimates, both intervals at their ends")
        return (
            finding,
            Criterion(
                name,
                ratio,
                "its largest exponent is {} times the data's",
                0.5,
                2.0,
                below="it is too regular",
                above="it is too chaotic",
                reason="half to twice that of the data",
            ),
            "chaotic",
            trouble,
        )
    cycle = subject.cycle[0]
    gap = Number(
        (b.value - a.value) * cycle,
        "estimated",
        (b.low - a.high) * cycle,
        (b.high - a.low) * cycle,
        how="difference of the estimates times the length of a cycle",
    )
    return (
        finding,
        Criterion(
            "largest exponent, model - data, per cycle",
            gap,
            "its largest exponent differs by {} per cycle from the data's",
            -0.25,
            0.25,
            below="it forgets faster than the data",
            above="it is more chaotic than the data",
            reason="a quarter of an e-fold in one cycle",
        ),
        "",
        trouble,
    )


def _growth(who: str, found: Divergence, subject: Subject) -> Growth:
    middle = int(found.slopes.argsort()[len(found.slopes) // 2])
    first, last = (float(v) for v in found.fits[middle])
    return Growth(who, found.steps.numpy(), found.curves[middle].numpy(), (first, last), _per(found.exponent, subject.unit))


def _per(number: Number, unit: str) -> Number:
    return Number(number.value, number.kind, number.low, number.high, f"per {unit}", number.how)


def own_exponents(subject: Subject, start: State, steps: int) -> Finding:
    """Lyapunov exponents of the model's own equations in free run."""
    began = time.perf_counter()
    system = subject.model.as_system(state=start)
    k = min(LEADING, system.dimension)
    found = lyapunov_spectrum(system, steps=steps, k=k, every=EVERY, generator=torch.Generator().manual_seed(subject.seed))
    if found.verdict is Verdict.DIVERGED:
        raise ValueError(f"the free run left the finite numbers at step {found.failed}.")
    values = [_per(found.number(i), subject.unit) for i in range(k)]
    made = Made(subject.inputs, found.steps, subject.seed, "float64", time.perf_counter() - began, found.how)
    return exponents(
        values,
        numbers={f"Lyapunov exponent {i + 1} of the model": value for i, value in enumerate(values)},
        settled=found.verdict is Verdict.SETTLED,
        unit=subject.unit,
        made=made,
        call=f"separatrix.stability.lyapunov_spectrum(model.as_system(context), k={k}, steps={steps})",
    )
