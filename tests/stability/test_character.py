"""Character of a long run: the same system is alike, another rhythm, another range or another memory is not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from separatrix.stability import Verdict, character, dominant_period, power_spectrum
from separatrix.stability.character import autocorrelation, hellinger
from separatrix.systems import lorenz, trajectory


def z_of_lorenz(samples, start=0.0, rho=28.0):
    system = replace(lorenz, parameters={"sigma": 10.0, "rho": rho, "beta": 8 / 3})
    settled = trajectory(system, lorenz.start + start, 3000)[-1]
    return trajectory(system, settled, samples * 5, every=5)[:, 2]


def test_another_run_of_the_same_system_is_alike():
    """By the yardstick's own error rate: of twelve pairs at most one may be called different."""
    pairs = [character(z_of_lorenz(4000, start=0.05 * i), z_of_lorenz(10_000, start=1 + 0.05 * i)) for i in range(12)]
    for kind in ("rhythm", "values", "memory"):
        assert sum(getattr(found, kind).alike for found in pairs) >= 11
        assert 0.7 < np.median([getattr(found, kind).ratio.value for found in pairs]) < 1.3


def test_curves_and_numbers_belong_together():
    found = character(z_of_lorenz(2000), z_of_lorenz(3000, start=1.0))
    for close in (found.rhythm, found.values, found.memory):
        assert close.ratio.value == pytest.approx(close.distance.value / close.yardstick.value)
        assert close.distance.kind == close.yardstick.kind == "measured"
    assert found.power_data.shape == found.power_run.shape == found.frequency.shape
    assert float(found.histogram_data.sum()) == pytest.approx(1) and float(found.histogram_run.sum()) == pytest.approx(1)
    assert len(found.edges) == len(found.histogram_run) + 1


def test_what_is_different_is_seen_where_it_is_different():
    x = z_of_lorenz(4000, start=0.1)
    shifted = character(x, z_of_lorenz(8000, start=0.3) + 2 * float(x.std()))
    assert shifted.rhythm.alike and shifted.memory.alike and not shifted.values.alike
    assert shifted.values.distance.value == pytest.approx(2, abs=0.1)
    faster = character(x, z_of_lorenz(16_000, start=0.3)[::2])
    assert not faster.rhythm.alike and faster.values.alike and not faster.memory.alike
    shuffled = character(x, z_of_lorenz(8000)[torch.randperm(8000)])
    assert shuffled.values.alike and not shuffled.rhythm.alike and not shuffled.memory.alike
    assert shuffled.verdict is Verdict.DRIFTING


def test_a_run_that_settled_has_nothing_in_common():
    still = character(z_of_lorenz(4000), torch.full((5000,), 23.0))
    assert still.rhythm.distance.value == 1.0 and not still.rhythm.alike and not still.values.alike and not still.memory.alike


def test_a_strictly_periodic_series_has_a_yardstick_all_the_same():
    x = torch.tensor([1.0, 2.0, 3.0, 9.0], dtype=torch.float64).repeat(100)
    near, far = character(x, 1.0000001 * x.repeat(5)), character(x, x.repeat(5) + 0.1)
    assert near.verdict is Verdict.SETTLED and near.values.ratio.value < 1
    assert far.rhythm.alike and not far.values.alike


@pytest.mark.parametrize("period", [20, 25, 50])
def test_phase_alone_is_no_difference(period):
    box = (torch.arange(10_000) % period < period // 2).double()
    assert character(box[:400], box[7:]).verdict is Verdict.SETTLED


def test_distances_are_distances():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert hellinger(p, q) == 1.0 and hellinger(p, p) == pytest.approx(0, abs=1e-7)
    assert hellinger(p, np.array([0.25, 0.25, 0.5])) == pytest.approx(math.sqrt(1 - 2 * math.sqrt(0.125)))


def test_autocorrelation_is_the_definition():
    x = torch.randn(200, dtype=torch.float64).cumsum(0).numpy()
    c = x - x.mean()
    by_hand = [float((c[: 200 - k] * c[k:]).sum() / (c * c).sum()) for k in range(21)]
    assert autocorrelation(x, 20) == pytest.approx(by_hand, abs=1e-12)


def test_power_is_where_the_sine_is():
    t = torch.arange(2000, dtype=torch.float64) * 0.25
    frequency, power = power_spectrum(3 * torch.sin(2 * torch.pi * t / 1.87) + 5, dt=0.25)
    assert float(power.sum()) == pytest.approx(1)
    assert 1 / float(frequency[power.argmax()]) == pytest.approx(1.87, rel=0.03)
    assert dominant_period(torch.sin(2 * torch.pi * t / 1.87), dt=0.25) == pytest.approx(1.87, rel=1e-3)


@pytest.mark.parametrize(
    ("data", "run", "says"),
    [
        (torch.randn(100), torch.randn(1000), "data has 100 samples"),
        (torch.randn(1000), torch.randn(100), "run of 100"),
        (torch.randn(1000), torch.cat([torch.randn(500), torch.full((500,), torch.inf)]), "run has 500 NaN or infinite"),
        (torch.zeros(1000), torch.randn(1000), "constant"),
    ],
)
def test_what_cannot_be_compared_is_refused(data, run, says):
    with pytest.raises(ValueError, match=says):
        character(data, run)


@pytest.mark.parametrize("measure", [power_spectrum, dominant_period, lambda series, **how: character(series, series, **how)])
@pytest.mark.parametrize("dt", [0, -0.1, math.nan, math.inf])
def test_time_that_does_not_pass_is_refused(measure, dt):
    with pytest.raises(ValueError, match=f"^dt is {dt}, expected a positive time per sample"):
        measure(torch.randn(500), dt=dt)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: power_spectrum(x, segment=16.5), "segment is 16.5, expected a whole number of at least 8"),
        (lambda x: character(x, x, pieces=2.5), "pieces is 2.5, expected a whole number of at least 2"),
        (lambda x: character(x, x, bins=0), "bins is 0, expected a whole number of at least 1"),
        (lambda x: power_spectrum(x + 0j), "series is torch.complex64, expected a real tensor"),
    ],
)
def test_settings_that_mean_nothing_are_refused(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call(torch.randn(500))


def test_what_moves_only_where_no_segment_looks_has_no_spectrum():
    """The samples after the last whole segment are in none, and a run that stands still may flicker there by one rounding."""
    still = torch.full((110,), 2.5e-6, dtype=torch.float64)
    still[-1] *= 1 + 1e-7
    with pytest.raises(ValueError, match="the series is constant"):
        power_spectrum(still, segment=32)
    data = torch.sin(torch.arange(440, dtype=torch.float64))
    found = character(data, torch.cat([still, still]))
    assert found.rhythm.distance.value == 1
