"""Networks beside a linear autoregression: as much of what they say is kept as rows bear out that they were not fitted to."""

import numpy as np
import pytest
import torch

from separatrix.data import Series, load
from separatrix.training import Forecaster
from separatrix.training.correction import SHARES, share_kept
from separatrix.training.ensemble import Ensemble
from separatrix.training.folds import SMALL, out_of_fold
from separatrix.training.loop import CHECKPOINT, train
from separatrix.training.recipe import read_config

TINY = dict(steps=6, horizon=4, lags=3, d_model=8, members=2, linear=True)


def wave(T=120):
    return 5 + 2 * np.sin(0.6 * np.arange(T)) ** 3 + 0.1 * np.random.default_rng(0).standard_normal(T)


def fitted(**settings):
    series = Series.from_array(wave())
    config = Forecaster("gru", **{**TINY, "members": 4, **settings}).plan(series)
    ensemble = Ensemble.of(config, torch.tensor(series.values))
    for _ in train(ensemble.model, ensemble.parts(config.recipe), config.recipe, seed=0):
        pass
    return ensemble, config.recipe


def test_each_member_leaves_its_own_fold_out():
    ensemble, recipe = fitted()
    targets = [part.objective.targets for part in ensemble.parts(recipe)]
    never = [set(torch.isnan(rows[:, 0]).nonzero()[:, 0].tolist()) for rows in targets]
    assert never == [set(rows) for rows in ensemble.hidden] and set.union(*never) == set(range(min(never[0]), 120))
    assert sum(map(len, never)) == len(set.union(*never)) and all(never)
    weights = [network.linear.weight for network in ensemble.networks]
    assert not any(torch.equal(weights[0], other) for other in [*weights[1:], ensemble.model.linear.weight])


def test_errors_are_of_what_is_kept_and_leave_the_networks_as_they_are():
    ensemble, recipe = fitted(steps=60)
    whole, half = (ensemble.errors(share, recipe.context) for share in (1.0, 0.5))
    for member in ensemble.model.each():
        member.head.weight.data *= 0.5
        member.head.bias.data *= 0.5
    again = out_of_fold([network.eval() for network in ensemble.networks], ensemble.values, ensemble.hidden, recipe.context)
    assert torch.equal(again, half) and not torch.equal(half, whole)


def test_the_share_is_the_one_of_least_error_in_rows_left_out():
    ensemble, recipe = fitted(steps=60)

    def score(share):
        errors = ensemble.errors(share, recipe.context, recipe.horizon) / ensemble.model.scale
        return sum(float(np.log(float(fold.square().mean()) + SMALL**2)) for fold in errors)

    assert share_kept(ensemble, recipe) == min(SHARES, key=score)


@pytest.mark.parametrize("seed", range(3))
def test_noise_keeps_little_of_it_and_chaos_all(seed):
    x, rng = np.zeros(800), np.random.default_rng(seed)
    for t in range(2, 800):
        x[t] = 1.2 * x[t - 1] - 0.5 * x[t - 2] + rng.standard_normal()
    settings = dict(steps=150, d_model=16, random_state=seed, linear=True)
    found = [Forecaster("mlp", **settings).fit(rows).config.correction for rows in (x, load("laser").values[:500])]
    assert found[0] <= 0.5 and found[1] >= 0.75


def test_a_share_of_nothing_is_the_autoregression():
    forecaster = Forecaster("gru", **TINY).fit(wave())
    model = forecaster.model.keep_share(0.0)
    z = model.scaled(torch.tensor(wave()[:, None]))
    expected = model.unscaled(model.linear.free_run(z[None, -3:], 20))[0, :, 0].numpy()
    forecaster.update([np.nan])  # what it would have said next is kept in its state: say that, and go on
    with torch.no_grad():
        _, state = model(torch.tensor(wave()[None, :, None]))
        said, _ = model.free_run(None, 20, state)
    np.testing.assert_allclose(said[0, :, 0].numpy(), expected, rtol=1e-5)  # in float32, by two roads


def test_it_has_its_intervals_without_another_fit(tmp_path):
    forecaster = Forecaster("gru", **TINY).fit(wave(), folder=tmp_path)
    low, high = forecaster.predict_interval(9, coverage=0.5)
    assert (low < high).all() and forecaster.errors.shape[0] == 2
    loaded = Forecaster.load(tmp_path)
    assert torch.equal(loaded.errors, forecaster.errors) and loaded.config.correction == forecaster.config.correction in SHARES
    seen = []
    loaded.calibrate(wave(), folder=tmp_path, on_step=seen.append)
    assert not seen and torch.equal(loaded.errors, forecaster.errors)


def test_a_cut_fit_comes_to_the_same_share(tmp_path):
    settings = TINY | dict(steps=60, members=4)
    whole = Forecaster("mlp", **settings).fit(wave())
    for step in Forecaster("mlp", **settings).fitting(wave(), folder=tmp_path):
        if step.step == 52:
            break
    assert read_config(tmp_path).correction is None and (tmp_path / CHECKPOINT).is_file()
    resumed = Forecaster("mlp", **settings).fit(wave(), folder=tmp_path, resume=True)
    again = Forecaster.of(read_config(tmp_path)).fit(wave(), folder=tmp_path, resume=True)  # finished, and asked once more
    for other in (resumed, again):
        assert other.config.correction == whole.config.correction and torch.equal(other.errors, whole.errors)
        assert np.array_equal(other.predict(9), whole.predict(9))


@pytest.mark.parametrize("rows, settings", [(120, dict(members=1)), (20, {}), (120, dict(linear=False))])
def test_where_no_fold_can_be_left_out_all_of_it_is_kept(rows, settings):
    forecaster = Forecaster("gru", **{**TINY, **settings}).fit(wave(rows))
    assert forecaster.config.recipe.left_out == 0 and forecaster.config.correction is None and forecaster.errors is None
