"""Settings are compared by rows that were left out, and rows that the competition asks for are not looked at."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from separatrix.data import load
from separatrix.tasks import laser
from separatrix.tasks.settings import competition, standing

FEW = {"horizon": (2, 4), "steps": (2, 3)}


def run(seeds=(0,), values=FEW, **wanted):
    return list(competition(("mlp",), seeds, settings=dict(horizon=4, steps=3, d_model=4), values=values, **wanted))


def test_every_value_is_scored_and_one_of_each_setting_is_the_best():
    seen = []
    scores = run((0, 1), news=lambda *told: seen.append(told[:2]))
    assert [score.series for score in scores] == ["laser, horizon"] * 2 + ["laser, steps"] * 2
    assert [", ".join(score.name.split(", ")[:2]) for score in scores] == ["mlp, 2", "mlp, 4", "mlp, 2", "mlp, 3"]
    for setting in ("horizon", "steps"):
        assert [score.name.endswith(", best") for score in scores if score.series.endswith(setting)].count(True) == 1
    assert all(len(score.nmse) == 2 and np.isfinite(score.nmse).all() and min(score.nmse) > 0.05 for score in scores)
    assert scores[1].nmse == scores[3].nmse != scores[0].nmse  # the sketch stands in both
    shares, fits = zip(*seen)
    assert len(set(fits)) == 3 * 2 and shares == tuple(sorted(shares)) and shares[-1] == 1


def test_rows_after_the_first_thousand_are_not_looked_at(monkeypatch):
    series = load("laser")
    one = {"horizon": (4,)}
    before = run(values=one)
    values = series.values.copy()
    values[1000:] = 7.0
    monkeypatch.setattr(laser, "load", lambda name: replace(series, values=values))
    assert run(values=one)[0].nmse == before[0].nmse
    values[500] = 7.0
    assert run(values=one)[0].nmse != before[0].nmse


@pytest.mark.parametrize(
    ("means", "spread", "words"),
    [
        ((0.0, -1.0, -2.0), 0.1, ["", "", ", best"]),
        ((0.0, -0.1, -0.2), 10.0, [", level", ", level", ", best"]),
        ((50.0, -0.3, -0.2), 10.0, ["", ", best", ", level"]),
        ((0.0, 0.0), 0.0, [", best", ", level"]),
    ],
)
def test_level_is_what_lies_within_one_standard_error_of_the_best(means, spread, words):
    shift = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])
    assert standing([mean + i * spread * shift for i, mean in enumerate(means)]) == words
