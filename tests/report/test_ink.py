"""Pictures: the caller's matplotlib is left alone, densities stay small, axes can be read."""

import matplotlib
import numpy as np
import pytest

from separatrix.report.ink import DATA, Panel, cells, draw, power, reading
from separatrix.report.sections.forecast import beside, leaves, nmse


def test_the_callers_matplotlib_is_neither_used_nor_changed():
    plain = draw("a", lambda axes: axes.plot([1, 2], [3, 4], color=DATA) and None)
    with matplotlib.rc_context({"lines.linewidth": 17, "axes.facecolor": "red", "font.size": 40, "axes.grid": True}):
        before = dict(matplotlib.rcParams)
        styled = draw("a", lambda axes: axes.plot([1, 2], [3, 4], color=DATA) and None)
        assert dict(matplotlib.rcParams) == before
    assert styled == plain


def test_ids_of_two_pictures_never_meet():
    one, two = (draw(slug, lambda axes: axes.plot([1, 2], [3, 4]) and None).svg for slug in ("one", "two"))
    assert 'id="one-' in one and 'id="two-' in two and 'id="one-' not in two


def density(points: int) -> Panel:
    rng = np.random.default_rng(0)
    edges = np.linspace(-4, 4, 97)
    counts = np.histogram2d(*rng.normal(size=(2, points)), bins=(edges, edges))[0]

    def paint(axes) -> None:
        cells(axes, counts, edges, edges, [DATA] * 4, (0.3, 0.5, 0.7, 1))

    return draw("cloud", paint)


def test_a_cloud_of_any_size_stays_small():
    assert max(len(density(n).svg) for n in (100, 10_000, 1_000_000)) < 150_000


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (10, "10"), (1000, "1,000"), (0.01, "0.01"), (1e-3, "10⁻³"), (1e5, "10⁵"), (0, "0"), (30, "30")]
)
def test_powers_are_words(value, text):
    assert power(value) == text


def test_names_at_line_ends_do_not_touch():
    places = []

    def paint(axes) -> None:
        axes.set_ylim(0, 1)
        axes.set_xlim(0, 1)
        beside(axes, 1.0, [(name, 0.5, DATA, "halo") for name in "abcd"])
        places.extend(text.get_position()[1] for text in axes.texts)

    draw("names", paint, height=200)
    assert len(places) == 4 and np.diff(sorted(places)).min() > 12


def test_a_reading_is_short_and_keeps_holes():
    x, y = reading(np.arange(10_000), np.where(np.arange(10_000) % 2, np.nan, 1.23456789), most=100)
    assert len(x) == 100 and x[0] == 0 and x[-1] == 9999 and None in y and 1.235 in y


def test_errors_skip_what_was_not_measured():
    truth = np.array([1.0, np.nan, 3.0])
    assert nmse(np.array([1.0, 99.0, 4.0]), truth, 2.0) == 0.25
    assert np.isnan(nmse(np.zeros(2), np.array([np.nan, np.nan]), 1.0))
    assert leaves(np.array([1.0, 99.0, 3.1]), truth, 1.0) is None
    assert leaves(np.array([1.0, 99.0, 4.0]), truth, 1.0) == 2
    assert leaves(np.array([np.inf, 0.0, 0.0]), np.zeros(3), 1.0) == 0
