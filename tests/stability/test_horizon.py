"""Forecast horizons: known error growth gives the known horizon, censoring is said, baselines share the origins."""

import math

import pytest
import torch

from separatrix.stability import forecast_horizon, horizon_along
from separatrix.systems import logistic, trajectory


def test_an_error_that_doubles_leaves_when_it_must():
    truth = torch.zeros(7, 30)
    error = 1e-3 * 2.0 ** torch.arange(30).expand(7, 30)
    found = forecast_horizon(truth + error, truth, scale=2.0, threshold=0.4, dt=0.5, period=2.5)
    steps = math.ceil(math.log2(0.4 * 2.0 / 1e-3))  # the first h with error > 0.8; before it, h steps held
    assert found.each.tolist() == [steps] * 7
    assert found.steps.value == steps and found.steps.kind == "estimated"
    assert found.time.value == steps * 0.5
    assert found.pulses is not None and found.pulses.value == pytest.approx(steps * 0.5 / 2.5)


def test_channels_are_measured_in_their_own_spread():
    truth = torch.zeros(1, 4, 2)
    forecast = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 10.0], [2.0, 20.0]]])
    found = forecast_horizon(forecast, truth, scale=torch.tensor([1.0, 10.0]), threshold=0.8)
    torch.testing.assert_close(found.error[0], torch.tensor([0.0, 0.5**0.5, 0.5**0.5, 2.0], dtype=torch.float64))
    assert found.each.tolist() == [3] and found.steps.kind == "measured"


def test_what_never_left_is_at_least():
    truth = torch.randn(6, 20)
    found = forecast_horizon(truth, truth, scale=1.0)
    assert found.censored.all() and found.each.tolist() == [20] * 6
    assert found.steps.low == 20 and found.steps.high is None
    assert "6 of which never left" in found.steps.how


def test_an_interval_that_reaches_what_never_left_is_open():
    truth, forecast = torch.zeros(9, 20), torch.zeros(9, 20)
    forecast[:5, 12:] = 1.0  # five of nine leave after 12 steps, four never
    found = forecast_horizon(forecast, truth, scale=1.0)
    assert found.steps.value == 12 and found.steps.kind == "estimated"
    assert found.steps.high is None and found.time.high is None and found.steps.holds(25)


def test_a_forecast_that_blew_up_has_left():
    truth = torch.zeros(1, 5)
    found = forecast_horizon(torch.tensor([[0.0, 0.0, torch.nan, torch.inf, 0.0]]), truth, scale=1.0)
    assert found.each.tolist() == [2]


def test_a_chaotic_map_is_predictable_for_log_error_over_exponent():
    """A start known to 1e-8 holds for about log(0.5 σ / 1e-8) / λ iterations."""
    x = trajectory(logistic, logistic.start, 3000)[:, 0]

    def almost(past, steps):
        return trajectory(logistic, past[-1] + 1e-8, steps)

    def persistence(past, steps):
        return past[-1:].expand(steps, 1)

    best, others = horizon_along(almost, x, range(500, 2900, 40), 60, baselines={"persistence": persistence})
    expected = math.log(0.5 * float(x.std()) / 1e-8) / 0.496
    assert best.steps.low - 2 < expected < best.steps.high + 3
    assert others["persistence"].steps.value <= 2
    assert torch.equal(others["persistence"].origins, best.origins)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 5), scale=1.0), r"\(3, 4\)"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.full((3, 4), torch.nan), scale=1.0), "truth holds NaN"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 4), scale=0.0), "scale is 0.0"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 4), scale=1.0, threshold=0.0), "threshold"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 4), scale=1.0, threshold=math.inf), "threshold is inf"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 4), scale=1.0, origins=[5, 6]), "2 origins were given, .* 3 forecasts"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 4), scale=1.0, period=0), "period is 0, expected a positive time"),
        (lambda: forecast_horizon(torch.zeros(3, 4), torch.zeros(3, 4), scale=1.0, dt=0), "dt is 0, expected a positive time"),
        (lambda: forecast_horizon(torch.zeros(3, 4, 2), torch.zeros(3, 4, 2), scale=torch.ones(3)), r"scale is \(3,\), .* 2 channels"),
        (lambda: forecast_horizon(torch.zeros(3, 4, 2), torch.zeros(3, 4, 2), scale=torch.ones(4, 2)), r"scale is \(4, 2\)"),
        (lambda: forecast_horizon(torch.zeros(3, 4) + 0j, torch.zeros(3, 4), scale=1.0), "forecast is torch.complex64"),
        (lambda: horizon_along(lambda x, n: x[:n], torch.randn(50), [45], 10), "within the 50 samples"),
        (lambda: horizon_along(lambda x, n: x[:3], torch.randn(50), [20], 10), "returned 3 steps, expected 10"),
    ],
)
def test_bad_questions_are_refused(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()
