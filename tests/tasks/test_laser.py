"""The competition: what may be heard, how it is scored, and that rivals are of equal size."""

import numpy as np
import pytest
from torch import Generator

from separatrix.data import load
from separatrix.mixers import MIXERS
from separatrix.tasks.laser import MODELS, competition, laser_split, nmse
from separatrix.tasks.rivals import parameters, rival
from separatrix.training import Forecaster
from separatrix.training.forecaster import build_network


def test_the_forecaster_hears_a_thousand_rows_and_no_more():
    heard, truth = laser_split()
    values = load("laser").values
    assert np.array_equal(heard.values, values[:1000]) and np.array_equal(truth, values[1000:1100, 0])


def test_the_mean_scores_one_and_the_truth_nothing():
    _, truth = laser_split()
    assert nmse(np.full(100, truth.mean()), truth) == pytest.approx(1) and nmse(truth, truth) == 0


@pytest.mark.parametrize("name", [*MIXERS, "mlp"])
def test_a_rival_of_any_kind_is_as_large_as_its_heads_allow(name):
    series, _ = laser_split()
    config = Forecaster(MODELS[0]).plan(series)
    plan = rival(name, config, series).plan(series)
    target, size = (parameters(build_network(network, Generator())) for network in (config.network, plan.network))
    assert plan.recipe == config.recipe and (plan == config or name != MODELS[0])
    assert size == pytest.approx(target, rel=0.15) if name in MODELS else target / 2 < size < 2 * target  # a width is a whole number


def test_every_method_is_scored():
    seen = []
    scores = {
        score.name: score for score in competition(("s4d", "mlp"), (0, 1), settings=dict(steps=3), news=lambda *told: seen.append(told[:2]))
    }
    assert list(scores) == ["AR(20)", "seasonal", "s4d", "mlp"]
    assert scores["AR(20)"].median == pytest.approx(0.925, abs=0.01) and scores["AR(20)"].parameters == 21
    assert all(len(scores[name].nmse) == 2 and np.isfinite(scores[name].nmse).all() for name in ("s4d", "mlp"))
    assert [what for _, what in seen] == [f"laser: {name}, seed {seed}" for name in ("s4d", "mlp") for seed in (0, 1) for _ in range(3)]
    done = [share for share, _ in seen]
    assert done == sorted(done) and done[-1] == 1
