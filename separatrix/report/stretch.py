"""A stretch of the data that forecasts ran into, and how they are scored on it.

    NMSE(n) = mean (ŷ_t - y_t)² / var(y)        over t = 1..n after the last value heard; the mean of the truth itself reaches 1     (1)

Paper    Weigend & Gershenfeld 1994, Time Series Prediction (the competition that scored free runs this way).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LOST = 0.5  # standard deviations: a forecast farther off is lost


def placed(row: int, time: str) -> str:
    """A row, and its time where it has one."""
    return f"{row:,}" + (f" ({time})" if time else "")


def no_clock(row: int) -> str:
    """The clock of a series without one."""
    return ""


def mean_so_far(squares: NDArray, known: NDArray, over: int | None = None) -> NDArray:
    """The mean of what is known up to each lead, the last axis; NaN before there is any.    over: an axis to pool"""
    sums, counts = np.where(known, squares, 0.0), known
    if over is not None:
        sums, counts = sums.sum(over), counts.sum(over)
    sums, counts = sums.cumsum(-1), counts.cumsum(-1)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


@dataclass(frozen=True)
class Stretch:
    """What came from row `origin` on, NaN where nothing was measured.

    past    [origin] all values before it.
    truth   [n] values from it on.
    name    of the values, with their unit.
    unit    what one row is called.
    spread  standard deviation of the data.
    clock   the time of a row in words, "" where the series has none.
    """

    past: NDArray
    truth: NDArray
    origin: int
    name: str
    unit: str
    spread: float
    clock: Callable[[int], str] = no_clock

    @cached_property
    def variance(self) -> float:
        """Of the truth; 1 where it is constant or was not measured."""
        return float(np.nanvar(self.truth)) or 1.0 if np.isfinite(self.truth).any() else 1.0

    @property
    def known(self) -> int:
        """Rows of the truth that were measured."""
        return int(np.isfinite(self.truth).sum())

    @property
    def heard(self) -> int:
        """The row of the last value before the origin; -1 where there is none."""
        known = np.flatnonzero(np.isfinite(self.past))
        return self.origin - len(self.past) + int(known[-1]) if len(known) else -1

    def place(self, row: int) -> str:
        """A row and its time: 359 (2013-12-25)."""
        return placed(row, self.clock(row))

    @property
    def leads(self) -> NDArray:
        return np.arange(1, len(self.truth) + 1)

    def nmse(self, forecast: NDArray) -> float:
        """(1) of a whole forecast.    [n] -> NaN where nothing was measured"""
        known = np.isfinite(self.truth)
        return float(np.mean((forecast[known] - self.truth[known]) ** 2) / self.variance) if known.any() else float("nan")

    def grown(self, forecast: NDArray) -> NDArray:
        """(1) up to each lead.    [n] -> [n], NaN before the first value that was measured"""
        return mean_so_far((forecast - self.truth) ** 2, np.isfinite(self.truth)) / self.variance

    def leaves(self, forecast: NDArray) -> Leaving:
        """Up to where no error of more than LOST times the spread was seen."""
        known = np.flatnonzero(np.isfinite(self.truth))
        over = np.flatnonzero(~(np.abs(forecast[known] - self.truth[known]) <= LOST * self.spread))
        good = known[: over[0]] if len(over) else known
        return Leaving(int(good[-1]) + 1 if len(good) else 0, len(over) > 0)


class Leaving(NamedTuple):
    """When a forecast leaves.    steps up to the last value it stayed with (0: none); seen: whether it was off afterwards"""

    steps: int
    seen: bool


@dataclass(frozen=True)
class Forecast:
    """What the model said of a stretch, and what lets one doubt it.

    values  [n].
    alone   [members, n], what each member of an ensemble forecasts when it hears only itself; None for one network.
    hidden  what errors on rows that were hidden from a fit say of this forecast; None without a calibration.
    """

    values: NDArray
    alone: NDArray | None = None
    hidden: Hidden | None = None


@dataclass(frozen=True)
class Hidden:
    """Errors of free runs into rows that were hidden from the fit, and the interval that follows from them.

    errors    [folds, origins, leads], NaN where nothing was measured.
    width     [n], half of the interval at each lead.
    coverage  share of the rows that should fall inside.
    """

    errors: NDArray
    width: NDArray
    coverage: float

    def grown(self, variance: float) -> NDArray:
        """(1) up to each lead, in every fold.    [folds, leads]"""
        known = np.isfinite(self.errors)
        return mean_so_far(np.where(known, self.errors, 0.0) ** 2, known, over=1) / variance


@dataclass(frozen=True)
class Rival:
    """A baseline that was given the same values.    forecast [n]"""

    name: str
    forecast: NDArray
    seconds: float | None = None
    note: str = ""

    @property
    def told(self) -> str:
        """What is to be said of its number."""
        took = "" if self.seconds is None else f"; fitted in {self.seconds:.1f} s"
        return (f"; {self.note}" if self.note else "") + took
