"""Whether a long run is like the data: what rounding moves is no difference, and words are as strong as their number."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from separatrix.data import Series
from separatrix.report.measure.exponents import divergences
from separatrix.report.measure.likeness import NEAR, _likeness, against, characters, portraits
from separatrix.report.sections.portrait import overlap, overlaps
from separatrix.report.subject import Subject
from separatrix.report.verdict import Outcome
from separatrix.stability import Number, character
from separatrix.stability.character import Closeness

SQUARE = np.tile([1.0, 2.0, 3.0, 9.0], 100)
SINE = np.sin(2 * np.pi / 20 * np.arange(400))


@pytest.mark.parametrize("data", [SQUARE, SINE], ids=["square", "sine"])
@pytest.mark.parametrize("off", [1e-7, -1e-7])
def test_rounding_does_not_move_a_run_away_from_periodic_data(data, off):
    run = np.tile(data, 5) * (1 + off)
    assert overlaps(data, run, 1).shared.value > 1 - 1e-5
    found = character(torch.from_numpy(data), torch.from_numpy(run))
    for close in (found.values, found.rhythm):
        assert against(close).high < NEAR and _likeness(close) == "are the data's: less than 0.001 apart"


def test_a_run_that_is_seen_to_differ_from_periodic_data_is_told_so():
    found = character(torch.from_numpy(SQUARE), torch.from_numpy(np.tile(SQUARE, 5) + 0.2))
    assert against(found.values).low > NEAR and "away from the data's, whose own pieces differ by less" in _likeness(found.values)
    assert against(found.rhythm).high < NEAR  # moved, but with the same rhythm


def test_portraits_share_what_they_have_in_common_and_nothing_beyond_the_data():
    assert overlap(SQUARE, SQUARE, 1, (1.0, 9.0)) == pytest.approx(1, abs=1e-12)
    assert overlap(SQUARE, SQUARE + 9, 1, (1.0, 9.0)) == 0
    half = np.where(np.arange(400) < 200, SQUARE, np.nan)
    assert overlap(SQUARE, half, 1, (1.0, 9.0)) > 0.99


@pytest.mark.parametrize(("times", "word"), [(1.2, "are the"), (2.0, "are near"), (7.0, "are not quite"), (130_000.0, "are far from")])
def test_words_are_graded(times, word):
    own, far = Number(0.1, "measured", 0.1, 0.1), Number(0.1 * times, "measured", 0.1 * times, 0.1 * times)
    said = _likeness(Closeness(far, own, far, False))
    assert said.startswith(word) and said.endswith("times as far from the data's as the data's own pieces are")


def test_a_run_that_stands_still_is_not_praised_for_its_place():
    """One value in the middle of data that wander is nearer to their pieces than these are to each other."""
    slow = np.repeat([0.0, 4.0, 1.0, 3.0], 100) + 0.3 * np.random.default_rng(0).normal(size=400)
    subject = Subject(SimpleNamespace(channels=1), Series.from_array(slow), 400, 40)
    settled = 2 + np.exp(-np.arange(3000.0) / 50)
    (values, rhythm), lines = characters(subject, settled)
    assert values.title == "The long run stands still at 2: one value, where the data take many"
    assert rhythm.title.startswith("The long run stands still") and "are the data's" not in values.title + rhythm.title
    shape, line = portraits(subject, settled)
    assert shape.title.startswith("The long run stands still")
    lines.append(line)
    assert [line.outcome for line in lines] == [Outcome.MISSING] * 3 and all("stands still" in line.reason for line in lines)
    parting = divergences(subject, settled)
    assert "stands still" in parting.trouble and parting.criterion.outcome is Outcome.MISSING
    moving = characters(subject, np.tile(slow, 8))
    assert "stands still" not in moving[0][0].title and Outcome.MET in [line.outcome for line in moving[1]]
