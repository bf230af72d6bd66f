"""What every task of `separatrix bench` has in common: fits one after another, and a score for each method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

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

    def follow(self, what: str, fit: Iterator[Step]) -> tuple[Any, float]:
        """One fit to its end: what it returns, and the seconds that it took."""
        began = time.perf_counter()
        while True:
            try:
                step = next(fit)
            except StopIteration as end:
                self.done += 1
                return end.value, time.perf_counter() - began
            if self.news is not None:
                self.news((self.done + step.done) / self.count, what, step)

    def score(self, name: str, forecasters: Sequence[Forecaster], rows: Series, nmse: Callable[[Forecaster], float]) -> Score:
        """Fit `rows` with every forecaster, one a seed, and score each."""
        scores, seconds = [], []
        for forecaster in forecasters:
            _, took = self.follow(f"{rows.name}: {name}, seed {forecaster.random_state}", forecaster.fitting(rows))
            seconds.append(took)
            scores.append(nmse(forecaster))
        return Score(rows.name, name, tuple(scores), parameters(forecasters[-1].model), median(seconds))
