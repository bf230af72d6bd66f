"""Is the long run like the data? Portrait, values and rhythms, each against what the data share with themselves."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, plain
from separatrix.report.measure.longrun import at_rest
from separatrix.report.sections.portrait import TELLING, overlaps, portrait
from separatrix.report.sections.statistics import Pair, histogram, spectrum
from separatrix.report.subject import Subject
from separatrix.report.verdict import Criterion
from separatrix.stability import (
    Closeness,
    Number,
    character,
)
from separatrix.stability.character import RESOLUTION

NEAR = 1.5  # times the largest distance between two pieces of the data
GRADES = ((NEAR, "are"), (3.0, "are near"), (10.0, "are not quite"), (math.inf, "are far from"))  # by the same
UNASKED = "; not asked of a run that stands still"
FEWEST = 64  # rows: halves of fewer share next to nothing, whatever they are halves of


def portraits(subject: Subject, run: NDArray) -> tuple[Finding, Criterion]:
    began = time.perf_counter()
    data = subject.data.numpy()
    if np.ptp(data) == 0:
        raise ValueError("the data are constant: they have no portrait.")
    if len(data) < FEWEST:
        raise ValueError(f"the longest stretch without a gap has {len(data)} rows: too few for a portrait, which takes {FEWEST}.")
    delay = 1 if subject.cycle is None else max(1, round(subject.cycle[0] / 4))
    found = overlaps(data, run, delay)
    call = f"from separatrix.report.sections.portrait import overlaps\noverlaps(data.numpy(), run.numpy(), {delay})"
    made = Made(subject.inputs, call, len(run), subject.seed, "float64", time.perf_counter() - began)
    still = at_rest(run, subject.spread)
    finding = portrait(data, run, delay, found, name=subject.name, unit=subject.unit, still=still, made=made)
    how = f"{found.shared.how}; over the overlap of the data's own halves"
    ratio = None if still or found.own.value < TELLING else replace(found.shared.scaled(1 / found.own.value, ""), how=how)
    return finding, Criterion(
        "overlap of portraits, against that of the data's halves",
        ratio,
        "its portrait shares {} times what two halves of the data share",
        low=0.7,
        below="it lives elsewhere",
        reason="seven tenths of what two halves of the data share" + (UNASKED if still else ""),
    )


def characters(subject: Subject, run: NDArray) -> tuple[list[Finding], list[Criterion]]:
    """Histogram and spectrum against the data's own variability; a run that stands still meets no criterion by it."""
    began, still = time.perf_counter(), at_rest(run, subject.spread)
    found = character(subject.data, torch.from_numpy(run))
    made = Made(
        subject.inputs,
        "sx.stability.character(data, run)",
        len(run),
        subject.seed,
        "float64",
        time.perf_counter() - began,
        "the data in 4 pieces, the run in up to 16 of the same length",
    )
    values, rhythm, remembered = against(found.values), against(found.rhythm), against(found.memory)
    one = histogram(
        Pair(found.edges.numpy(), found.histogram_data.numpy(), found.histogram_run.numpy()),
        name=subject.name,
        made=made,
        title=f"The long run stands still at {plain(float(f'{run[-1]:.3g}'))}: one value, where the data take many"
        if still
        else f"The values of the long run {_likeness(found.values)}",
        numbers={
            "distance of values, run to data": found.values.distance,
            "distance of values, data to data": found.values.yardstick,
            "distance of values, run to data / largest of data to data": values,
        },
    )
    two = spectrum(
        Pair(found.frequency.numpy(), found.power_data.numpy(), found.power_run.numpy()),
        unit=subject.unit,
        cycle=subject.cycle,
        made=made,
        title="The long run stands still: it has no rhythm to compare with the data's"
        if still
        else f"The rhythms of the long run {_likeness(found.rhythm)}",
        numbers={
            "distance of spectra, run to data": found.rhythm.distance,
            "distance of spectra, data to data": found.rhythm.yardstick,
            "distance of spectra, run to data / largest of data to data": rhythm,
            "distance of autocorrelations, run to data / largest of data to data": remembered,
        },
    )
    reason = f"{plain(NEAR)} times the largest distance between two pieces of the data" + (UNASKED if still else "")
    lines = [
        Criterion(
            "distance of spectra, against the data's own",
            None if still else rhythm,
            f"its spectrum is {{}} times {_yardstick(found.rhythm)}",
            high=NEAR,
            above="its rhythms are not the data's",
            reason=reason,
        ),
        Criterion(
            "distance of values, against the data's own",
            None if still else values,
            f"its values are {{}} times {_yardstick(found.values)}",
            high=NEAR,
            above="it is in other places, or for other times",
            reason=reason,
        ),
    ]
    return [one, two], lines


def against(closeness: Closeness) -> Number:
    """The median distance over the largest that two pieces of the data have.

    The interval is that of a median: 1.25 s.d. / sqrt(n), with the s.d. from the middle nine tenths of the pairs and n = 4, because no
    more than the four pieces of the data are independent.
    """
    far, line = closeness.distance, closeness.line
    low, high = far.low if far.low is not None else far.value, far.high if far.high is not None else far.value
    error = 1.96 * 1.25 * (high - low) / 3.29 / 2
    return Number(
        far.value / line,
        "estimated",
        max(0.0, far.value - error) / line,
        (far.value + error) / line,
        "",
        f"{far.how}; over the largest distance of the data to itself, or {RESOLUTION} where that is more",
    )


def _yardstick(closeness: Closeness) -> str:
    """What a number of `against` counts, to stand after "times"."""
    if closeness.line > RESOLUTION:
        return "as far from the data's as the data's own pieces are"
    return f"{RESOLUTION} away from the data's, whose own pieces differ by less"


def _likeness(closeness: Closeness) -> str:
    """The finding in words that are as strong as the number."""
    far = closeness.distance.value
    if far < RESOLUTION:
        return f"are the data's: less than {RESOLUTION} apart"
    times = far / closeness.line
    word = next(word for most, word in GRADES if times <= most)
    return f"{word} the data's: {plain(float(f'{times:.2g}'))} times {_yardstick(closeness)}"
