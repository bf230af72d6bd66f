"""The rules of the verdict: every edge, every gap, and that nothing is ever greener than its weakest evidence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from separatrix.report.verdict import ENOUGH, Criterion, Escape, Outcome, ReportedHorizon, Standing, judge
from separatrix.stability.number import Number

NAN, INF = math.nan, math.inf
HORIZON = ReportedHorizon(Number(40, "estimated", 30, 50), "sample", (7.36, "pulse"))
GREEN = [Standing.HOLDS, Standing.MARGINAL, Standing.WRONG, Standing.RUNS_AWAY]
ASKED = {
    Outcome.MET: Standing.HOLDS,
    Outcome.WITHIN_ERROR: Standing.MARGINAL,
    Outcome.MISSING: Standing.MARGINAL,
    Outcome.FAILS: Standing.WRONG,
}


def criterion(value=1.0, low=None, high=None, kind="measured", accept=(0.5, 2.0)):
    number = None if value is None else Number(value, kind, low, high)
    return Criterion("spread of the run", number, "its spread is {} times the data's", *accept, below="it dies down", above="it wanders")


@pytest.mark.parametrize(
    ("given_", "outcome"),
    [
        (criterion(1.0), Outcome.MET),
        (criterion(0.5), Outcome.MET),  # the band is closed
        (criterion(2.0), Outcome.MET),
        (criterion(0.49999), Outcome.FAILS),
        (criterion(2.00001), Outcome.FAILS),
        (criterion(INF), Outcome.FAILS),
        (criterion(1.0, 0.6, 1.9, "estimated"), Outcome.MET),
        (criterion(1.0, 0.5, 2.0, "estimated"), Outcome.MET),
        (criterion(1.0, 0.4, 1.9, "estimated"), Outcome.WITHIN_ERROR),
        (criterion(1.9, 1.5, 2.1, "estimated"), Outcome.WITHIN_ERROR),
        (criterion(0.3, 0.1, 0.6, "estimated"), Outcome.WITHIN_ERROR),
        (criterion(0.3, 0.1, 0.49, "estimated"), Outcome.FAILS),
        (criterion(1.0, 0.0, INF, "estimated"), Outcome.WITHIN_ERROR),
        (criterion(1.0, kind="estimated"), Outcome.WITHIN_ERROR),  # of unknown error
        (criterion(9.0, kind="estimated"), Outcome.WITHIN_ERROR),
        (criterion(1.0, 0.9, None, "estimated"), Outcome.WITHIN_ERROR),  # open above, and the band is not
        (criterion(1.0, 0.9, None, "estimated", accept=(0.5, INF)), Outcome.MET),
        (criterion(1.0, None, 1.0, "bound", accept=(-INF, 2.0)), Outcome.MET),
        (criterion(1.0, None, 1.0, "bound"), Outcome.WITHIN_ERROR),  # at most 1 may be 0
        (criterion(3.0, 3.0, None, "bound", accept=(-INF, 2.0)), Outcome.FAILS),
        (criterion(1.0, 0.99, 1.01, "certified"), Outcome.MET),
        (criterion(None), Outcome.MISSING),
        (criterion(NAN), Outcome.MISSING),
        (criterion(NAN, 0.9, 1.1, "estimated"), Outcome.MISSING),
    ],
)
def test_a_number_counts_with_its_whole_interval(given_, outcome):
    assert given_.outcome is outcome


def test_holds_says_what_was_shown():
    found = judge(ENOUGH, [criterion()], horizon=HORIZON, character="chaotic")
    assert found.standing is Standing.HOLDS
    assert (
        found.sentence == "Bounded for 100,000 steps and chaotic like the data; the median forecast holds for about 40 samples (5 pulses)."
    )
    assert len(found.carried) == 2 and not found.missing


def test_a_failure_says_which_and_on_which_side():
    found = judge(ENOUGH, [criterion(0.02)], horizon=HORIZON)
    assert found.standing is Standing.WRONG
    assert found.sentence == "Bounded for 100,000 steps, but it dies down: its spread is 0.02 times the data's."
    assert "it wanders" in judge(ENOUGH, [criterion(5.0)], horizon=HORIZON).sentence


def test_running_away_beats_everything():
    found = judge(300, [criterion(0.02), criterion(None)], escape=Escape(301, "the output left"), horizon=HORIZON)
    assert found.standing is Standing.RUNS_AWAY
    assert "301" in found.sentence and "the output left" in found.sentence


@pytest.mark.parametrize(
    ("steps", "criteria", "said"),
    [
        (None, [criterion()], "a free run of 100,000 steps"),
        (1000, [criterion()], "only 1,000 were made"),
        (ENOUGH, [], "any comparison"),
        (ENOUGH, [criterion(None)], "spread"),
        (ENOUGH, [criterion(NAN)], "spread"),
    ],
)
def test_missing_evidence_is_said_and_is_never_green(steps, criteria, said):
    found = judge(steps, criteria, horizon=HORIZON)
    assert found.standing is Standing.MARGINAL
    assert any(said in missing for missing in found.missing) and said in found.sentence


@pytest.mark.parametrize("horizon", [None, ReportedHorizon(Number(NAN, "measured"))])
def test_a_missing_horizon_is_said(horizon):
    found = judge(ENOUGH, [criterion()], horizon=horizon)
    assert found.standing is Standing.HOLDS
    assert "was not measured" in found.sentence and found.missing == ("how far forecasts hold",)


def test_marginal_names_the_number_its_interval_and_its_line():
    found = judge(ENOUGH, [criterion(0.6, 0.4, 0.8, "estimated")], horizon=HORIZON)
    assert found.standing is Standing.MARGINAL
    assert "its spread is 0.60 [0.40, 0.80] times the data's, a close call (0.5 to 2 is accepted)" in found.sentence


numbers = st.one_of(st.none(), st.tuples(st.floats(0, 4), st.floats(0, 2), st.sampled_from(["measured", "estimated", "bound"])))


@given(st.lists(numbers, max_size=5), st.sampled_from([None, 10, ENOUGH]), st.booleans())
def test_the_verdict_is_what_the_reddest_evidence_asks_for(values, steps, away):
    criteria = [criterion(None) if v is None else criterion(v[0], v[0] - v[1], v[0] + v[1], v[2]) for v in values]
    asked = [ASKED[c.outcome] for c in criteria] or [Standing.MARGINAL]
    asked += [Standing.MARGINAL] if steps != ENOUGH else []
    asked += [Standing.RUNS_AWAY] if away else []
    found = judge(steps, criteria, escape=Escape(5, "it left") if away else None, horizon=HORIZON)
    assert found.standing is max(asked, key=GREEN.index)
    assert found.sentence.endswith(".") and found.sentence[0].isupper()


def test_the_weakest_kind_is_named():
    kinds = ["certified", "estimated", "measured"]
    for i in range(3):
        found = judge(ENOUGH, [criterion(1.0, 0.9, 1.1, kind) for kind in kinds[: i + 1]], horizon=HORIZON)
        assert found.weakest == kinds[i]


@pytest.mark.parametrize(
    ("value", "cycle", "said"),
    [(40, (7.36, "pulse"), "about 40 samples (5 pulses)"), (7.4, (7.36, "pulse"), "about 7 samples (1.0 pulses)"),
     (1, None, "about 1 sample"), (1, (23.0, "cycle"), "about 1 sample"),
     (0.2, (7.36, "pulse"), "less than one sample"), (12, (0, "cycle"), "about 12 samples"), (20000, None, "about 20,000 samples")],
)  # fmt: skip
def test_a_horizon_in_words(value, cycle, said):
    assert str(ReportedHorizon(Number(value, "measured"), "sample", cycle)) == said


def test_one_forecast_has_no_median():
    assert "; the median forecast holds for about 40" in judge(ENOUGH, [criterion(1.0)], horizon=HORIZON).sentence
    one = ReportedHorizon(Number(40, "measured"), "sample", origins=1)
    assert "; the one forecast holds for about 40" in judge(ENOUGH, [criterion(1.0)], horizon=one).sentence


def test_a_horizon_longer_than_what_was_compared_is_at_least_that():
    assert str(ReportedHorizon(Number(100, "measured", low=100), "sample", (7.36, "pulse"))) == "at least 100 samples (14 pulses)"


def test_bad_questions_are_refused():
    with pytest.raises(ValueError, match="holds no value"):
        criterion(accept=(2.0, 0.5))
    with pytest.raises(ValueError, match="steps is -1"):
        judge(-1, [])
