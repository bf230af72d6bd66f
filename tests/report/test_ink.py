"""Pictures: the caller's matplotlib is left alone, densities stay small, axes can be read."""

import re

import matplotlib
import numpy as np
import pytest

from separatrix.report.ink import DATA, HALF, WIDE, Panel, cells, draw, reading
from separatrix.report.labels import Label, axis_names, beside, power, powers, shorten, whole_steps
from separatrix.report.stretch import Stretch


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


def ticks(svg: str, axis: str) -> list[str]:
    return re.findall(r">([^<]+)</text>", re.search(rf'id="x-matplotlib.axis_{axis}"(.*?)(id="x-matplotlib|id="x-patch|$)', svg)[1])


@pytest.mark.parametrize(("scale", "said"), [(1.0, "amps"), (1e9, "amps, in 10⁹"), (1e-6, "amps, in 10⁻⁶")])
def test_a_power_of_ten_that_ticks_leave_out_is_named_once(scale, said):
    def paint(axes) -> None:
        axes.plot([1, 2], [3 * scale, 4 * scale])
        axis_names(axes, "steps", "amps")

    svg = draw("x", paint).svg
    assert f">{said}</text>" in svg and "1e" not in "".join(re.findall(r">([^<]+)</text>", svg))


def test_ticks_are_whole_values_and_have_their_room():
    """No "+1.01325e5" to be added, and no tick left of the picture."""

    def paint(axes) -> None:
        axes.plot([1, 2], [101325.001, 101325.009])
        axis_names(axes, "steps", "pressure")

    panel = draw("x", paint)
    assert "101325.002" in ticks(panel.svg, "2") and "+" not in panel.svg
    assert all(float(x) >= 0 for x in re.findall(r"translate\((-?[\d.]+) ", panel.svg))
    assert 'xml:space="preserve"' in panel.svg


def test_an_axis_within_one_power_of_ten_can_be_read():
    def paint(axes) -> None:
        axes.set_yscale("log")
        axes.set_ylim(2, 40)
        powers(axes, "y")

    assert {"5", "10", "20"} <= set(ticks(draw("x", paint).svg, "2"))


def test_steps_have_no_halves():
    def paint(axes) -> None:
        axes.set_xlim(-9, 11)
        whole_steps(axes)

    assert all("." not in tick for tick in ticks(draw("x", paint).svg, "1"))


def test_names_at_line_ends_do_not_touch():
    places = []

    def paint(axes) -> None:
        axes.set_ylim(0, 1)
        axes.set_xlim(0, 1)
        beside(axes, 1.0, [Label(name, 0.5, DATA) for name in "abcd"])
        places.extend(text.get_position()[1] for text in axes.texts)

    draw("names", paint, height=200)
    assert len(places) == 4 and np.diff(sorted(places)).min() > 12


def test_a_reading_is_short_and_keeps_holes():
    x, y = reading(np.arange(10_000), np.where(np.arange(10_000) % 2, np.nan, 1.23456789), most=100)
    assert len(x) == 100 and x[0] == 0 and x[-1] == 9999 and None in y and 1.23457 in y


def test_a_reading_keeps_the_digits_that_change():
    assert reading([1, 2, 3], [101325.123456, 101326.5, 101324.25])[1] == [101325.123, 101326.5, 101324.25]
    assert reading([1, 2, 3], [0.123456, -1.0, 1.0])[1][0] == 0.1235


def stretch(*truth: float) -> Stretch:
    return Stretch(np.zeros(3), np.array(truth), 3, "x", "sample", spread=1.0)


def test_errors_skip_what_was_not_measured():
    gap, still, nothing = stretch(1.0, np.nan, 5.0), stretch(0.0, 0.0, 0.0), stretch(np.nan, np.nan)
    assert gap.nmse(np.array([1.0, 99.0, 7.0])) == 0.5
    assert list(gap.grown(np.array([1.0, 99.0, 7.0]))) == [0.0, 0.0, 0.5]
    np.testing.assert_array_equal(stretch(np.nan, 0.0, 4.0).grown(np.array([9.0, 2.0, 4.0])), [np.nan, 1.0, 0.5])
    assert np.isnan(nothing.grown(np.zeros(2))).all()
    assert list(still.grown(np.ones(3))) == [1.0, 1.0, 1.0] and np.isnan(nothing.nmse(np.zeros(2)))
    assert gap.leaves(np.array([1.0, 99.0, 5.1])) == (3, False)
    assert gap.leaves(np.array([1.0, 99.0, 6.0])) == (1, True)  # nobody saw row 2
    assert still.leaves(np.array([np.inf, 0.0, 0.0])) == (0, True)
    assert stretch(1.0, np.nan).leaves(np.ones(2)) == (1, False) and nothing.leaves(np.zeros(2)) == (0, False)


@pytest.mark.parametrize("width", [HALF, WIDE])
def test_a_long_name_stays_inside_its_picture(width):
    name, said = "Pegel Köln <Süd> & Nord, Abfluss (15-min-Mittel), gemittelt über alle Stationen des Landes, m³/s now", []

    def paint(axes):
        axis_names(axes, name, name)
        said.extend([axes.get_xlabel(), axes.texts[0].get_text()])
        axes.figure.draw_without_rendering()
        for text in (axes.xaxis.label, axes.texts[0]):
            box = text.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= axes.figure.bbox.x1

    draw("long", paint, width=width, height=200)
    assert all(one.startswith("Pegel Köln") and "…" in one and one.endswith("m³/s now") for one in said)
    assert shorten("value now", 9) == "value now" and shorten("value now", 8) == "value…ow"
