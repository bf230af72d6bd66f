"""How long the loss runs free, how far the window reaches and when to stop, chosen inside the rows that a forecaster of the laser hears.

    log e = log NMSE of free runs of 100 rows into a quarter of rows 0 to 999 that was left out of the fit            (1)

Rows from 1,000 on are not looked at. One setting at a time is varied around the sketch with which work on this task began. A value that is
not worse than the best by more than one standard error, of the differences between their log e quarter by quarter and seed by seed, is
level with it: these rows do not tell them apart, and other reasons may choose.

Paper    Breiman, Friedman, Olshen & Stone 1984, Classification and Regression Trees, sec. 3.4 (one standard error).
Cost     one fit for every value and seed; the sketch is fitted once for all settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from separatrix.tasks.laser import STEPS, laser_split
from separatrix.tasks.rivals import parameters
from separatrix.tasks.score import Fits, News, Score
from separatrix.training import Forecaster
from separatrix.training.calibration import calibrating
from separatrix.training.folds import log_errors
from separatrix.training.networks import build_network

MODELS = ("s4d",)
SKETCH = {"horizon": 40, "lags": 16, "steps": 1600}
VALUES = {"horizon": (24, 40, 60), "lags": (8, 16, 24), "steps": (800, 1600, 2400, 3200)}


class Trial(NamedTuple):
    """What one value of a setting comes to."""

    log_error: Tensor  # (1), [seeds, quarters]
    parameters: int
    seconds: float  # of one fit, the median

    def score(self, setting: str, name: str) -> Score:
        """The geometric mean over the quarters, for every seed."""
        return Score(f"laser, {setting}", name, tuple(self.log_error.mean(1).exp().tolist()), self.parameters, self.seconds)


def competition(
    models: Sequence[str] = MODELS, seeds: Sequence[int] = (0, 1, 2), *, settings: Mapping[str, Any] = MappingProxyType({}),
    news: News | None = None, values: Mapping[str, Sequence[int]] = MappingProxyType(VALUES),
) -> Iterator[Score]:  # fmt: skip
    """One score after another, setting by setting; the best value and those level with it are called so.

    settings  arguments of the `Forecaster` in place of the sketch's.
    news      called after every optimizer step.
    values    to try.
    """
    sketch = {**SKETCH, **settings}
    plans = [(model, setting, [{**sketch, setting: value} for value in each]) for model in models for setting, each in values.items()]
    trials: dict[tuple, Trial] = {}
    fits = Fits(len({key(model, wishes) for model, _, several in plans for wishes in several}) * len(seeds), news)
    for model, setting, several in plans:
        for wishes in several:
            if key(model, wishes) not in trials:
                trials[key(model, wishes)] = trial(fits, model, wishes, seeds)
        found = [trials[key(model, wishes)] for wishes in several]
        for wishes, each, word in zip(several, found, standing([each.log_error for each in found])):
            yield each.score(setting, f"{model}, {wishes[setting]}{word}")


def key(model: str, wishes: Mapping[str, Any]) -> tuple:
    return model, *wishes.items()


def trial(fits: Fits, model: str, wishes: Mapping[str, Any], seeds: Sequence[int]) -> Trial:
    """Networks that each leave out a quarter, fitted for every seed."""
    series, _ = laser_split()
    rows = torch.tensor(series.values)
    errors, seconds = [], []
    for seed in seeds:
        config = Forecaster(model, random_state=seed, **wishes).plan(series)
        what = f"{model}, " + ", ".join(f"{name} {value}" for name, value in wishes.items()) + f", seed {seed}"
        found, took = fits.follow(what, calibrating(config, rows, None))
        errors.append(log_errors(found[:, :, :STEPS] / rows.std(0, correction=0)))
        seconds.append(took)
    return Trial(torch.stack(errors), parameters(build_network(config.network, Generator())), median(seconds))


def standing(log_errors: Sequence[Tensor]) -> list[str]:
    """ ", best", ", level" with it, or nothing.    log_errors, each [seeds, quarters]"""
    best = min(range(len(log_errors)), key=lambda i: float(log_errors[i].mean()))
    worse = [(each - log_errors[best]).flatten() for each in log_errors]
    level = [bool(each.mean() <= each.std(correction=1) / len(each) ** 0.5) for each in worse]
    return [", best" if i == best else ", level" if near else "" for i, near in enumerate(level)]
