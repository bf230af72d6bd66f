"""Pictures that follow the page: matplotlib draws, the theme of the reader colours.

A figure is drawn with named inks, one for each thing shown. In the SVG each becomes a CSS variable with that ink as its fallback,

    stroke: #8c8d8e   ->   stroke: var(--data, #8c8d8e)

so one picture serves light, dark and print, and text stays text: it can be searched, copied and set in the reader's own font.
Data and model differ in lightness and in line width, so they stay apart in grey print and for every kind of colour vision.
Only matplotlib's object API is used, inside a private set of defaults: the caller's styles and figures are never touched.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

PAPER, INK, FAINT, DATA, MODEL, RIVAL = "#fefdfc", "#1a1b1c", "#c1c2c3", "#8c8d8e", "#015a9d", "#a8540e"
MEMORY = ("#98bfdf", "#6ea3cd", "#3f83b7", "#17609c", "#06335f")  # short to long
NAMES = {PAPER: "paper", INK: "ink", FAINT: "faint", DATA: "data", MODEL: "model", RIVAL: "rival"} | {
    colour: f"memory-{i}" for i, colour in enumerate(MEMORY)
}
# Rivals share an ink; their dashes tell them apart.
DASHES: tuple = ("-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (7, 2, 1.2, 2)), (0, (2.5, 2.5)), (0, (9, 3)))

WIDE, HALF = 480, 236  # widths in the picture's own units: 1 unit is 4/3 px on a desk
_OURS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "separatrix",
    "font.size": 11,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.formatter.useoffset": False,  # 101,325 is 101,325: a reader does not add "+1.0132e5" to every tick
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "xtick.major.size": 3.5,
    "ytick.major.size": 3.5,
    "xtick.minor.size": 2,
    "ytick.minor.size": 2,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "path.simplify_threshold": 0.2,
}
_FAMILIES = (
    "axes.",
    "figure.",
    "font.",
    "grid.",
    "lines.",
    "patch.",
    "path.",
    "savefig.",
    "svg.",
    "text.",
    "xtick.",
    "ytick.",
    "mathtext.",
)


@dataclass(frozen=True)
class Panel:
    """One SVG, and what a pointer may read in it.

    svg    the drawing, ready to stand inside HTML.
    hover  {"box": [x0, y0, x1, y1] in viewBox units, "x": [left, right], "log": x is logarithmic, "name": of x,
            "lines": {name: [[x...], [y...]]}}
    """

    svg: str
    hover: Mapping[str, object] = field(default_factory=dict)


@contextmanager
def pen() -> Iterator[None]:
    """Our defaults and nobody else's, for the length of a block."""
    clean: dict[Any, Any] = {key: value for key, value in matplotlib.rcParamsDefault.items() if key.startswith(_FAMILIES)}
    with matplotlib.rc_context(clean | _OURS):
        yield


def draw(
    slug: str,
    paint: Callable[[Axes], Mapping[str, object] | None],
    *,
    width: float = WIDE,
    height: float = 250,
    left: float = 40,
    right: float = 14,
    top: float = 24,
    bottom: float = 38,
) -> Panel:
    """Run `paint(axes)` on a fresh sheet of `width` x `height` units with these margins; it returns the lines that a pointer may read."""
    with pen():
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
        lines = paint(axes)
        figure.draw_without_rendering()
        wide = axes.yaxis.get_tightbbox()
        if wide is not None and wide.x0 < 0:  # long ticks take their room from the picture, not from its neighbour
            left += 2 - wide.x0 * 72 / figure.dpi
            axes.set_position((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, dpi=72, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
        hover = {}
        if lines:
            log = axes.get_xscale() == "log"
            hover = {
                "box": [left, top, width - right, height - bottom],
                "x": [_short(v) for v in axes.get_xlim()],
                "log": log,
                "name": axes.get_xlabel(),
                "lines": dict(lines),
            }
    return Panel(_inline(buffer.getvalue(), slug), hover)


def on_paper(paint: Callable[[Figure], Any], width: float, height: float) -> tuple[str, Any]:
    """What `paint(figure)` draws on an empty sheet of so many inches, as an SVG with paper of its own, and what it returns."""
    with pen():
        figure = Figure(figsize=(width, height), facecolor=PAPER)
        said = paint(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", dpi=72, metadata={"Date": None, "Creator": None})
    return text.getvalue(), said


def reading(x: ArrayLike, y: ArrayLike, most: int = 400) -> list[list[float | None]]:
    """A line as the page stores it for the pointer: at most `most` points, four digits of what changes, six of a constant, holes null."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    keep = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int)) if len(x) else np.array([], int)
    known = y[np.isfinite(y)]
    span = float(np.ptp(known)) if len(known) else 0.0
    offset = np.log10(float(np.abs(known).max()) / span) if span > 0 else 2.0  # 101,325 +- 1: the first digits say nothing
    return [[_short(v) for v in x[keep]], [_short(v, 4 + min(5, max(0, math.ceil(offset)))) for v in y[keep]]]


def _short(value: float, digits: int = 4) -> float | None:
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def _inline(svg: str, slug: str) -> str:
    """Matplotlib's document as a part of ours: no prologue, no addresses, no fonts, names of its own, inks as variables."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" role="img" aria-label="" xml:space="preserve">', svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="([^"]*)"', lambda m: f'id="{slug}-{m[1]}"', svg)
    svg = re.sub(r'href="#([^"]*)"', lambda m: f'href="#{slug}-{m[1]}"', svg)
    svg = re.sub(r"url\(#([^)]*)\)", lambda m: f"url(#{slug}-{m[1]})", svg)
    svg = re.sub(
        r"font: ([\d.]+)px [^;\"]*|font-size: ([\d.]+)px; font-family: [^;\"]*",
        lambda m: f"font-size:calc({m[1] or m[2]}px*var(--type,1))",
        svg,
    )
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    svg = re.sub(r'\bd="([^"]*)"', lambda m: f'd="{_path(m[1])}"', svg)
    for colour, name in NAMES.items():
        svg = svg.replace(colour, f"var(--{name},{colour})")
    svg = re.sub(r"<text [^>]*>", lambda m: m[0].replace(f"var(--data,{DATA})", f"var(--data-text,{DATA})"), svg)
    return re.sub(r">\s+<", "><", svg).strip()


def _path(d: str) -> str:
    d = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), d)
    return re.sub(r"\s*([A-Za-z])\s*", r"\1", d).strip()


def labelled(panel: Panel, alt: str) -> str:
    """The drawing with its finding in words for those who cannot see it."""
    return panel.svg.replace('aria-label=""', f'aria-label="{escape(alt, quote=True)}"', 1)


def cells(axes: Axes, counts: NDArray, xs: NDArray, ys: NDArray, colours: Sequence[str], opacities: Sequence[float]) -> None:
    """A density as a few flat shapes, one a level: however many points, the picture stays small and follows the theme.    counts [x, y]"""
    most = counts.max()
    if most <= 0:
        return
    levels = np.where(counts > 0, np.floor(np.log1p(counts) / np.log1p(most) * len(colours) * (1 - 1e-9)), -1)
    for level, (colour, opacity) in enumerate(zip(colours, opacities)):
        shape = squares(levels == level, xs, ys)
        if shape is not None:
            axes.add_patch(PathPatch(shape, facecolor=colour, alpha=opacity, linewidth=0))


def squares(where: NDArray, xs: NDArray, ys: NDArray) -> Path | None:
    """The cells that are True, neighbours in a row joined, as one path."""
    pieces = []
    for j in range(where.shape[1]):
        row = np.flatnonzero(where[:, j])
        for run in np.split(row, np.flatnonzero(np.diff(row) > 1) + 1) if len(row) else ():
            x0, x1, y0, y1 = xs[run[0]], xs[run[-1] + 1], ys[j], ys[j + 1]
            pieces.append([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])
    if not pieces:
        return None
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(pieces)
    return Path(np.concatenate([np.array(piece, float) for piece in pieces]), codes)
