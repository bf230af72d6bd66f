"""The verdict: four words, each decided by numbers against stated lines, never greener than the weakest evidence.

    holds               bounded over the whole free run, and every criterion is met with its whole interval
    marginal            nothing fails, but a number sits within its error of a line, or evidence is missing
    stable but wrong    bounded, but a criterion fails with its whole interval
    runs away           the free run left every reasonable range, with the step and the value that did

The order from green to red is the order above, and the verdict is the reddest that any piece of evidence asks for. A criterion accepts
values in a closed band. Its number counts with its interval: inside the band it is met, outside it fails, across an edge it is within
its error. An interval with one end is open on the other side. An *estimated* number without an interval has an unknown error and can
neither meet nor fail. NaN is missing evidence, not a value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from separatrix.report.finding import counted, plain, plural, show
from separatrix.stability.number import Number, weakest

ENOUGH = 100_000  # free-running steps that "bounded" asks for


class Standing(Enum):
    """The verdict on a run, from green to red."""

    HOLDS = "holds"
    MARGINAL = "marginal"
    WRONG = "stable but wrong"
    RUNS_AWAY = "runs away"


class Outcome(Enum):
    MET = "met"
    WITHIN_ERROR = "within its error"
    MISSING = "missing"
    FAILS = "fails"


@dataclass(frozen=True)
class Criterion:
    """A number and the closed band it has to lie in.

    name          what is compared, e.g. "spread of the long run, model / data".
    says          the number in a clause, {} standing for it: "its spread is {} times the data's".
    low, high     the band.
    below, above  what a failure on either side means, in a few words: "too regular", "settles to a fixed point".
    reason        why the line stands there.
    """

    name: str
    number: Number | None
    says: str
    low: float = -math.inf
    high: float = math.inf
    below: str = ""
    above: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"criterion {self.name!r} accepts [{self.low}, {self.high}], which holds no value. Give low <= high.")

    @property
    def band(self) -> str:
        if math.isinf(self.low):
            return "any value" if math.isinf(self.high) else f"at most {plain(self.high)}"
        return f"at least {plain(self.low)}" if math.isinf(self.high) else f"{plain(self.low)} to {plain(self.high)}"

    @property
    def outcome(self) -> Outcome:
        if self.number is None or math.isnan(self.number.value):
            return Outcome.MISSING
        low, high = span(self.number)
        if math.isnan(low):
            return Outcome.WITHIN_ERROR
        if self.low <= low and high <= self.high:
            return Outcome.MET
        return Outcome.FAILS if high < self.low or low > self.high else Outcome.WITHIN_ERROR

    @property
    def failure(self) -> str:
        assert self.number is not None
        word = self.below if self.number.value < self.low else self.above
        return (f"{word}: " if word else "") + self.says.format(plain(self.number.value))


@dataclass(frozen=True)
class Escape:
    """Where a free run left: the step, and how far out it was then, in words ("output 3.1e9, data reach 255")."""

    step: int
    where: str


@dataclass(frozen=True)
class ReportedHorizon:
    """How far forecasts hold.    steps, each one `unit`; cycle: its length in steps and what the field calls it; origins: forecasts made"""

    steps: Number
    unit: str = "step"
    cycle: tuple[float, str] | None = None
    origins: int | None = None

    @property
    def whose(self) -> str:
        return "the one forecast" if self.origins == 1 else "the median forecast"

    def __str__(self) -> str:
        if self.steps.value < 1:
            return f"less than one {self.unit}"
        value = round(self.steps.value)
        cycles = ""
        if self.cycle is not None and self.cycle[0] > 0 and (count := value / self.cycle[0]) >= 0.05:
            said = f"{count:.0f}" if count >= 3 else f"{count:.1f}"
            cycles = f" ({said} {self.cycle[1] if said == '1' else plural(self.cycle[1])})"
        # Half of the forecasts were still good at the last step that was compared.
        word = "at least" if self.steps.low == self.steps.value and self.steps.high is None else "about"
        return f"{word} {value:,} {self.unit if value == 1 else plural(self.unit)}{cycles}"


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.    carried: the two numbers of the sentence; weakest: the weakest kind among the evidence."""

    standing: Standing
    sentence: str
    carried: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    missing: tuple[str, ...]
    weakest: str
    steps: int | None
    escape: Escape | None = None


def judge(
    steps: int | None,
    criteria: Sequence[Criterion],
    *,
    escape: Escape | None = None,
    horizon: ReportedHorizon | None = None,
    character: str = "",
    enough: int = ENOUGH,
) -> Judgement:
    """Decide.    steps: free-running steps made (None: no free run); criteria: most important first; character: what data and model
    share when all is met, e.g. "chaotic"."""
    if steps is not None and steps < 0:
        raise ValueError(f"steps is {steps}, expected the number of free-running steps, or None when none were made.")
    outcomes = [criterion.outcome for criterion in criteria]
    missing = [criterion.name for criterion, outcome in zip(criteria, outcomes) if outcome is Outcome.MISSING]
    if steps is None:
        missing.insert(0, f"a free run of {enough:,} steps")
    elif steps < enough and escape is None:
        missing.insert(0, f"a free run of {enough:,} steps (only {steps:,} were made)")
    if not criteria:
        missing.append("any comparison of the long run with data")
    if horizon is not None and math.isnan(horizon.steps.value):
        horizon = None
    evidence = [c.number for c in criteria if c.number is not None and not math.isnan(c.number.value)]
    weak = weakest(evidence) if evidence else "measured"
    forecasts = f"{horizon.whose} holds for {horizon}" if horizon else "how far forecasts hold was not measured"
    bounded = f"Bounded for {steps:,} steps" if steps else "Not shown to stay bounded"
    held = (f"{steps:,} free-running steps without leaving",) if steps else ()

    carried: tuple[str, ...]
    if escape is not None:
        standing = Standing.RUNS_AWAY
        sentence, carried = (
            f"Runs away: after {counted(escape.step, 'free step')} {escape.where}.",
            (f"left at step {escape.step:,}", escape.where),
        )
    elif failing := [c for c, outcome in zip(criteria, outcomes) if outcome is Outcome.FAILS]:
        standing = Standing.WRONG
        sentence, carried = f"{bounded}, but {failing[0].failure}.", (*held, _carry(failing[0]))
    elif Outcome.WITHIN_ERROR in outcomes or missing:
        standing = Standing.MARGINAL
        close = [c for c, outcome in zip(criteria, outcomes) if outcome is Outcome.WITHIN_ERROR]
        if close:
            assert close[0].number is not None
            said = f"{close[0].says.format(show(close[0].number))}, a close call ({close[0].band} is accepted)"
            carried = (*held, _carry(close[0]))
        else:
            said, carried = f"evidence is missing: {'; '.join(missing)}", held
        sentence = f"{bounded}{', but ' if steps else ': '}{said}; {forecasts}."
    else:
        standing = Standing.HOLDS
        sentence = f"{bounded} and {character + ' ' if character else ''}like the data; {forecasts}."
        carried = (*held, f"forecast horizon {show(horizon.steps)}") if horizon else held
    if horizon is None:
        missing.append("how far forecasts hold")
    return Judgement(standing, sentence, carried, tuple(criteria), tuple(missing), weak, steps, escape)


RULES = (
    (Standing.HOLDS, f"bounded for {ENOUGH:,} free steps, and every criterion is met with its whole interval"),
    (Standing.MARGINAL, "nothing fails, but a number sits within its error of its line, or evidence is missing"),
    (Standing.WRONG, "bounded, but a criterion fails with its whole interval: the run settles, dies or wanders where the data does not"),
    (Standing.RUNS_AWAY, "the free run left every reasonable range; the step and the value are given"),
)


def span(number: Number) -> tuple[float, float]:
    """Where the truth may be.    (NaN, NaN) when a number of unknown error gives no interval"""
    low, high = number.low, number.high
    if low is None and high is None:
        return (math.nan, math.nan) if number.kind == "estimated" else (number.value, number.value)
    if number.kind != "measured":
        low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    ends = [end for end in (low, number.value, high) if end is not None]
    return min(ends), max(ends)


def _carry(criterion: Criterion) -> str:
    assert criterion.number is not None
    return f"{criterion.name} {show(criterion.number)}"
