"""Whether a series is more than linear: chaos is, noise and seasons are not, in any unit and through gaps."""

import numpy as np
import pytest
import torch

from separatrix.data import Series, load
from separatrix.training import Forecaster, nonlinearity
from separatrix.training.nonlinearity import FEWEST_ROWS, NONLINEAR

T = np.arange(600.0)


def autoregression(seed, T=600, weights=(1.8, -0.95)):
    rng, x = np.random.default_rng(seed), np.zeros(T + 100)
    for t in range(2, len(x)):
        x[t] = sum(a * x[t - 1 - i] for i, a in enumerate(weights)) + rng.standard_normal()
    return x[100:, None]


def logistic(T=500, r=3.9):
    x = [0.3]
    while len(x) < T:
        x.append(r * x[-1] * (1 - x[-1]))
    return np.array(x)[:, None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", [(0.0,), (0.9,), (1.0,), (1.8, -0.95)], ids=["white", "red", "walk", "cycles"])
def test_noise_is_linear(weights, seed):
    assert nonlinearity(autoregression(seed, weights=weights), 16, 40) > 0.94


@pytest.mark.parametrize("x", [T, np.exp(T / 70), np.sin(T / 4), np.exp(-T / 200) * np.sin(T / 5)], ids=["line", "growth", "sine", "decay"])
def test_laws_that_are_linear_are_found_linear_without_noise(x):
    assert nonlinearity(x[:, None], 16, 40) == pytest.approx(1, abs=1e-3)  # SMALL beside errors that are none


@pytest.mark.parametrize("noise, most", [(0.0, 0.65), (0.1, 0.8)])
def test_chaos_is_not(noise, most):
    x = load("laser").values[:1000]
    x = x + noise * x.std() * np.random.default_rng(0).standard_normal(x.shape)
    assert nonlinearity(x, 16, 40) < most
    assert nonlinearity(logistic(), 16, 40) < 0.7


def test_it_does_not_depend_on_units_and_sees_through_gaps():
    x = load("laser").values[:600]
    whole = nonlinearity(x, 16, 40)
    for unit, offset in ((1e-200, 0), (1e200, 0), (3.0, -1000.0)):
        assert nonlinearity(unit * (x + offset), 16, 40) == pytest.approx(whole, rel=1e-6)  # another unit rounds elsewhere
    holed = x.copy()
    holed[100:110] = holed[::50] = np.nan
    assert nonlinearity(holed, 16, 40) < NONLINEAR


def test_channels_are_judged_together_and_a_constant_one_does_not_count():
    x, still = load("laser").values[:600], np.ones((600, 1))
    alone = nonlinearity(x, 16, 40)
    # it adds its SMALL to every error
    assert nonlinearity(np.c_[x, still], 16, 40) == pytest.approx(alone, abs=1e-3) and nonlinearity(still, 16, 40) == 1
    assert alone < nonlinearity(np.c_[x, autoregression(0)], 16, 40)


def test_a_short_series_cannot_tell():
    assert nonlinearity(logistic(FEWEST_ROWS - 1), 4, 8) == 1 > nonlinearity(logistic(FEWEST_ROWS), 4, 8)


def test_what_it_takes_and_what_it_refuses():
    x = logistic()
    assert nonlinearity(x[:, 0]) == nonlinearity(x) == pytest.approx(nonlinearity(np.c_[x, np.full_like(x, np.nan)]))
    for values, words in (
        ([[[1.0]]], r"values are \(1, 1, 1\)"),
        ([1.0, np.inf], "finite numbers"),
        (np.ones((200, 0)), "values are .200, 0."),
    ):
        with pytest.raises(ValueError, match=words):
            nonlinearity(values)
    with pytest.raises(ValueError, match="lags is 0, expected a whole number of at least 1"):
        nonlinearity(x, lags=0)


def test_a_forecaster_goes_by_it_unless_told():
    noise, chaos = autoregression(0), load("laser").values[:600]
    plans = {linear: [Forecaster(linear=linear).plan(Series.from_array(x)) for x in (noise, chaos)] for linear in (None, False, True)}
    assert [plan.network.linear for plan in plans[None]] == [True, False]
    assert [plan.network.linear for plan in plans[False] + plans[True]] == [False, False, True, True]
    assert plans[None][0].recipe == plans[True][0].recipe != plans[None][1].recipe == plans[False][0].recipe
    assert plans[None][0].nonlinearity > NONLINEAR > plans[None][1].nonlinearity == plans[True][1].nonlinearity
    assert [plan.recipe.weight_decay for plan in plans[True]] == [20_000 / 600] * 2
    assert Forecaster.of(plans[None][0]).plan(Series.from_array(noise)).differences(plans[None][0]) == []


@pytest.mark.parametrize("x", [5 + 0.05 * T + np.sin(T / 4), np.exp(T / 200)], ids=["line and season", "growth"])
def test_a_trend_goes_on(x):
    forecaster = Forecaster(steps=20, members=1, d_model=8).fit(x[:500])
    assert forecaster.config.network.linear
    np.testing.assert_allclose(forecaster.predict(60), x[500:560], rtol=0.03)


def test_noise_is_forecast_almost_as_well_as_by_its_own_law():
    x = autoregression(3, T=800)
    past, later = x[:500], torch.tensor(x[500:])
    starts = torch.arange(100, 290, 10)
    truth = later[starts[:, None] + torch.arange(8), 0]

    def error(**settings):
        forecaster = Forecaster(steps=150, members=1, d_model=16, **settings).fit(past)
        heard = later[starts[:, None] + torch.arange(-forecaster.config.recipe.context, 0)]
        with torch.no_grad():
            return float((forecaster.model.free_run(heard, 8)[0][:, :, 0] - truth).square().mean().sqrt())

    before, last, law = later[starts - 2, 0], later[starts - 1, 0], []
    for _ in range(8):
        before, last = last, 1.8 * last - 0.95 * before
        law.append(last)
    best = float((torch.stack(law, dim=1) - truth).square().mean().sqrt())
    assert error() < 1.1 * best and error() < error(linear=False)
