"""A stretch of the data that forecasts ran into, and how they are scored on it.

    NMSE(n) = mean (ŷ_t - y_t)² / var(y)        over t = 1..n after the last value heard; the mean of the truth itself reaches 1     (1)

Paper    Weigend & Gershenfeld 1994, Time Series Prediction (the competition that scored free runs this way).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

LOST = 0.5  # standard deviations: a forecast farther off is lost


@dataclass(frozen=True)
class Stretch:
    """What came after row `origin`, NaN where nothing was measured.

    past    [m] values before it, as many as are drawn.
    truth   [n] values from it on.
    name    of the values, with their unit.
    unit    what one row is called.
    spread  standard deviation of the data.
    """

    past: NDArray
    truth: NDArray
    origin: int
    name: str
    unit: str
    spread: float

    @cached_property
    def variance(self) -> float:
        """Of the truth; 1 where it is constant or was not measured."""
        return float(np.nanvar(self.truth)) or 1.0 if np.isfinite(self.truth).any() else 1.0

    @property
    def leads(self) -> NDArray:
        return np.arange(1, len(self.truth) + 1)

    def nmse(self, forecast: NDArray) -> float:
        """(1) of a whole forecast.    [n] -> NaN where nothing was measured"""
        known = np.isfinite(self.truth)
        return float(np.mean((forecast[known] - self.truth[known]) ** 2) / self.variance) if known.any() else float("nan")

    def grown(self, forecast: NDArray) -> NDArray:
        """(1) up to each lead.    [n] -> [n]"""
        known = np.isfinite(self.truth)
        squares = np.where(known, forecast - np.where(known, self.truth, 0.0), 0.0) ** 2
        return np.cumsum(squares) / np.maximum(np.cumsum(known), 1) / self.variance

    def leaves(self, forecast: NDArray) -> int | None:
        """Steps before the first error of more than LOST times the spread; None: there was none."""
        known = np.isfinite(self.truth)
        apart = np.abs(np.where(known, forecast - np.where(known, self.truth, 0.0), 0.0))
        over = np.flatnonzero(~(apart <= LOST * self.spread))
        return int(over[0]) if len(over) else None


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
        squares = np.where(known, self.errors, 0.0) ** 2
        return np.cumsum(squares.sum(1), axis=1) / np.maximum(np.cumsum(known.sum(1), axis=1), 1) / variance


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
