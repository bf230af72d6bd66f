"""Series of weather and nature: is a forecaster at least as good as a linear autoregression where most of what comes is noise?

    NMSE = mean_{o, k} (ŷ_{o+k} - y_{o+k})² / var(fitted rows),     o: origins in the rows after them, k = 1..K leads           (1)

A network alone learns the noise of the rows that it is fitted to; here that shows, because every origin lies after them. The forecaster is
fitted as it is (for these series it corrects an autoregression, `training/nonlinearity.py`), and once more without the linear part.
Errors on these rows were seen when its weight decay was chosen.

Cost     two fits of a forecaster for every series, model and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from separatrix.data import Series, load
from separatrix.tasks.baselines import Autoregression, bridged
from separatrix.tasks.score import Fits, News, Score
from separatrix.training import Forecaster

ORDER = 20
HEARD = 160  # rows before an origin: more than any order
ORIGINS = 60  # at least, where there are as many rows to start from
MODELS = ("s4d",)


class Case(NamedTuple):
    """A column, and which of its rows are for what."""

    name: str
    column: str
    start: int
    fitted: int
    later: int
    leads: int


CASES = (
    Case("nino", "nino34_anom", 0, 500, 200, 24),
    Case("co2", "co2_ppmv", 0, 1500, 500, 52),
    Case("weather_jfk", "temp", 0, 1500, 500, 48),
    Case("sunspots", "number", 1000, 600, 400, 60),
    Case("nile", "volume", 0, 70, 30, 10),
)


class Later(NamedTuple):
    """What a case comes to.    heard [O, rows], truth [O, leads] with NaN for gaps, for every origin"""

    fitted: Series
    heard: NDArray
    truth: NDArray

    def score(self, forecaster: Forecaster) -> float:
        """(1) of a fitted one."""
        with torch.no_grad():
            said, _ = forecaster.model.free_run(torch.tensor(self.heard)[:, :, None], self.truth.shape[1])
        return self.nmse(said[:, :, 0].numpy())

    def nmse(self, forecast: NDArray) -> float:
        """(1), gaps left out.    forecast [O, leads]"""
        return float(np.nanmean((forecast - self.truth) ** 2) / np.nanvar(self.fitted.values))


def later(case: Case) -> Later:
    series = load(case.name).select(case.column)
    end = case.start + case.fitted
    line = series.values[case.start : end + case.later, 0]
    last = case.fitted + case.later - case.leads
    origins = np.arange(case.fitted, last + 1, max(1, (last - case.fitted) // ORIGINS))
    filled = bridged(line[None])[0]
    heard = np.stack([filled[o - min(HEARD, case.fitted - 1) : o] for o in origins])
    truth = np.stack([line[o : o + case.leads] for o in origins])
    return Later(replace(series, values=series.values[case.start : end]), heard, truth)


def competition(
    models: Sequence[str] = MODELS, seeds: Sequence[int] = (0, 1, 2), *, settings: Mapping[str, Any] = MappingProxyType({}),
    news: News | None = None,
) -> Iterator[Score]:  # fmt: skip
    """One score after another, series by series: the mean of the fitted rows, the autoregression, every model as it is and alone.

    settings  arguments of the `Forecaster`, e.g. steps and members.
    news      called after every optimizer step.
    """
    fits = Fits(len(CASES) * len(models) * 2 * len(seeds), news)
    for case in CASES:
        found = later(case)
        rows = found.fitted.values
        yield Score(case.name, "mean", (found.nmse(np.full(found.truth.shape, np.nanmean(rows))),), 1, 0.0)
        fitted = Autoregression.fit(bridged(rows.T)[0], ORDER)
        yield Score(case.name, f"AR({ORDER})", (found.nmse(fitted.forecast(found.heard, case.leads)),), ORDER + 1, 0.0)
        for name in models:
            for linear, label in ((None, name), (False, f"{name} alone")):
                each = [Forecaster(name, linear=linear, random_state=seed, **settings) for seed in seeds]
                yield fits.score(label, each, found.fitted, found.score)
