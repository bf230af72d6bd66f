"""What is audited: a fitted model, the series it was fitted to, and where the part it has seen ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separatrix.data import Series
from separatrix.data.clock import time_of
from separatrix.models.forecaster import ForecastModel
from separatrix.stability import dominant_period

Progress = Callable[[float, str], None]  # (share done, what is being done)


@dataclass(frozen=True)
class Subject:
    """A model and its data, as the instruments want them.

    series   all that was measured; rows 0 .. seen-1 were fitted.
    ahead    rows of the free run that is scored.
    seed     of the run and of everything random in the audit.
    channel  the one that is drawn and compared; forecasts use all.
    errors   `Forecaster.errors`, of networks on rows they were not fitted to; None without a calibration.
    noisy    whether the model corrects a linear autoregression because the fitted rows showed nothing else.
    """

    model: ForecastModel
    series: Series
    seen: int
    ahead: int
    seed: int = 0
    channel: int = 0
    errors: Tensor | None = None
    noisy: bool = False

    def __post_init__(self) -> None:
        rows, channels = self.series.values.shape
        if channels != self.model.channels:
            raise ValueError(
                f"the series has {channels} channels but the model hears {self.model.channels}. Give the series it was fitted to."
            )
        if not 8 <= self.seen <= rows:
            raise ValueError(f"seen is {self.seen} but the series has {rows} rows. Expected 8 <= seen <= {rows}.")

    @cached_property
    def values(self) -> Tensor:
        """[T, C] float64, NaN for gaps."""
        return torch.tensor(self.series.values)

    @cached_property
    def line(self) -> NDArray:
        """The channel that is drawn.    [T]"""
        return self.series.values[:, self.channel]

    @cached_property
    def unbroken(self) -> tuple[int, int]:
        """First and last + 1 of the longest stretch without a gap: instruments that read through gaps would read nonsense."""
        known = np.concatenate([[False], np.isfinite(self.line), [False]])
        starts, ends = np.flatnonzero(~known[:-1] & known[1:]), np.flatnonzero(known[:-1] & ~known[1:])
        longest = int((ends - starts).argmax())
        return int(starts[longest]), int(ends[longest])

    @cached_property
    def data(self) -> Tensor:
        """That stretch.    [T]"""
        first, last = self.unbroken
        return self.values[first:last, self.channel]

    @cached_property
    def spread(self) -> float:
        """Standard deviation of what was heard."""
        return float(np.nanstd(self.line[: self.seen])) or 1.0

    @cached_property
    def reach(self) -> tuple[float, float]:
        """Lowest and highest value ever measured."""
        return float(np.nanmin(self.line)), float(np.nanmax(self.line))

    @cached_property
    def cycle(self) -> tuple[float, str] | None:
        """Rows of a typical cycle and what the field calls it; None where no stretch is long enough to show one."""
        if self.series.period:
            return float(self.series.period), self.series.period_name
        try:
            return float(dominant_period(self.data)), self.series.period_name
        except ValueError:
            return None

    def clock(self, row: int) -> str:
        """The time of a row in words, "" where the series has none."""
        return time_of(self.series, row)

    @property
    def unit(self) -> str:
        """What one row is called: the unit of time when a row is one of it, else a sample."""
        unit = self.series.unit
        return unit if self.series.step == 1 and unit.isalpha() and len(unit) > 2 else "sample"

    @property
    def dtype(self) -> str:
        return str(next(self.model.parameters()).dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        unit = self.series.channel_units[self.channel]
        return self.series.names[self.channel] + (f", {unit}" if unit else "")

    @property
    def inputs(self) -> str:
        """The data in one clause."""
        rows = f"{len(self.series):,} rows of {self.series.name}"
        gaps = f", {self.series.gaps:,} values missing" if self.series.gaps else ""
        return f"{rows}{gaps}; rows 0 to {self.seen - 1:,} were fitted"

    @cached_property
    def origins(self) -> tuple[int, list[int], bool]:
        """Rows to run free, where from, and whether those rows are new to the model.

        New rows are taken when there are any; else the last third of the fitted ones, which flatters the model and is said.
        """
        rows = len(self.series)
        new = rows - self.seen >= 8
        first = self.seen if new else max(8, 2 * self.seen // 3)
        steps = max(2, min(self.ahead, rows - first))
        last = rows - steps
        found = np.unique(np.linspace(first, last, min(32, max(1, last - first + 1))).astype(int)).tolist()
        return steps, found, new
