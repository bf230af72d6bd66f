"""The Santa Fe competition, data set A: continue a chaotic laser.

    NMSE = mean_{k=1..100} (ŷ_k - y_k)² / var(y_1, ..., y_100),     heard: rows 0 to 999, forecast: rows 1000 to 1099           (1)

The forecaster hears a thousand rows and goes on alone for a hundred, across one of the laser's collapses. The mean forecast scores 1; the
winning entry scored about 0.03. The forecasters with an `lstm`, a `gru` and no memory (`mlp`) are as large as the default one and
fitted by the same recipe.

Paper    Weigend & Gershenfeld 1994, Time Series Prediction (the task); Wan 1994, ibid. (the winning entry).
Cost     one fit of a forecaster for every model and seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from separatrix.data import Series, load
from separatrix.tasks.baselines import Autoregression, seasonal
from separatrix.tasks.rivals import parameters, rival
from separatrix.training import Forecaster, Step

HEARD, STEPS = 1000, 100
ORDER = 20
MODELS = ("s4d", "lstm", "gru", "mlp")


class Score(NamedTuple):
    """How one method did: (1) for every seed; a method without seeds has one entry."""

    name: str
    nmse: tuple[float, ...]
    parameters: int
    seconds: float  # of one fit, the median

    @property
    def median(self) -> float:
        return median(self.nmse)


def nmse(forecast: NDArray, truth: NDArray) -> float:
    """(1).    forecast, truth [T] or [T, C]; 1 is what the mean of the truth would score"""
    return float(np.mean((forecast - truth) ** 2) / np.var(truth))


def split() -> tuple[Series, NDArray]:
    """What a forecaster may hear, and the hundred rows after it."""
    series = load("laser")
    return replace(series, values=series.values[:HEARD]), series.values[HEARD : HEARD + STEPS, 0]


def competition(
    models: Sequence[str] = MODELS, seeds: Sequence[int] = (0, 1, 2), *, steps: int | None = None,
    members: int | None = None, on_step: Callable[[float, str, Step], None] | None = None,
) -> Iterator[Score]:  # fmt: skip
    """One score after another: the yardsticks that cost nothing, then every model over all seeds.

    steps    optimizer steps (None: the forecaster's own).
    members  networks in each ensemble (None: the forecaster's own).
    on_step  called as on_step(share of all fits that is done, what is fitted, step) after every optimizer step.
    """
    series, truth = split()
    heard = series.values[None, :, 0]
    fitted = Autoregression.fit(heard[0], ORDER)
    yield Score(f"AR({ORDER})", (nmse(fitted.forecast(heard, STEPS)[0], truth),), ORDER + 1, 0.0)
    assert series.period is not None
    yield Score("seasonal", (nmse(seasonal(heard, STEPS, series.period)[0], truth),), 0, 0.0)
    chosen: dict[str, Any] = {name: value for name, value in (("steps", steps), ("members", members)) if value is not None}
    fits, done = len(models) * len(seeds), 0
    for name in models:
        scores, seconds, forecaster = [], [], Forecaster(name)
        for seed in seeds:
            forecaster = rival(name, Forecaster(MODELS[0], random_state=seed, **chosen).plan(series), series)
            began = time.perf_counter()
            for step in forecaster.fitting(series):
                if on_step is not None:
                    on_step((done + step.done) / fits, f"{name}, seed {seed}", step)
            done += 1
            seconds.append(time.perf_counter() - began)
            scores.append(nmse(forecaster.predict(STEPS)[:, 0], truth))
        yield Score(name, tuple(scores), parameters(forecaster.model), median(seconds))
