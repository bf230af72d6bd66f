"""The Santa Fe competition, data set A: continue a chaotic laser.

    NMSE = mean_{k=1..100} (ŷ_k - y_k)² / var(y_1, ..., y_100),     heard: rows 0 to 999, forecast: rows 1000 to 1099           (1)

The forecaster hears a thousand rows and goes on alone for a hundred, across one of the laser's collapses. The mean forecast scores 1; the
winning entry scored about 0.03. The forecasters with an `lstm`, a `gru` and no memory (`mlp`) are as large as the default one and
fitted by the same recipe.

Paper    Weigend & Gershenfeld 1994, Time Series Prediction (the task); Wan 1994, ibid. (the winning entry).
Cost     one fit of a forecaster for every model and seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from separatrix.data import Series, load
from separatrix.tasks.baselines import Autoregression, seasonal
from separatrix.tasks.rivals import rival
from separatrix.tasks.score import Fits, News, Score
from separatrix.training import Forecaster

HEARD, STEPS = 1000, 100
ORDER = 20
MODELS = ("s4d", "lstm", "gru", "mlp")


def nmse(forecast: NDArray, truth: NDArray) -> float:
    """(1).    forecast, truth [T] or [T, C]; 1 is what the mean of the truth would score"""
    return float(np.mean((forecast - truth) ** 2) / np.var(truth))


def laser_split() -> tuple[Series, NDArray]:
    """What a forecaster may hear, and the hundred rows after it."""
    series = load("laser")
    return replace(series, values=series.values[:HEARD]), series.values[HEARD : HEARD + STEPS, 0]


def competition(
    models: Sequence[str] = MODELS, seeds: Sequence[int] = (0, 1, 2), *, settings: Mapping[str, Any] = MappingProxyType({}),
    news: News | None = None,
) -> Iterator[Score]:  # fmt: skip
    """One score after another: the yardsticks that cost nothing, then every model over all seeds.

    settings  arguments of the default `Forecaster`, which its rivals share, e.g. steps and members.
    news      called after every optimizer step.
    """
    series, truth = laser_split()
    heard = series.values[None, :, 0]
    fitted = Autoregression.fit(heard[0], ORDER)
    yield Score(series.name, f"AR({ORDER})", (nmse(fitted.forecast(heard, STEPS)[0], truth),), ORDER + 1, 0.0)
    assert series.period is not None
    yield Score(series.name, "seasonal", (nmse(seasonal(heard, STEPS, series.period)[0], truth),), 0, 0.0)
    plans = [Forecaster(MODELS[0], random_state=seed, **settings).plan(series) for seed in seeds]
    fits = Fits(len(models) * len(seeds), news)
    for name in models:
        each = [rival(name, plan, series) for plan in plans]
        yield fits.score(name, each, series, lambda forecaster: nmse(forecaster.predict(STEPS)[:, 0], truth))
