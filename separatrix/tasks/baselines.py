"""Forecasts that cost nothing, as yardsticks: a linear one and one that repeats the last cycle.

    AR(p)           ŷ_t = c + Σ_{i=1..p} a_i y_{t-i}, least squares over every window without a gap, then fed with its own output
    seasonal        ŷ_t = y_{t-P}, P the length of a cycle in rows; before the first cycle is over, the last value

Paper    Hyndman & Athanasopoulos 2021, Forecasting: Principles and Practice, 3rd ed., ch. 5 and 9.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Autoregression(NamedTuple):
    """Coefficients of AR(p).    weights [p], oldest first; it forecasts one channel"""

    weights: NDArray
    offset: float

    @classmethod
    def fit(cls, past: NDArray, order: int = 20) -> Autoregression:
        """past [T] with NaN for gaps; T must hold more windows than coefficients."""
        if len(past) < 2 * order + 2:
            raise ValueError(f"past has {len(past)} rows, expected at least {2 * order + 2} for order {order}. Choose a smaller order.")
        rows = np.lib.stride_tricks.sliding_window_view(past, order + 1)
        rows = rows[np.isfinite(rows).all(1)]
        if len(rows) < order + 2:
            raise ValueError(f"only {len(rows)} windows of {order + 1} rows are without a gap, expected at least {order + 2}.")
        found, *_ = np.linalg.lstsq(np.c_[rows[:, :-1], np.ones(len(rows))], rows[:, -1], rcond=None)
        return cls(found[:-1], float(found[-1]))

    def forecast(self, past: NDArray, steps: int) -> NDArray:
        """past [O, T >= p], any number of origins at once -> [O, steps]; what leaves the floating point range stays infinite"""
        order = len(self.weights)
        line = np.concatenate([bridged(past[:, -4 * order :])[:, -order:], np.empty((len(past), steps))], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(order, order + steps):
                line[:, t] = line[:, t - order : t] @ self.weights + self.offset
        return np.nan_to_num(line[:, order:], nan=np.inf, posinf=np.inf, neginf=-np.inf)


def seasonal(past: NDArray, steps: int, period: float) -> NDArray:
    """past [O, T] -> [O, steps]: the last whole cycle again and again, to the nearest row."""
    past = bridged(past)
    rows = len(past[0])
    back = np.ceil((np.arange(1, steps + 1)) / period) * period
    at = rows - 1 + np.round(np.arange(1, steps + 1) - back).astype(int)
    return past[:, np.where(at < 0, rows - 1, at)]


def bridged(past: NDArray) -> NDArray:
    """Gaps filled by straight lines, at the ends by the nearest value.    [O, T] -> [O, T]"""
    if np.isfinite(past).all():
        return past
    out = past.copy()
    for row in out:
        known = np.isfinite(row)
        if known.any():
            row[~known] = np.interp(np.flatnonzero(~known), np.flatnonzero(known), row[known])
    return out
