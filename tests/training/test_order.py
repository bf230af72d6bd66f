"""How far back a linear autoregression looks: as far as rows that were left out are forecast better for it, and no farther."""

import numpy as np
import pytest
import torch

from separatrix.data import Series, load
from separatrix.models.autoregression import RidgeAutoregression, carried
from separatrix.training import Forecaster
from separatrix.training.order import LATEST, ORDERS, order


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
    assert order(season(seed), 16, 40) in (48, 64) and order(noise(seed), 16, 40) == 16


def test_it_pays_after_the_fitted_rows():
    x = load("co2").select("co2_ppmv").values
    found = order(x[:1500], 16, 40)
    assert found > 52 and error_after(x[:2000], 1500, found, 52) < 0.2 * error_after(x[:2000], 1500, 16, 52)


# Stretches of the shipped series that `separatrix bench noise` does not score: first row, rows fitted, rows after them, leads.
STRETCHES = {
    "weather_jfk": ((2500, 1500, 500, 48), (4500, 500, 166, 48), (5500, 1500, 500, 48)),
    "nino": ((0, 300, 200, 24), (0, 500, 200, 24), (100, 500, 200, 24)),
    "sunspots": ((0, 600, 400, 60), (400, 600, 400, 60), (2000, 600, 400, 60), (0, 1200, 400, 60), (1500, 1200, 400, 60)),
    "co2": ((0, 300, 300, 52), (500, 500, 300, 52), (700, 300, 300, 52)),
}


def test_it_pays_on_many_stretches_and_costs_little_on_any():
    """The numbers in the header of `order.py`."""
    ratios = []
    for name, stretches in STRETCHES.items():
        for column, x in zip(load(name).names, load(name).values.T):
            for first, fitted, later, leads in stretches:
                rows = x[first : first + fitted + later, None]
                if (name, column, first, fitted) == ("nino", "nino34_anom", 0, 500) or np.isnan(rows[:fitted]).mean() > 0.3:
                    continue
                found = order(rows[:fitted], 16, 40)
                ratios.append(1.0 if found == 16 else error_after(rows, fitted, found, leads) / error_after(rows, fitted, 16, leads))
    assert len(ratios) > 50 and np.exp(np.mean(np.log(ratios))) < 0.9 and max(ratios) < 1.15


def error_after(rows, fitted, lags, leads):
    """Mean square error of free runs from origins after the fitted rows."""
    z = torch.tensor((rows - np.nanmean(rows[:fitted])) / np.nanstd(rows[:fitted]))
    linear = RidgeAutoregression(1, lags).double().fit(z[:fitted])
    start = torch.arange(fitted, len(z) - leads + 1, max(1, (len(z) - leads - fitted) // 60))
    said = linear.free_run(carried(z)[start[:, None] + torch.arange(-lags, 0)], leads)
    return float((said - z[start[:, None] + torch.arange(leads)]).square().nanmean())


def test_it_sees_through_gaps_and_units():
    x = season()
    whole = order(x, 16, 40)
    assert order(1e-200 * (x + 5), 16, 40) == order(1e200 * x, 16, 40) == whole
    holed = x.copy()
    holed[100:104] = holed[::90] = np.nan
    assert order(holed, 16, 40) > 16


def test_where_it_cannot_tell_it_stays():
    x = season()
    assert order(x[:180], 16, 40) == 16  # eight windows of the next order do not fit
    assert order(np.tile(x, 30), 16, 40) == 16  # nor does it into a window of 30 channels
    assert order(np.ones((600, 1)), 16, 40) == 16 and order(x, ORDERS[-1], 40) == ORDERS[-1]


def test_only_the_latest_rows_are_looked_at():
    x = np.concatenate([np.full((5, 1), 1e9), season(T=LATEST)])
    assert order(x, 16, 40) == order(x[5:], 16, 40)


def test_a_forecaster_goes_by_it_unless_told():
    rows = Series.from_array(season())
    config = Forecaster(linear=True).plan(rows)
    assert config.network.lags > 16 and config.recipe.context > config.network.lags
    assert Forecaster(lags=5, linear=True).plan(rows).network.lags == 5 and Forecaster(linear=False).plan(rows).network.lags == 16
