"""Errors on rows that were hidden from a fit, and intervals that keep what they say."""

import math

import numpy as np
import pytest
import torch
from torch import Generator

from separatrix.data import Series
from separatrix.files import save_tensors
from separatrix.training import Forecaster
from separatrix.training.calibration import ERRORS, half_widths
from separatrix.training.folds import FOLDS, LEADS, ORIGINS, folds, out_of_fold, without
from separatrix.training.networks import build_network

TINY = dict(steps=6, horizon=4, lags=3, d_model=8, members=2)


def wave(T=120):
    return 5 + 2 * np.sin(0.6 * np.arange(T)) + 0.1 * np.cos(1.7 * np.arange(T))


def calibrated(mixer="s4d", x=None, **settings):
    x = wave() if x is None else x
    return Forecaster(mixer, **{**TINY, **settings}).fit(x).calibrate(x)


@pytest.mark.parametrize("length, heard", [(1000, 96), (301, 40), (81, 27), (40, 13)])
def test_folds_are_all_rows_but_those_that_lead_up_to_them(length, heard):
    hidden = folds(length, heard)
    rows = [row for fold in hidden for row in fold]
    assert len(hidden) == FOLDS and rows == list(range(rows[0], length)) and heard <= rows[0] < heard + FOLDS
    assert len({len(fold) for fold in hidden}) == 1


def test_a_series_too_short_for_folds_is_refused():
    forecaster = Forecaster("gru", **TINY).fit(wave(16))
    with pytest.raises(ValueError, match="has 16 rows, which leaves 2 for each of 4 folds, but 4 are needed"):
        forecaster.calibrate(wave(16))


def test_an_error_is_that_of_a_network_that_left_the_fold_out():
    x = wave(130)
    x[70:73] = np.nan
    forecaster = Forecaster("s4d", **TINY).fit(x)
    config, values = forecaster.config, torch.tensor(x[:, None])
    hidden = folds(130, config.recipe.context)
    leads = 2 * len(hidden[0]) // 3
    count = min(len(hidden[0]) - leads + 1, ORIGINS)
    model = build_network(config.network.model_copy(update=dict(members=FOLDS)), Generator().manual_seed(5)).eval()
    model.measure_scale(values)
    networks = [model.alone(i) for i in range(FOLDS)]
    found = out_of_fold(networks, values, hidden, config.recipe.context)
    assert found.shape == (FOLDS, count, leads, 1) and leads <= LEADS
    for i, rows in enumerate(hidden):
        for row, start in ((0, rows.start), (count - 1, rows.stop - leads)):
            heard = values[None, start - config.recipe.context : start]
            with torch.no_grad():
                said, _ = networks[i].free_run(heard, leads)
            expected = (values[start : start + leads] - said[0]).abs()
            # float32: all origins at once and one by itself
            torch.testing.assert_close(found[i, row], expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def test_the_linear_part_of_a_fold_leaves_it_out_too():
    x, heard = torch.tensor(wave()[:, None]), 40
    rows = folds(len(x), heard)[1]
    other = x.clone()
    other[list(rows)] = 100 * torch.rand(len(rows), 1, generator=Generator().manual_seed(0), dtype=torch.float64)
    model = build_network(Forecaster("gru", **TINY, linear=True).plan(Series.from_array(x.numpy())).network, Generator().manual_seed(0))
    weights = [without(model.alone(0), values, rows).linear.weight for values in (x, other)]
    assert torch.equal(*weights) and bool(weights[0].any()) and not bool(model.linear.weight.any())


@pytest.mark.parametrize("mixer, members", [("attention", 2), ("mamba", 1)])
def test_every_model_has_an_interval_and_keeps_its_forecast(mixer, members):
    x = np.stack([wave(), wave()[::-1]], axis=1)
    forecaster = Forecaster(mixer, **{**TINY, "members": members}).fit(x)
    y = forecaster.predict(30)
    low, high = forecaster.calibrate(x).predict_interval(30, coverage=0.5)
    assert np.array_equal(forecaster.predict(30), y) and len(forecaster.model.members) == members
    assert low.shape == high.shape == y.shape == (30, 2) and (low < y).all() and (y < high).all()
    np.testing.assert_allclose(y - low, high - y)


def test_without_a_calibration_there_is_no_interval():
    forecaster = Forecaster("gru", **TINY, linear=False)
    for call in (lambda: forecaster.predict_interval(3), lambda: forecaster.calibrate(wave())):
        with pytest.raises(ValueError, match="not fitted"):
            call()
    forecaster.fit(wave())
    with pytest.raises(ValueError, match=r"does not know how far off it is\. Call calibrate"):
        forecaster.predict_interval(3)
    with pytest.raises(ValueError, match="is not the 120 rows of 'array' that were fitted"):
        forecaster.calibrate(wave(119))
    assert forecaster.calibrate(wave()).errors is not None and forecaster.fit(wave()).errors is None


def test_widths_are_the_ranks_of_the_errors():
    drawn = torch.rand(19, 6, 2, generator=Generator().manual_seed(0), dtype=torch.float64)
    drawn, _ = drawn.cumsum(1).sort(0)  # errors that grow: no lead borrows its width from the one before
    for coverage in (0.3, 0.5, 0.9, 0.95):
        widths = half_widths(drawn, coverage, 9)
        assert torch.equal(widths[:6], drawn[math.ceil(20 * coverage) - 1].cummax(0).values)
        assert torch.equal(widths[6:], widths[5:6].expand(3, 2))  # beyond what was measured
    with pytest.raises(ValueError, match=r"19 errors out of fold allow at most 0\.95"):
        half_widths(drawn, 0.96, 3)
    for coverage in (0.0, 1.0, math.nan, 90):
        with pytest.raises(ValueError, match=r"coverage is .* must lie between 0 and 1"):
            half_widths(drawn, coverage, 3)


def test_widths_do_without_what_was_not_measured():
    drawn = torch.rand(30, 5, 1, generator=Generator().manual_seed(1), dtype=torch.float64)
    drawn[:, 0], drawn[10:, 3] = torch.nan, torch.nan
    widths = half_widths(drawn, 0.8, 5)[:, 0]
    ranked = [float(drawn[:, lead, 0].sort().values[24]) for lead in (1, 2, 4)]  # ceil(31 * 0.8) = 25; ceil(11 * 0.8) = 9 of the ten
    tenth = float(drawn[:10, 3, 0].sort().values[8])
    expected = [ranked[0], ranked[0], max(ranked[:2]), max(*ranked[:2], tenth), max(*ranked, tenth)]
    assert widths.tolist() == expected


def test_the_interval_of_one_exchangeable_error_more_covers_it():
    """The guarantee itself, over 4,000 draws: of n + 1 equal in law the last is within the k-th of the others in k / (n + 1)."""
    drawn = torch.randn(4000, 20, generator=Generator().manual_seed(2), dtype=torch.float64).abs()
    inside = [float(row[19]) <= float(half_widths(row[:19, None, None], 0.8, 1)) for row in drawn]
    assert abs(np.mean(inside) - 0.8) < 3 * math.sqrt(0.8 * 0.2 / 4000)


def test_intervals_hold_where_the_fitted_rows_flatter():
    """A network that has learned its noise by heart is exact along fitted rows; out of fold it shows the errors to come."""
    noise = np.random.default_rng(0).normal(size=500)
    x = np.sin(0.3 * np.arange(500)) + 0.5 * noise
    forecaster = calibrated("mlp", x[:250], steps=400, horizon=5, lags=16, d_model=32, linear=False)
    networks, values = [forecaster.model.alone(i) for i in range(2)], torch.tensor(x[:, None])

    def first_error(errors):
        return float(errors[:, :, 0].square().mean().sqrt())

    fitted, new = (first_error(out_of_fold(networks, values, [rows, rows], 40)) for rows in (range(40, 249), range(260, 480)))
    assert fitted < 0.75 * new and abs(first_error(forecaster.errors) - new) < 0.25 * new
    covered = []
    for t in range(250, 490):
        low, high = forecaster.predict_interval(5, coverage=0.8)
        covered.append((low <= x[t : t + 5]) & (x[t : t + 5] <= high))
        forecaster.update(x[t : t + 1])
    assert 0.7 < np.mean(covered) < 0.95


def test_errors_are_kept_with_the_run_until_it_is_fitted_anew(tmp_path):
    x = wave()
    forecaster = Forecaster("gru", **TINY, linear=False).fit(x, folder=tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    forecaster.calibrate(x, folder=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == before | {ERRORS}
    loaded = Forecaster.load(tmp_path)
    assert torch.equal(loaded.errors, forecaster.errors)
    assert all(np.array_equal(a, b) for a, b in zip(loaded.predict_interval(9), forecaster.predict_interval(9)))
    forecaster.fit(x, folder=tmp_path)
    assert Forecaster.load(tmp_path).errors is None
    save_tensors(tmp_path / ERRORS, {"errors": torch.ones(3, 2, 1)}, {})
    with pytest.raises(ValueError, match="does not hold the errors of this run"):
        Forecaster.load(tmp_path)


def test_a_calibration_that_was_stopped_goes_on(tmp_path):
    x, steps = wave(), 60
    forecaster = Forecaster("mlp", **{**TINY, "steps": steps}, linear=False).fit(x, folder=tmp_path)
    whole = Forecaster.load(tmp_path).calibrate(x).errors
    for step in forecaster.calibrating(x, folder=tmp_path):
        if step.step == 55:
            break
    seen = []
    forecaster = Forecaster.load(tmp_path)
    assert forecaster.errors is None
    forecaster.calibrate(x, folder=tmp_path, on_step=lambda step: seen.append(step.step))
    assert seen == list(range(51, 61)) and torch.equal(forecaster.errors, whole)


def test_a_fit_forgets_the_calibration_under_way_of_the_one_before(tmp_path):
    x = wave()
    forecaster = Forecaster("mlp", **{**TINY, "steps": 60}, linear=False).fit(x, folder=tmp_path)
    for step in forecaster.calibrating(x, folder=tmp_path):
        if step.step == 55:
            break
    other = Forecaster("mlp", **{**TINY, "steps": 60, "lags": 4}, linear=False).fit(x, folder=tmp_path)
    seen = []
    other.calibrate(x, folder=tmp_path, on_step=lambda step: seen.append(step.step))
    assert seen[0] == 1
