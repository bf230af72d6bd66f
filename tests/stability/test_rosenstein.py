"""The exponent of a measured series: known maps and flows, the laser, and what is not chaos."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from separatrix.stability import Verdict, dominant_period, rosenstein
from separatrix.stability.rosenstein import fit_line, neighbours
from separatrix.systems import SYSTEMS, henon, logistic, trajectory

LASER = torch.from_numpy(np.loadtxt(Path(__file__).parents[2] / "separatrix" / "data" / "files" / "laser.csv", delimiter=",", skiprows=1))


def laser():
    return LASER if LASER.ndim == 1 else LASER[:, -1]


def series(name, every, samples=6000, component=0):
    system = SYSTEMS[name]
    settled = trajectory(system, system.start, 5000)[-1]
    return trajectory(system, settled, every * samples, every=every)[:, component]


@pytest.mark.parametrize(("system", "truth"), [(henon, 0.4192), (logistic, 0.4959)])
def test_maps_within_their_interval_and_a_few_percent(system, truth):
    found = rosenstein(trajectory(system, system.start, 5000)[1000:, 0])
    assert found.verdict is Verdict.SETTLED and found.exponent.kind == "estimated"
    assert found.exponent.holds(truth)
    assert float(found.exponent) == pytest.approx(truth, rel=0.03)


@pytest.mark.parametrize(("name", "every"), [("lorenz", 5), ("chen", 10), ("halvorsen", 10), ("rossler", 10), ("rucklidge", 10)])
def test_flows_within_the_bias_that_the_docstring_admits(name, every):
    found = rosenstein(series(name, every), dt=every * SYSTEMS[name].dt)
    assert -0.35 < float(found.exponent) / SYSTEMS[name].known["lyapunov"].value[0] - 1 < 0.25
    assert found.verdict is Verdict.SETTLED


def test_the_laser():
    found = rosenstein(laser(), embedding=range(4, 9), delay=2)
    assert found.exponent.holds(0.03) and 0.024 < float(found.exponent) < 0.036
    assert found.exponent.low > 0.015
    assert rosenstein(laser()).delay == 2  # what the rule chooses is what people use
    assert dominant_period(laser()) == pytest.approx(7.36, abs=0.03)


def test_a_cycle_that_repeats_exactly_does_not_diverge():
    found = rosenstein(torch.arange(1000).remainder(5).square().double())
    assert abs(float(found.exponent)) < 1e-3


def test_a_sine_does_not_diverge_and_noise_has_no_line():
    t = torch.arange(4000, dtype=torch.float64)
    sine = rosenstein(torch.sin(0.85 * t))
    assert abs(float(sine.exponent)) < 1e-4
    assert rosenstein(torch.randn(4000, dtype=torch.float64)).verdict is Verdict.DRIFTING


def test_rates_change_with_the_clock_and_nothing_changes_with_the_unit():
    x = series("lorenz", 5, 3000)
    once, slower, louder = rosenstein(x), rosenstein(x, dt=0.05), rosenstein(3 * x - 7)
    assert float(slower.exponent) == pytest.approx(float(once.exponent) / 0.05)
    torch.testing.assert_close(louder.slopes, once.slopes, atol=1e-9, rtol=1e-9)  # rounding of x alone
    torch.testing.assert_close(slower.steps, once.steps * 0.05)
    for unit in (1e200, 1e-200):  # squares of these overflow and vanish
        other = rosenstein(unit * x)
        torch.testing.assert_close(other.slopes, once.slopes, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(other.curves, once.curves + math.log(unit))


def test_data_and_model_are_seen_with_the_same_eyes():
    data = rosenstein(laser()[:2000], delay=3)
    model = rosenstein(laser()[4000:8000], like=data)
    assert (model.embedding, model.delay, model.theiler, model.horizon) == (data.embedding, data.delay, data.theiler, data.horizon)
    assert model.curves.shape == data.curves.shape == (3, data.horizon + 1)


def test_neighbours_are_those_of_a_full_search():
    points, w = np.random.default_rng(0).standard_normal((300, 3)).cumsum(0), 12
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    distance[np.abs(np.subtract.outer(np.arange(300), np.arange(300))) <= w] = np.inf
    here, there = neighbours(points, w)
    assert np.array_equal(here, np.arange(300))
    assert np.allclose(distance[here, there], distance.min(1))


def test_the_fit_follows_its_rule():
    k = np.arange(101)
    curve = np.minimum(-4 + 0.1 * k, 0.0)
    line = fit_line(curve, 0.0, first=4)
    assert line.slope == pytest.approx(0.1) and line.intercept == pytest.approx(-4)
    assert (line.first, line.last) == (4, 13) and line.sound  # a quarter of the 3.6 that are left is 0.9
    assert not fit_line(np.where(k == 0, -4.0, -0.5), 0.0, first=4).sound


def test_the_same_call_gives_the_same_interval():
    x = laser()[:1500]
    one, two, other = rosenstein(x), rosenstein(x), rosenstein(x, generator=torch.Generator().manual_seed(5))
    assert one.exponent == two.exponent
    assert one.exponent.low != other.exponent.low


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (torch.randn(100), "100 samples"),
        (torch.ones(1000), "constant"),
        (torch.cat([torch.randn(500), torch.tensor([torch.nan]), torch.randn(500)]), "first at sample 500"),
        (torch.randn(500, 2), "one quantity"),
    ],
)
def test_series_that_cannot_be_measured_are_refused(x, says):
    with pytest.raises(ValueError, match=says):
        rosenstein(x)


def test_settings_that_do_not_fit_are_refused():
    for dt in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected a positive time per sample"):
            rosenstein(torch.randn(1000), dt=dt)
    with pytest.raises(ValueError, match="delay 0"):
        rosenstein(torch.randn(1000), delay=0)
    with pytest.raises(ValueError, match="Shorten the horizon"):
        rosenstein(torch.randn(1000), horizon=900)
