"""The yardsticks: known answers on signals they can follow exactly, and the laser's published figure."""

import numpy as np
import pytest

from separatrix.data import load
from separatrix.tasks.baselines import Autoregression, bridged, seasonal


def test_a_linear_model_continues_a_sum_of_waves():
    t = np.arange(400)
    wave = np.sin(0.3 * t) + 0.5 * np.cos(0.11 * t) + 2
    fitted = Autoregression.fit(wave[:300], order=6)
    assert np.abs(fitted.forecast(wave[None, :300], 100)[0] - wave[300:]).max() < 1e-5


def test_gaps_are_left_out_of_the_fit():
    t = np.arange(400)
    wave = np.where(t % 50 == 7, np.nan, np.sin(0.3 * t))
    assert (
        np.abs(Autoregression.fit(wave[:300], order=4).forecast(np.sin(0.3 * t)[None, :300], 50)[0] - np.sin(0.3 * t)[300:350]).max() < 1e-5
    )


def test_a_season_repeats():
    t = np.arange(60)
    assert np.array_equal(seasonal((t % 12)[None, :48].astype(float), 12, 12.0)[0], t[48:60] % 12)
    assert np.array_equal(seasonal(np.array([[3.0, 5.0]]), 3, 10.0), [[5.0, 5.0, 5.0]])  # no cycle yet: the last value


def test_the_laser_and_ar20():
    values = load("laser").values[:, 0]
    guess = Autoregression.fit(values[:1000], 20).forecast(values[None, :1000], 100)[0]
    truth = values[1000:1100]
    assert np.mean((guess - truth) ** 2) / truth.var() == pytest.approx(0.925, abs=0.01)


def test_what_runs_away_stays_infinite_and_silent():
    assert np.isinf(Autoregression(np.array([0.0, 3.0]), 0.0).forecast(np.ones((1, 10)), 2000)[0, -1])


def test_bridges_are_straight():
    assert np.array_equal(bridged(np.array([[np.nan, 1.0, np.nan, 3.0, np.nan]])), [[1.0, 1.0, 2.0, 3.0, 3.0]])


def test_too_short_is_said():
    with pytest.raises(ValueError, match="smaller order"):
        Autoregression.fit(np.ones(10), 20)
    with pytest.raises(ValueError, match="without a gap"):
        Autoregression.fit(np.where(np.arange(100) % 3 == 0, np.nan, 1.0), 5)
