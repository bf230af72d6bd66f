"""A trend is said where it matters, and a season is none."""

import numpy as np
import pytest

from separatrix import data
from separatrix.data.drift import below_zero, drifts, held_at_limit, left_range
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


def test_bounds_below_zero_of_what_never_was_are_said():
    series = Series.from_array(np.stack([T, T - 5, T + 1], axis=1), names=["flow", "level", "far"])
    low = np.array([[3.0, -1.0, 2.0], [-0.1, -2.0, 1.0]])
    (said,) = below_zero(series, low)
    assert said.startswith("lower bounds of 'flow' are negative though no value was")


def test_a_forecast_at_its_limit_is_said():
    series = Series.from_array(np.stack([T, T], axis=1), names=["calm", "wild"])
    (said,) = held_at_limit(series, np.array([[3.0, 2.0], [1.0, -7.9]]), np.zeros(2), np.full(2, 8.0))
    assert said.startswith("the forecast of 'wild' is held at -8, four times as far")
