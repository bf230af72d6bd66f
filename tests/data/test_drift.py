"""A trend is said where it matters, and a season is none."""

import numpy as np
import pytest

from separatrix import data
from separatrix.data.drift import drifts, left_range
from separatrix.data.series import Series

T = np.arange(400.0)


@pytest.mark.parametrize(
    "line, side",
    [
        (np.exp(T / 40), "above"),
        (5 - 0.05 * T + np.sin(T / 2), "below"),
        (np.sin(T / 5), None),
        (np.full(400, 3.0), None),
        (np.where(T > 350, np.nan, T), None),  # nothing measured in the last tenth
        (np.where(T < 200, np.nan, T), None),
    ],
)
def test_a_trend_is_said(line, side):
    said = drifts(Series.from_array(line, names=["x"]))
    assert len(said) == (side is not None) and all(f"'x' drifts: its last tenth lies {side} its first half." in line for line in said)


def test_where_a_series_has_gone():
    series = Series.from_array(np.stack([T, np.sin(T)], axis=1), names=["up", "round"])
    assert left_range(series, 300, 320) == []  # 20 rows beyond, of a span of 299
    (said,) = left_range(series, 300, 400)
    assert said.startswith("'up' is at 399, above the fitted rows (0 to 299).")


@pytest.mark.parametrize("name", ["laser", "lynx", "sunspots", "nile", "ecg"])
def test_shipped_series_that_stay_where_they_are(name):
    assert drifts(data.load(name)) == []
