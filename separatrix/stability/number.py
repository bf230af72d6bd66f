"""Numbers that say what they are, and the three ways a measurement can end.

    measured    found on these inputs; says nothing about others; [low, high], if given, is the range that was seen
    estimated   inferred, with an interval [low, high] that holds about 95 times in 100 what the method would say of endless data; the bias
                of a method that has one is not in it, which `how` says
    bound       proved under the assumptions named in `how`: the truth is not beyond low / high
    certified   a bound with a witness that has been checked again

Strength grows downwards, and a verdict is never stronger than its weakest number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Kind = Literal["measured", "estimated", "bound", "certified"]
KINDS: tuple[Kind, ...] = ("measured", "estimated", "bound", "certified")


class Verdict(Enum):
    """How a measurement ended."""

    SETTLED = "settled"  # the number no longer moves by more than its stated error
    DRIFTING = "drifting"  # it still moves: take it as a direction, not as a value
    DIVERGED = "diverged"  # what was measured left its domain; there is no number


@dataclass(frozen=True)
class Number:
    """One number of a report.

    value   the number itself; NaN only together with a Verdict that says why there is none.
    kind    measured, estimated, bound or certified.
    low     lower end of the interval, or proved lower bound; None where there is none.
    high    upper end, likewise.
    unit    e.g. "per step", "samples".
    how     one clause: what was done, on how much.

    Raises   ValueError for another kind and an interval that is upside down or ends in NaN.
    """

    value: float
    kind: Kind
    low: float | None = None
    high: float | None = None
    unit: str = ""
    how: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, expected one of {KINDS}.")
        for name in ("value", "low", "high"):
            given = getattr(self, name)
            if given is not None:
                missing = name != "value" and math.isnan(self.value) and math.isnan(given)  # so is the interval
                object.__setattr__(self, name, None if missing else float(given))
        if any(end is not None and math.isnan(end) for end in (self.low, self.high)):
            raise ValueError(f"the interval is [{self.low}, {self.high}], expected numbers, or None for an end that there is not.")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] is upside down.")

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        text = _short(self.value)
        if self.low is not None and self.high is not None:
            text += f" [{_short(self.low)}, {_short(self.high)}]"
        elif self.low is not None:
            text += f" (at least {_short(self.low)})"
        elif self.high is not None:
            text += f" (at most {_short(self.high)})"
        return f"{text} {self.unit}".rstrip()

    def holds(self, truth: float) -> bool:
        """Whether `truth` lies in [low, high]; an end that is None does not restrict."""
        return (self.low is None or truth >= self.low) and (self.high is None or truth <= self.high)

    def scaled(self, factor: float, unit: str) -> Number:
        """The same number in another unit; `factor` > 0."""
        if not factor > 0:
            raise ValueError(f"factor is {factor}, expected a positive one.")
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return Number(self.value * factor, self.kind, low, high, unit, self.how)


def weakest(numbers: Iterable[Number]) -> Kind:
    """The kind of the weakest number: what a verdict built on all of them may claim to be.

    Raises   ValueError for no numbers.
    """
    kinds = [number.kind for number in numbers]
    if not kinds:
        raise ValueError("no numbers were given, and a verdict without evidence is not one.")
    return min(kinds, key=KINDS.index)


def _short(x: float) -> str:
    return f"{x:.4g}"
