"""One very long free run: bounded, settled, dying, wandering, or away."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separatrix.recurrence import State
from separatrix.report.finding import Finding, Made, plain
from separatrix.report.sections.bound import Envelope, bounded
from separatrix.report.subject import Subject
from separatrix.report.verdict import Criterion, Escape
from separatrix.stability import Fate, FreeRun, Number
from separatrix.stability import free_run as let_go

LIMIT = 10.0  # half ranges of the data: farther out is away
STILL = 0.01  # standard deviations of the data: a run that moves less than this has come to rest
CLIPPED = 0.75  # of the clip, itself four times the farthest value that was fitted: what networks add may keep a run this far from it


def at_rest(run: NDArray, spread: float) -> bool:
    """Whether the later half of a run stands still: it has no values, rhythms or partings to compare with those of data that move."""
    return float(np.std(run[len(run) // 2 :])) < STILL * spread


@dataclass(frozen=True)
class LongRun:
    finding: Finding
    series: NDArray  # [T] the channel that is compared; only the finite part
    criterion: Criterion
    escape: Escape | None
    steps: int


def long_run(subject: Subject, start: State, steps: int, progress: Callable[[int, int], None]) -> LongRun:
    """One very long free run, with the proved box of outputs where the network has one."""
    began = time.perf_counter()
    system = subject.model.as_system(state=start, dtype=torch.float32)
    ranges = torch.tensor([[np.nanmin(column), np.nanmax(column)] for column in subject.series.values.T], dtype=torch.float64)
    middles, halves = ranges.mean(1), ranges.diff(dim=1)[:, 0] / 2
    halves = torch.where(halves > 0, halves, torch.ones_like(halves))
    run = let_go(system, steps=steps, limit=LIMIT * halves, centre=middles, progress=progress)
    observed = run.observed.reshape(-1, subject.model.channels).double()
    seen = observed[:, subject.channel].numpy()
    finite = seen[np.isfinite(seen)]
    escape = None if run.failed[0] is None else Escape(run.failed[0], _where(subject, observed, ranges, (observed - middles) / halves))
    fate = run.fate[0].value + (f" of {run.period[0]:,} steps" if run.period[0] else "")
    spread = _spread(subject, run)
    criterion = Criterion(
        "spread of the long run, model / data",
        spread,
        "its spread is {} times the data's",
        0.5,
        2.0,
        below=_still(subject, finite, "dies down" if run.fate[0] is Fate.MOVING else f"settles to a {fate}"),
        above="it wanders",
        reason="half to twice the standard deviation of the data",
    )
    numbers = {"free-running steps within the limit": run.bounded, **_extremes(subject, run, finite)}
    proved, text = _box(subject)
    numbers |= proved
    if spread is not None:
        numbers["spread of the long run, model / data"] = spread
    made = Made(
        subject.inputs,
        "sx.stability.free_run(model.as_system(state=start, dtype=torch.float32), "
        f"steps={steps}, limit={_tensor(LIMIT * halves)}, centre={_tensor(middles)})",
        steps,
        subject.seed,
        "float32",
        time.perf_counter() - began,
        f"one start, where row {subject.origins[1][0]:,} begins; fate: {fate}",
    )
    finding = bounded(
        _envelope(finite),
        subject.reach,
        numbers=numbers,
        escape=escape,
        name=subject.name,
        made=made,
        text=text,
    )
    return LongRun(finding, finite, criterion, escape, steps)


def _tensor(x: Tensor) -> str:
    """An expression that makes it again, in float32."""
    return f"torch.tensor([{', '.join(f'{value:.9g}' for value in x.tolist())}])"


def _where(subject: Subject, observed: Tensor, ranges: Tensor, apart: Tensor) -> str:
    """Which value left the limit, and the last one inside.    observed, apart (in half ranges from the middle) [T, C], ranges [C, 2]"""
    last = torch.isfinite(observed).all(1).nonzero()[-1:, 0]  # none, or one row
    farthest = int(apart[last].abs().argmax()) if len(last) else subject.channel
    inside = f"the last value inside was {plain(float(f'{float(observed[last, farthest]):.3g}'))}, " if len(last) else ""
    who = "the output" if subject.model.channels == 1 or not len(last) else subject.series.names[farthest]
    bottom, top = (plain(float(f"{end:.3g}")) for end in ranges[farthest].tolist())
    return f"{who} left {plain(LIMIT)} times the range of the data ({inside}the data reach from {bottom} to {top})"


def _still(subject: Subject, seen: NDArray, what: str) -> str:
    """Why a run that moves less than the data does. One that grows or sinks without end is stopped by the clip of the linear part."""
    linear = subject.model.linear
    if linear is not None and len(seen):
        last = (seen[-1] - float(subject.model.mean[subject.channel])) / float(subject.model.scale[subject.channel])
        if abs(last) > CLIPPED * float(linear.limit[subject.channel]) > 0:
            return f"it {'grows' if last > 0 else 'sinks'} to where its linear part is clipped"
    return f"it {what}" + (", as the best forecast of noise does" if subject.noisy else "")


def _spread(subject: Subject, run: FreeRun) -> Number | None:
    """Its standard deviation over that of the data, from the last five tenths of the run; None for a run that left or constant data."""
    tenths = run.spread.reshape(10, -1)[:, subject.channel].double().numpy()[5:] / subject.spread
    low, high = subject.reach
    if not np.isfinite(tenths).all() or high == low:
        return None
    mean, error = float(tenths.mean()), 2.78 * float(tenths.std(ddof=1)) / math.sqrt(5)  # Student's t for four degrees of freedom
    how = "standard deviation in each of the last five tenths of the long run over that of the data"
    return Number(mean, "estimated", mean - error, mean + error, how=how)


def _extremes(subject: Subject, run: FreeRun, finite: NDArray) -> dict[str, Number]:
    if not len(finite):
        return {}
    low, high = subject.reach
    farthest = float(np.abs(finite - (low + high) / 2).max()) / ((high - low) / 2 or 1.0)
    unit = subject.series.channel_units[subject.channel]
    return {
        "lowest value": replace(run.low[subject.channel], unit=unit),
        "highest value": replace(run.high[subject.channel], unit=unit),
        "largest excursion from the middle, in half ranges of the data": Number(farthest, "measured", how=f"over {len(finite):,} steps"),
    }


def _envelope(finite: NDArray) -> Envelope:
    """Of blocks that grow with time: a slow drift shows as well as a fast one."""
    ends = np.unique(np.geomspace(min(50, max(2, len(finite))), max(len(finite), 2), 80).astype(int))
    begins = np.r_[0, ends[:-1]]
    blocks = [finite[a:b] if b > a else finite[a : a + 1] for a, b in zip(begins, np.minimum(ends, len(finite)))]
    blocks = [block if len(block) else np.array([math.nan]) for block in blocks]
    return Envelope(np.array([block.min() for block in blocks]), np.array([block.max() for block in blocks]), ends.astype(float))


def _box(subject: Subject) -> tuple[dict[str, Number], str]:
    """Where every forecast must lie, by proof, and what that means for data that reach farther."""
    box = subject.model.output_range()
    if box is None:
        return {}, ""
    low, high = (float(edge[subject.channel]) for edge in box)
    unit = subject.series.channel_units[subject.channel]
    how = "the norm before the head has a fixed length, so no input and no state can bring the output beyond"
    numbers = {
        "no forecast can be below": Number(low, "bound", low=low, unit=unit, how=how),
        "no forecast can be above": Number(high, "bound", high=high, unit=unit, how=how),
    }
    between = f"below {plain(low)} or above {plain(high)}"
    text = f"Besides this run, a proof: whatever it hears, the network never forecasts {between}."
    if low > subject.reach[0] or high < subject.reach[1]:
        first, last = (plain(float(f"{edge:.4g}")) for edge in subject.reach)
        text += f" That is less than the data reach ({first} to {last}): their extremes are out of its reach."
    return numbers, text
