"""Series that leave the range they were in, which a forecaster without a linear part cannot follow.

drifts       the mean of the last tenth lies outside all of the first half
left range   the last value lies outside the fitted ones by more than a tenth of their span
below zero   an interval reaches where the series never was
held         a forecast is at the limit of a linear part, which is there so that a free run that grows stays finite
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from separatrix.data.series import Series

MEND = "This model forecasts within what it was fitted to: fit with --linear, or fit differences or logarithms of such a series."


def drifts(series: Series) -> list[str]:
    """A sentence for each channel that drifts."""
    half, tenth = len(series) // 2, max(1, len(series) // 10)
    said = []
    for name, line in zip(series.names, series.values.T):
        first, last = _measured(line[:half]), _measured(line[-tenth:])
        if len(first) > 1 and len(last) and not first.min() <= last.mean() <= first.max() and first.min() < first.max():
            said.append(f"{name!r} drifts: its last tenth lies {_side(last.mean(), first)} its first half. {MEND}")
    return said


def left_range(series: Series, fitted: int, end: int) -> list[str]:
    """A sentence for each channel that is far from its first `fitted` rows where row `end` is to come."""
    said = []
    for name, line in zip(series.names, series.values.T):
        seen, heard = _measured(line[:fitted]), _measured(line[:end])
        margin = 0.1 * (seen.max() - seen.min()) if len(seen) else 0.0
        if len(seen) and not seen.min() - margin <= heard[-1] <= seen.max() + margin:
            said.append(
                f"{name!r} is at {heard[-1]:.4g}, {_side(heard[-1], seen)} the fitted rows ({seen.min():.4g} to {seen.max():.4g}). {MEND}"
            )
    return said


def held_at_limit(series: Series, forecast: NDArray[np.float64], mean: NDArray[np.float64], limit: NDArray[np.float64]) -> list[str]:
    """A sentence for each channel of a forecast [n, C] that comes to mean - limit or mean + limit [C], where a linear part is held."""
    far = np.abs(forecast - mean).max(axis=0) > 0.95 * limit
    return [
        f"the forecast of {name!r} is held at {mean[i] + np.sign(forecast[-1, i] - mean[i]) * limit[i]:.4g}, four times as far from the "
        f"mean as any fitted value: do not trust it, nor an interval around it. Fit the newer rows too, or differences or logarithms."
        for i, name in enumerate(series.names)
        if far[i]
    ]


def below_zero(series: Series, low: NDArray[np.float64]) -> list[str]:
    """A sentence for each channel that was never negative and has a lower bound [n, C] that is."""
    return [
        f"lower bounds of {name!r} are negative though no value was: it has no even spread. Fit logarithms."
        for name, line, ends in zip(series.names, series.values.T, low.T)
        if np.nanmin(line) >= 0 and (ends < 0).any()
    ]


def _measured(line: NDArray[np.float64]) -> NDArray[np.float64]:
    return line[~np.isnan(line)]


def _side(value: float, of: NDArray[np.float64]) -> str:
    return "above" if value > of.max() else "below"
