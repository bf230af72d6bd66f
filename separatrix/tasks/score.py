"""What every task of `separatrix bench` has in common: fits one after another, and a score for each method."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from separatrix.data import Series
from separatrix.tasks.rivals import parameters
from separatrix.training import Forecaster, Step

News = Callable[[float, str, Step], None]  # (share of all fits that is done, what is fitted, its last step)


class Score(NamedTuple):
    """How one method did on a series: the task's NMSE for every seed; a method without seeds has one entry."""

    series: str
    name: str
    nmse: tuple[float, ...]
    parameters: int
    seconds: float  # of one fit, the median

    @property
    def median(self) -> float:
        return median(self.nmse)


@dataclass
class Fits:
    """`count` fits, of which `done` are done."""

    count: int
    news: News | None = None
    done: int = 0

    def score(self, name: str, forecasters: Sequence[Forecaster], rows: Series, nmse: Callable[[Forecaster], float]) -> Score:
        """Fit `rows` with every forecaster, one a seed, and score each."""
        scores, seconds = [], []
        for forecaster in forecasters:
            began = time.perf_counter()
            for step in forecaster.fitting(rows):
                if self.news is not None:
                    self.news((self.done + step.done) / self.count, f"{rows.name}: {name}, seed {forecaster.random_state}", step)
            self.done += 1
            seconds.append(time.perf_counter() - began)
            scores.append(nmse(forecaster))
        return Score(rows.name, name, tuple(scores), parameters(forecasters[-1].model), median(seconds))
