"""Names on a picture: of axes, ticks and lines. All text is horizontal, and a line has its name beside it, not in a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

from separatrix.report.ink import DATA, MODEL

CHARACTER = 8.0  # units of a picture that a character of a name may take, on a telephone too, where type is larger


class Label(NamedTuple):
    """The name of a line, in its colour, at a height; the page knows it as `gid`."""

    text: str
    y: float
    colour: str
    gid: str = "halo"


def room(low: float, high: float, below: float = 0.08, above: float = 0.08) -> tuple[float, float]:
    """Limits of an axis from `low` to `high` with room in shares of it; of one value, in shares of its size."""
    size = (high - low) or abs(high) or 1.0
    return low - below * size, high + above * size


def axis_names(axes: Axes, x: str, y: str, rise: float = 9) -> None:
    """The horizontal name under the axis at its right end, the vertical one upright above it: nobody reads with a tilted head.

    Call it last: a power of ten that the ticks leave out is named here. A name that is wider than its picture is shortened.
    """
    width, right = (box.x1 * 72 / axes.figure.dpi for box in (axes.figure.bbox, axes.bbox))
    x, y = (
        shorten(name, int(space / CHARACTER)) for name, space in ((x + _thinned(axes.xaxis), right), (y + _thinned(axes.yaxis), width - 14))
    )
    axes.set_xlabel(x, loc="right", labelpad=3)
    axes.text(0, 1, y, transform=axes.transAxes + _shift(axes, -30, rise), ha="left", va="bottom")


def shorten(name: str, most: int) -> str:
    """A name of at most so many characters; both ends stay, as the unit stands last and columns may begin alike."""
    tail = max(1, most // 3)
    return name if len(name) <= most else name[: most - 1 - tail].rstrip() + "…" + name[-tail:].lstrip()


def _thinned(axis: Axis) -> str:
    """The power of ten that the ticks of a linear axis leave out, in words instead of matplotlib's own place for it, which is taken."""
    axis.get_majorticklabels()  # matplotlib settles the power only when asked
    left_out = axis.get_major_formatter().get_offset().replace("\N{MINUS SIGN}", "-")  # "1e-6"
    axis.get_offset_text().set_visible(False)
    return f", in {_ten(int(left_out.removeprefix('1e')))}" if left_out else ""


def whole_steps(axes: Axes) -> None:
    """Ticks at whole numbers only: there is no step 2.5."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def name_line(axes: Axes, x: float, label: Label, *, ha: str = "left", bold: bool = True, dx: float = 0, dy: float = 0) -> None:
    """A direct label: the name of a line beside it, with a rim of paper so that it reads on top of lines."""
    axes.annotate(
        label.text,
        (x, label.y),
        (dx, dy),
        textcoords="offset points",
        color=label.colour,
        ha=ha,
        va="center",
        weight="bold" if bold else "normal",
        gid=label.gid,
        annotation_clip=False,
    )


def powers(axes: Axes, which: str) -> None:
    """A logarithmic axis with its powers as text (10⁻³, 1, 10, 1000), not as formulas."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    within = np.floor(np.log10(high)) - np.ceil(np.log10(low)) + 1  # powers on the axis: with one alone nothing can be read off
    axis.set_major_locator(LogLocator(subs=(1.0,) if within > 1 else (1.0, 2.0, 5.0), numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))
    axis.set_minor_formatter(NullFormatter())


def power(value: float) -> str:
    if value <= 0:
        return "0"
    exponent = round(float(np.log10(value)))
    if not np.isclose(np.log10(value), exponent, atol=1e-6):
        return f"{value:g}"
    if -2 <= exponent <= 4:
        return f"{10.0**exponent:,.{max(0, -exponent)}f}"
    return _ten(exponent)


def _ten(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def beside(axes: Axes, x: float, ends: Sequence[Label], apart: float = 14) -> None:
    """Names at the right end of lines, pushed apart where lines end close together."""
    if not ends:
        return
    axes.get_xlim(), axes.get_ylim()  # matplotlib settles its limits only when asked
    to_units = axes.transData.transform
    bottom, top = axes.bbox.y0 * 72 / axes.figure.dpi, axes.bbox.y1 * 72 / axes.figure.dpi
    order = sorted(ends, key=lambda end: end.y)
    wanted = np.array([to_units((x, end.y))[1] * 72 / axes.figure.dpi for end in order])
    placed = np.clip(wanted, bottom, top)
    for _ in range(200):  # neighbours push each other apart until nobody touches
        gaps = np.diff(placed)
        if len(gaps) == 0 or gaps.min() >= apart - 0.01:
            break
        for i in np.flatnonzero(gaps < apart):
            push = (apart - gaps[i]) / 2
            placed[i], placed[i + 1] = placed[i] - push, placed[i + 1] + push
        placed += max(0.0, bottom - placed[0]) - max(0.0, placed[-1] - top)
    for end, at, want in zip(order, placed, wanted):
        name_line(axes, x, end, dx=6, dy=float(at - want), bold=end.colour in (DATA, MODEL))


def _shift(axes: Axes, dx: float, dy: float) -> ScaledTranslation:
    """Points to the right and up."""
    return ScaledTranslation(dx / 72, dy / 72, axes.figure.dpi_scale_trans)
