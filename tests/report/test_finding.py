"""Numbers as people read them, and findings that say all they must."""

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separatrix.report.finding import Finding, Made, counted, ends, plain, record, show, to_json
from separatrix.report.sections.divergence import Growth, divergence, exponents
from separatrix.report.sections.eigenvalues import Layer, eigenvalues
from separatrix.report.sections.memory import memory
from separatrix.report.sections.portrait import overlaps
from separatrix.stability.number import Number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number(0.03114, "estimated", 0.0274, 0.0352, "per sample"), "0.0311 [0.0274, 0.0352] per sample"),
        (Number(41, "estimated", 30, 55, "samples"), "41 [30, 55] samples"),
        (Number(-0.0004, "estimated", -0.004, 0.003), "−0.0004 [−0.0040, 0.0030]"),
        (Number(6e-12, "estimated", -4.3e-5, 4.3e-5), "0 [−0.000043, 0.000043]"),
        (Number(100_000, "measured", unit="steps"), "100,000 steps"),
        (Number(0.925, "measured"), "0.925"),
        (Number(0.5, "measured"), "0.5"),
        (Number(3.1e9, "measured"), "3.10 × 10⁹"),
        (Number(2.5e-7, "measured"), "2.50 × 10⁻⁷"),
        (Number(100, "bound", low=100, unit="samples"), "at least 100 samples"),
        (Number(3.0, "bound", low=2.5), "3 (at least 2.5)"),
        (Number(5.0, "estimated", 4.0, math.inf), "5 (at least 4)"),
        (Number(3.2, "bound", high=3.2), "at most 3.2"),
        (Number(math.nan, "measured"), "not a number"),
        (Number(math.inf, "measured"), "without bound"),
        (Number(0.0, "measured"), "0"),
        (Number(1.0, "estimated", 1.0, 1.0), "1"),
        (Number(-7.25, "measured"), "−7.25"),
        (Number(1.00043, "measured"), "1.00043"),
        (Number(0.99962, "measured"), "0.99962"),
        (Number(1.004, "measured"), "1.004"),
        (Number(1.0 + 1e-12, "measured"), "1"),
    ],
)
def test_digits_follow_the_interval(number, text):
    assert show(number) == text


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_can_be_read_and_recorded(x):
    assert plain(x)
    assert show(Number(x, "measured"))
    json.dumps(record(Number(x, "measured")), allow_nan=False)


@given(st.floats(-1e12, 1e12), st.floats(0, 1e6), st.floats(0, 1e6))
def test_any_interval_can_be_read(x, below, above):
    assert show(Number(x, "estimated", x - below, x + above))


def test_a_narrow_interval_is_seen_in_cells_too():
    assert ends(Number(0.963071, "estimated", 0.963043, 0.963099)) == ("0.963071", "0.963043", "0.963099")
    assert ends(Number(3.9, "measured", low=3.9)) == ("3.9", "3.9", "")


def test_one_is_singular():
    assert [counted(n, "sample") for n in (1, 2, 1000)] == ["1 sample", "2 samples", "1,000 samples"]
    assert [show(Number(n, "measured", unit="years")) for n in (0, 1, 2)] == ["0 years", "1 year", "2 years"]
    assert show(Number(1, "measured", unit="siemens")) == "1 siemens"


def test_json_cannot_leave_its_element():
    text = to_json({"a": "</script><script>alert(1)</script>&\u2028"})
    assert "<" not in text and ">" not in text and "&" not in text
    assert json.loads(text)["a"] == "</script><script>alert(1)</script>&\u2028"


def finding(**changed):
    given_ = dict(slug="x", title="A is 3", question="Is A 3?", numbers={}, made=Made("data", "a()"), does_not_say="nothing about B")
    return Finding(**(given_ | changed))


@pytest.mark.parametrize(
    ("missing", "without"),
    [
        ("title", {"title": " "}),
        ("question", {"question": " "}),
        ("does_not_say", {"does_not_say": " "}),
        ("call", {"made": Made("data", " ")}),
    ],
)
def test_a_finding_without_its_words_is_refused(missing, without):
    with pytest.raises(ValueError, match=missing):
        finding(**without)


def test_a_finding_takes_numbers_with_a_kind_only():
    with pytest.raises(TypeError, match="expected a Number"):
        finding(numbers={"a": 3.0})
    with pytest.raises(ValueError, match="slug"):
        finding(slug="two words")


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_portraits_do_not_know_the_unit(unit):
    data, model = np.sin(0.3 * np.arange(2000)), np.sin(0.3 * np.arange(9000)) ** 3
    for got, want in zip(overlaps(unit * data, unit * model, 5), overlaps(data, model, 5)):
        assert got.value == pytest.approx(want.value)


@pytest.mark.parametrize(
    ("largest", "says"),
    [
        (Number(-0.3, "measured"), "is settling"),
        (Number(-math.inf, "measured"), "is settling"),
        (Number(0.0, "measured"), "at the line"),
        (Number(-0.3, "estimated", -0.7, 0.1), "at the line"),
        (Number(0.3, "measured"), "is chaotic"),
    ],
)
def test_an_exponent_counts_with_its_interval_or_as_it_is(largest, says):
    assert says in exponents([largest], estimate=None, numbers={}, settled=True, unit="step", made=Made("data", "a()")).title


def test_an_exponent_that_moves_nothing_over_the_run_is_not_told_from_zero():
    tiny, made = Number(5.7e-10, "estimated", 5.6e-10, 5.8e-10), Made("data", "a()", steps=10_000)
    for number in (tiny, Number(-5.7e-10, "estimated", -5.8e-10, -5.6e-10)):
        assert "at the line" in exponents([number], estimate=None, numbers={}, settled=True, unit="day", made=made).title
    assert "is chaotic" in exponents([Number(2e-4, "measured")], estimate=None, numbers={}, settled=True, unit="day", made=made).title
    flat = np.full(51, 2.31248640)
    growths = [Growth(who, np.arange(51.0), flat, (5, 30), tiny) for who in ("data", "model")]
    title = divergence(growths, numbers={}, unit="day", made=made).title
    assert "as chaos does" not in title and title.endswith("not told from zero in the data and the model")


def test_a_flat_divergence_has_ticks_that_can_be_read():
    number, made = Number(0.0, "estimated", -0.1, 0.1), Made("data", "a()")
    growth = Growth("data", np.arange(51.0), 2.31248640 + 1e-9 * np.arange(51.0), (5, 30), number)
    svg = divergence([growth], numbers={}, unit="day", made=made).picture.panels[0].svg
    assert re.search(r">2\.\d{3,}<", svg) is None and ">2.4<" in svg


def test_the_interval_of_an_exponent_is_drawn_around_its_slope():
    def fans(number):
        growth = Growth("data", np.arange(51.0), np.linspace(0, 3, 51), (5, 30), number)
        picture = divergence([growth], numbers={}, unit="day", made=Made("data", "a()")).picture
        return picture.panels[0].svg.count("opacity: 0.25")

    assert fans(Number(0.06, "estimated", 0.05, 0.07)) == 1 and fans(Number(0.06, "measured")) == 0


def test_doubt_is_said_of_one_series_too():
    number, made = Number(0.065, "estimated", 0.01, 0.12), Made("data", "a()")
    growth = Growth("data", np.arange(51.0), np.linspace(0, 3, 51), (5, 30), number)
    title = divergence([growth], numbers={}, unit="day", made=made, doubt="the data have no straight stretch").title
    assert title == "Nearby starts part at 0.065 per day in the data, but the data have no straight stretch"


def test_memory_is_in_the_unit_of_its_caption():
    ring = 0.9 * np.exp(1j * np.linspace(0.1, 3, 20))[None]
    found = eigenvalues([Layer("one", ring, False)], numbers={}, unit="day", made=Made("data", "a()"))
    assert "memory, days" in found.picture.panels[1].svg and "half turns a day" in found.picture.panels[1].svg


def test_one_layer_outside_the_circle_does_not_vanish_among_others():
    inside, outside = np.full((9_000, 9), 0.5 + 0j), np.array([[0.5 + 0j, 1.01]])

    def title(*layers: Layer) -> str:
        return eigenvalues(layers, numbers={}, unit="day", made=Made("data", "a()")).title

    assert title(Layer("one", outside, False)) == "50.00% of the eigenvalues lie outside the unit circle"
    named = "50.00% of the eigenvalues of one layer lie outside the unit circle (two)"
    assert title(Layer("one", inside, True), Layer("two", outside, False)) == named
    rare = np.concatenate([np.full(99_999, 0.5), [1.01]])[None]
    assert title(Layer("one", rare, True)) == "Less than 0.01% of the visited eigenvalues lie outside the unit circle"


@pytest.mark.parametrize(("slowest", "says"), [(40.0, "in 40 (a)"), (6.9e8, "in 6.90 × 10⁸ (a)"), (math.inf, "never (a)")])
def test_the_slowest_mode_is_not_cut_where_its_picture_is(slowest, says):
    made = Made("data", "a()")
    assert says in memory(["a"], [np.array([1.0, slowest])], numbers={}, unit="day", made=made, cycle=None).title
