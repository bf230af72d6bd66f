"""The section on the free run says what was seen of the forecast, no more, and when it began."""

import re

import numpy as np
import pytest

from separatrix.report.finding import Made
from separatrix.report.sections.forecast import _reach, free_run
from separatrix.report.stretch import Forecast, Hidden, Rival, Stretch

PAST = np.sin(np.arange(60.0))
MADE = Made("data", "predict()")


def found(truth, past=PAST, forecast=None, clock=lambda row: "", **more):
    stretch = Stretch(past, np.array(truth, float), len(past), "x", "day", 1.0, clock)
    guess = np.zeros(len(truth)) if forecast is None else forecast
    return free_run(stretch, Forecast(guess, **more), [Rival("AR(4)", guess + 0.1)], horizon=None, made=MADE)


def test_a_horizon_of_gaps_is_not_praised():
    one = found([np.nan] * 40)
    assert one.title == "How long the free run stays with the data cannot be seen: all 40 days are gaps"
    assert len(one.picture.panels) == 1 and "error" not in one.picture.caption
    assert list(one.numbers) == ["free-running NMSE over 40 days"] and np.isnan(one.numbers["free-running NMSE over 40 days"].value)


@pytest.mark.parametrize(
    ("truth", "steps", "says"),
    [
        ([0, 0.1, 0.2, 0.1], 4, "stays with the data for all 4 days"),
        ([np.nan, 0.1, 0.2, np.nan], 3, "stays with the 2 values that were measured in 4 days"),
        ([0, 0.1, np.nan, 2], 2, "leaves the data after 2 of 4 days"),
        ([np.nan, np.nan, 2, 0], 0, "leaves the data at once"),
    ],
)
def test_no_step_is_counted_that_was_not_seen(truth, steps, says):
    one = found(truth)
    assert says in one.title and one.numbers["steps before this free run leaves"].value == steps


def test_the_last_value_is_one_that_was_measured():
    assert "Row 59 is the last value the model saw. From row 60 on" in found([0, 1]).text
    one, two = (np.where(np.arange(60) >= first, np.nan, PAST) for first in (59, 57))
    assert "Row 58 is the last value the model saw; row 59 is a gap." in found([0, 1], one).text
    assert "Row 56 is the last value the model saw; rows 57 to 59 are gaps." in found([0, 1], two).text
    assert "after row 59" in found([0, 1], two).picture.panels[0].svg
    assert "saw no value before row 60" in found([0, 1], np.full(60, np.nan)).text


def test_a_clock_dates_the_forecast():
    one = found([0, 1], clock=lambda row: f"2013-{row}")
    assert "Row 59 (2013-59) is the last value the model saw. From row 60 (2013-60) on" in one.text
    assert "days after 2013-59" in one.picture.panels[0].svg and "row 60 (2013-60)" in one.question


def band(width, steps=6):
    return Hidden(np.zeros((2, 3, steps)), np.full(steps, width), 0.9)


def test_an_interval_is_seen_to_its_ends_or_its_ends_are_told():
    """The lines reach from -1 to 1."""
    for width, limits, ends in ((0.5, (-1, 1), None), (2.5, (-2.5, 2.5), None), (9.0, (-3, 3), (-9, 9))):
        forecast = Forecast(np.zeros(6), hidden=band(width))
        stretch = Stretch(np.array([-1.0, 1.0]), np.zeros(6), 2, "x", "day", 1.0)
        assert _reach(stretch, forecast) == (limits, ends)
        caption = free_run(stretch, forecast, [], horizon=None, made=MADE).picture.caption
        assert ("beyond the picture: from −9 to 9" in caption) is (ends is not None)


def test_rows_inside_are_a_share():
    share = found([0, 0, 3, np.nan], hidden=band(1.0, 4)).numbers["share of rows inside the 90% interval"]
    assert share.value == pytest.approx(200 / 3) and share.unit == "%" and share.how.startswith("2 of 3;")


def test_the_line_of_the_mean_is_named_where_no_line_is_hidden():
    svg = found(np.sin(np.arange(40.0))).picture.panels[1].svg
    at, right = re.search(r'x="([\d.]+)" y="[\d.]+">the mean<', svg), re.search(r"M40 \d+L(\d+) \d+", svg)
    assert float(at[1]) > float(right[1])  # right of the axes


def test_small_errors_are_drawn_and_read_as_they_are():
    truth = np.sin(np.arange(6.0))
    errors = found(truth, forecast=truth + 1e-4).picture.panels[1].hover["lines"]
    np.testing.assert_allclose(errors["model"][1], 1e-8 / truth.var(), rtol=1e-3)
