"""Series of weather and nature: origins lie after the fitted rows, and every method is scored on the same ones."""

import numpy as np
import pytest

from separatrix.data import load
from separatrix.tasks.noise import CASES, HEARD, competition, later
from separatrix.training import Forecaster


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_is_asked_for_lies_after_what_was_fitted(case):
    found = later(case)
    line = load(case.name).select(case.column).values[case.start :, 0]
    assert np.array_equal(found.fitted.values[:, 0], line[: case.fitted], equal_nan=True)
    assert np.array_equal(found.truth[0], line[case.fitted : case.fitted + case.leads], equal_nan=True)
    end = case.fitted + case.later
    assert len(found.truth) > 15 and found.heard.shape == (len(found.truth), min(HEARD, case.fitted - 1)) and len(line) >= end
    assert Forecaster().plan(found.fitted).network.linear
    assert found.nmse(found.truth) == 0 and found.nmse(np.full(found.truth.shape, np.nanmean(found.fitted.values))) > 0.2


def test_every_method_is_scored_and_the_linear_part_pays():
    shares = []
    found = competition(seeds=(0,), settings=dict(steps=20, members=1), news=lambda done, *_: shares.append(done))
    scores = {(score.series, score.name): score.median for score in found}
    assert len(scores) == 4 * len(CASES) and shares == sorted(shares) and shares[-1] == 1
    for case in CASES:
        fitted, alone, linear, mean = (scores[case.name, name] for name in ("s4d", "s4d alone", "AR(20)", "mean"))
        if case.name == "sunspots":  # 64 rows forecast the rows left out better than 16 in every fold, and those after them worse
            assert fitted < 1.3 * linear
        else:
            assert fitted < mean and fitted < 1.1 * linear and fitted < 1.1 * alone
