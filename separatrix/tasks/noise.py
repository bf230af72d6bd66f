"""Series of weather and nature: is a forecaster at least as good as a linear autoregression where most of what comes is noise?

    NMSE = mean_{o, k} (ŷ_{o+k} - y_{o+k})² / var(fitted rows),     o: origins in the rows after them, k = 1..K leads           (1)

A network alone learns the noise of the rows that it is fitted to; here that shows, because every origin lies after them. The forecaster is
fitted as it is (for these series it corrects an autoregression, `training/nonlinearity.py`), and once more without the linear part.
Errors on these rows were seen when its weight decay was chosen.

Cost     two fits of a forecaster for every series, model and seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from separatrix.data import Series, load
from separatrix.tasks.baselines import Autoregression, bridged
from separatrix.tasks.laser import Score
from separatrix.tasks.rivals import parameters
from separatrix.training import Forecaster, Step

ORDER = 20
HEARD = 96  # rows before an origin
ORIGINS = 60  # about
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
    models: Sequence[str] = MODELS, seeds: Sequence[int] = (0, 1, 2), *, steps: int | None = None,
    members: int | None = None, on_step: Callable[[float, str, Step], None] | None = None,
) -> Iterator[Score]:  # fmt: skip
    """One score after another, series by series: the autoregression, then every model as it is and alone.

    steps    optimizer steps (None: the forecaster's own).
    members  networks in each ensemble (None: the forecaster's own).
    on_step  called as on_step(share of all fits that is done, what is fitted, step) after every optimizer step.
    """
    chosen: dict[str, Any] = {name: value for name, value in (("steps", steps), ("members", members)) if value is not None}
    fits, done = len(CASES) * len(models) * 2 * len(seeds), 0
    for case in CASES:
        found = later(case)
        line = bridged(found.fitted.values.T)[0]
        fitted = Autoregression.fit(line, ORDER)
        yield Score(f"{case.name}: AR({ORDER})", (found.nmse(fitted.forecast(found.heard, case.leads)),), ORDER + 1, 0.0)
        for name in models:
            for linear, label in ((None, name), (False, f"{name} alone")):
                scores, seconds = [], []
                for seed in seeds:
                    forecaster = Forecaster(name, linear=linear, random_state=seed, **chosen)
                    began = time.perf_counter()
                    for step in forecaster.fitting(found.fitted):
                        if on_step is not None:
                            on_step((done + step.done) / fits, f"{case.name}: {label}, seed {seed}", step)
                    done += 1
                    seconds.append(time.perf_counter() - began)
                    with torch.no_grad():
                        said, _ = forecaster.model.free_run(torch.tensor(found.heard)[:, :, None], case.leads)
                    scores.append(found.nmse(said[:, :, 0].numpy()))
                yield Score(f"{case.name}: {label}", tuple(scores), parameters(forecaster.model), median(seconds))
