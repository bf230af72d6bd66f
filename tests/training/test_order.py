"""How far back a linear autoregression looks: the mean of the orders for which rows left out are forecast better, in every fold."""

import numpy as np
import pytest
import torch

from separatrix.data import Series, load
from separatrix.models.autoregression import RidgeAutoregression, carried
from separatrix.report.run_folder import recipe
from separatrix.training import Forecaster
from separatrix.training.order import LATEST, LEAST, ORDERS, orders


def noise(seed, T=600):
    rng, x = np.random.default_rng(seed), np.zeros(T + 100)
    for t in range(2, len(x)):
        x[t] = 1.8 * x[t - 1] - 0.95 * x[t - 2] + rng.standard_normal()
    return x[100:, None]


def season(seed=0, T=700, period=40):
    """A pattern without a law but that it repeats, and noise."""
    rng = np.random.default_rng(seed)
    return (np.tile(rng.standard_normal(period), T // period + 1)[:T] + 0.3 * rng.standard_normal(T))[:, None]


@pytest.mark.parametrize("seed", range(3))
def test_a_season_is_seen_and_noise_is_not(seed):
    found = orders(season(seed), 16, 40)
    assert found.get(48, 0.0) + found.get(64, 0.0) > 0.9 and orders(noise(seed), 16, 40) == {16: 1.0}
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) >= LEAST


def test_it_pays_after_the_fitted_rows():
    x = load("co2").select("co2_ppmv").values
    found = orders(x[:1500], 16, 40)
    assert max(found) > 52 and error_after(x[:2000], 1500, found, 52) < 0.2 * error_after(x[:2000], 1500, {16: 1.0}, 52)


# Stretches of the shipped series that `separatrix bench noise` does not score: first row, rows fitted, rows after them, leads.
STRETCHES = {
    "weather_jfk": ((2500, 1500, 500, 48), (4500, 500, 166, 48), (5500, 1500, 500, 48)),
    "nino": ((0, 300, 200, 24), (0, 500, 200, 24), (100, 500, 200, 24)),
    "sunspots": ((0, 600, 400, 60), (400, 600, 400, 60), (2000, 600, 400, 60), (0, 1200, 400, 60), (1500, 1200, 400, 60)),
    "co2": ((0, 300, 300, 52), (500, 500, 300, 52), (700, 300, 300, 52)),
}


def test_it_pays_on_many_stretches_and_costs_nothing_on_any():
    """The numbers in the header of `order.py`."""
    ratios = []
    for name, stretches in STRETCHES.items():
        for column, x in zip(load(name).names, load(name).values.T):
            for first, fitted, later, leads in stretches:
                rows = x[first : first + fitted + later, None]
                if (name, column, first, fitted) == ("nino", "nino34_anom", 0, 500) or np.isnan(rows[:fitted]).mean() > 0.3:
                    continue
                found = orders(rows[:fitted], 16, 40)
                ratios.append(error_after(rows, fitted, found, leads) / error_after(rows, fitted, {16: 1.0}, leads))
    assert len(ratios) > 50 and np.exp(np.mean(np.log(ratios))) < 0.87 and max(ratios) < 1.02


def error_after(rows, fitted, shares, leads):
    """Mean square error of free runs from origins after the fitted rows."""
    z = torch.tensor((rows - np.nanmean(rows[:fitted])) / np.nanstd(rows[:fitted]))
    linear = RidgeAutoregression(1, max(shares)).double().fit(z[:fitted], shares)
    start = torch.arange(fitted, len(z) - leads + 1, max(1, (len(z) - leads - fitted) // 60))
    said = linear.free_run(carried(z)[start[:, None] + torch.arange(-linear.lags, 0)], leads)
    return float((said - z[start[:, None] + torch.arange(leads)]).square().nanmean())


def test_it_sees_through_gaps_and_units():
    x = season()
    whole = orders(x, 16, 40)
    # a unit changes roundings, and a share by as much
    assert orders(1e-200 * (x + 5), 16, 40) == pytest.approx(whole, abs=1e-6) == orders(1e200 * x, 16, 40)
    holed = x.copy()
    holed[100:104] = holed[::90] = np.nan
    assert max(orders(holed, 16, 40)) > 16


def test_where_it_cannot_tell_it_stays():
    x, stays = season(), {16: 1.0}
    assert orders(x[:180], 16, 40) == stays  # eight windows of the next order do not fit
    assert orders(np.tile(x, 30), 16, 40) == stays  # nor does it into a window of 30 channels
    assert orders(np.ones((600, 1)), 16, 40) == stays and orders(x, ORDERS[-1], 40) == {ORDERS[-1]: 1.0}


def test_only_the_latest_rows_are_looked_at():
    x = np.concatenate([np.full((5, 1), 1e9), season(T=LATEST)])
    assert orders(x, 16, 40) == orders(x[5:], 16, 40)


def test_a_forecaster_goes_by_it_unless_told():
    rows = Series.from_array(season())
    config = Forecaster(linear=True).plan(rows)
    assert config.network.orders == orders(rows.values, 16, 40) and config.network.lags == max(config.network.orders) > 16
    assert config.recipe.context > config.network.lags
    told, alone = Forecaster(lags=5, linear=True).plan(rows).network, Forecaster(linear=False).plan(rows).network
    assert (told.lags, told.orders) == (5, {}) and (alone.lags, alone.orders) == (16, {})
    assert Forecaster(linear=True).plan(Series.from_array(noise(0))).network.orders == {}  # one of all lags needs no shares


def test_a_run_keeps_its_orders(tmp_path):
    """In its record, in every autoregression of the fit, and where it is fitted once more with its settings."""
    rows = season()
    made = Forecaster("mlp", linear=True, steps=2, d_model=4, members=2).fit(rows, folder=tmp_path)
    again = Forecaster.load(tmp_path)
    assert again.config.network.orders == made.config.network.orders and len(made.config.network.orders) > 1
    z = made.model.scaled(torch.tensor(rows))
    assert torch.equal(made.model.linear.weight, RidgeAutoregression(1, made.model.lags).fit(z, made.config.network.orders).weight)
    assert Forecaster.of(made.config).plan(Series.from_array(rows)).differences(made.config) == []
    (longest, share), told = max(made.config.network.orders.items()), recipe(made.config, Series.from_array(rows), "").choices
    assert f"{longest} rows ({share:.0%})" in told["linear part"]
