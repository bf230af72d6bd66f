"""Lyapunov exponents: of data and free run with the same eyes, and of the model's own equations."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from numpy.typing import NDArray

from separatrix.recurrence import State
from separatrix.report.finding import Finding, Made
from separatrix.report.measure.longrun import at_rest
from separatrix.report.sections.divergence import Growth, divergence, exponents, sign
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


@dataclass(frozen=True)
class Parting:
    """How fast nearby starts part.    character: what data and run share; trouble: what could not be measured; of_run: the estimate"""

    finding: Finding | None
    criterion: Criterion
    character: str = ""
    trouble: str = ""
    of_run: Number | None = None


def divergences(subject: Subject, run: NDArray) -> Parting:
    """The largest exponent of data and of run, with the same eyes."""
    began = time.perf_counter()
    missing = Criterion("largest exponent, model / data", None, "", 0.5, 2.0, reason="both have to be measurable")
    generator = torch.Generator().manual_seed(subject.seed)
    try:
        of_data = rosenstein(subject.data, generator=generator)
    except ValueError as error:
        return Parting(None, missing, trouble=f"Of the data: {error}")
    growths, numbers = [_growth("data", of_data, subject)], {"largest exponent of the data": _per(of_data.exponent, subject.unit)}
    trouble, of_run, rows = "", None, max(len(subject.data), 2000)
    try:
        if at_rest(run, subject.spread):
            raise ValueError("it stands still, so nothing in it parts.")
        of_run = rosenstein(torch.from_numpy(run[-rows:]), like=of_data, generator=generator)
        growths.append(_growth("model", of_run, subject))
        numbers["largest exponent of the model's free run, by the same estimate"] = _per(of_run.exponent, subject.unit)
    except ValueError as error:
        trouble = f"Of the free run: {error}"
    doubt = ""
    if of_data.verdict is not Verdict.SETTLED or (of_run is not None and of_run.verdict is not Verdict.SETTLED):
        who = "The data have" if of_data.verdict is not Verdict.SETTLED else "The free run has"
        doubt = f"{who[0].lower()}{who[1:]} no straight stretch to read one from"
        unread = f"{who} no stretch over which nearby moments part along a straight line: the exponent is a direction, not a value."
        trouble = f"{trouble} {unread}".lstrip()
    call = "draw = seeded()\nfound = [sx.stability.rosenstein(data, generator=draw)]"
    if of_run is not None:
        call += f"\nfound += [sx.stability.rosenstein(run[-{rows}:], like=found[0], generator=draw)]"
    made = Made(
        subject.inputs,
        f"{call}\nfound",
        len(run),
        subject.seed,
        "float64",
        time.perf_counter() - began,
        f"embeddings {of_data.embedding}, delay {of_data.delay}, neighbours more than {of_data.theiler} rows apart; both series alike",
    )
    finding = divergence(growths, numbers=numbers, unit=subject.unit, made=made, doubt=doubt)
    if of_run is None or trouble:
        return Parting(finding, missing, "", trouble)
    assert subject.cycle is not None  # data from which an exponent can be read are long enough to show one
    criterion, character = _compared(of_data, of_run.exponent, subject.cycle[0])
    return Parting(finding, criterion, character, "", of_run.exponent)


def _compared(of_data: Divergence, run: Number, cycle: float) -> tuple[Criterion, str]:
    """Two estimates: as a ratio where the data are chaotic, as a difference per cycle where they may not be."""
    data = of_data.exponent
    assert data.low is not None and data.high is not None and run.low is not None and run.high is not None
    if sign(data, of_data.horizon) > 0:
        ends = [x / y for x in (run.low, run.high) for y in (data.low, data.high)]
        ratio = Number(
            run.value / data.value, "estimated", min(ends), max(ends), how="ratio of the two estimates, both intervals at their ends"
        )
        criterion = Criterion(
            "largest exponent, model / data",
            ratio,
            "its largest exponent is {} times the data's",
            0.5,
            2.0,
            below="it is too regular",
            above="it is too chaotic",
            reason="half to twice that of the data, by the same estimate",
        )
        return criterion, "chaotic"
    how = "difference of the estimates times the length of a cycle"
    gap = Number((run.value - data.value) * cycle, "estimated", (run.low - data.high) * cycle, (run.high - data.low) * cycle, how=how)
    criterion = Criterion(
        "largest exponent, model - data, per cycle",
        gap,
        "its largest exponent differs by {} per cycle from the data's",
        -0.25,
        0.25,
        below="it forgets faster than the data",
        above="it is more chaotic than the data",
        reason="a quarter of an e-fold in one cycle",
    )
    return criterion, ""


def _growth(who: str, found: Divergence, subject: Subject) -> Growth:
    middle = int(found.slopes.argsort()[len(found.slopes) // 2])
    first, last = (float(v) for v in found.fits[middle])
    return Growth(who, found.steps.numpy(), found.curves[middle].numpy(), (first, last), _per(found.exponent, subject.unit))


def _per(number: Number, unit: str) -> Number:
    return Number(number.value, number.kind, number.low, number.high, f"per {unit}", number.how)


def own_exponents(subject: Subject, start: State, steps: int, estimate: Number | None) -> tuple[Finding, bool]:
    """Lyapunov exponents of the model's own equations in free run, beside the estimate from its output alone; whether it is chaotic."""
    began = time.perf_counter()
    system = subject.model.as_system(state=start)
    k = min(LEADING, system.dimension)
    found = lyapunov_spectrum(system, steps=steps, k=k, every=EVERY, generator=torch.Generator().manual_seed(subject.seed))
    if found.verdict is Verdict.DIVERGED:
        raise ValueError(f"the free run left the finite numbers at step {found.failed}.")
    values = [_per(found.number(i), subject.unit) for i in range(k)]
    call = f"sx.stability.lyapunov_spectrum(model.as_system(state=start), k={k}, steps={steps}, every={EVERY}, generator=seeded())"
    made = Made(subject.inputs, call, found.steps, subject.seed, "float64", time.perf_counter() - began, found.how)
    finding = exponents(
        values,
        estimate=estimate,
        numbers={f"Lyapunov exponent {i + 1} of the model": value for i, value in enumerate(values)},
        settled=found.verdict is Verdict.SETTLED,
        unit=subject.unit,
        made=made,
    )
    return finding, sign(values[0], steps) > 0
