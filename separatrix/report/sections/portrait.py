"""The long free run beside the data: portrait, histogram, spectrum, bound.

    portrait    pairs (y_t, y_{t-d}), the simplest view of an attractor that a scalar series allows
    overlap     Σ min(p, q) over the cells of two portraits, from 0 (nowhere in common) to 1 (the same)        (1)

A point belongs to the four nodes around it, to each the more the nearer it is: in a cell with walls, a rounding would move the 9 of a
series of whole numbers from one cell to the next, or out of the portrait. Two halves of the data do not overlap completely either: that
is the yardstick, and it stands beside the number.

Paper    Packard, Crutchfield, Farmer & Shaw 1980, Phys. Rev. Lett. 45, 712 (delay coordinates); Wand 1994, J. Comput. Graph. Stat. 3, 433
         (linear binning).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, counted
from separatrix.report.ink import DATA, HALF, MODEL, cells, draw
from separatrix.report.labels import axis_names
from separatrix.stability.number import Number

TELLING = 0.2  # of a portrait that the data's halves must share before anything else is compared with it
NODES = 24  # per axis, for overlaps; the picture is drawn finer


def overlap(a: NDArray, b: NDArray, delay: int, reach: tuple[float, float]) -> float:
    """(1) of the delay portraits of two series.    a [T], b [T'] -> between 0 and 1; reach: the outermost nodes"""
    p, q = (_shares(*_pairs(series, delay), reach) for series in (a, b))
    return float(np.minimum(p, q).sum())


def _pairs(series: NDArray, delay: int) -> tuple[NDArray, NDArray]:
    now, then = series[delay:], series[:-delay]
    known = np.isfinite(now) & np.isfinite(then)
    return now[known], then[known]


def _shares(x: NDArray, y: NDArray, reach: tuple[float, float]) -> NDArray:
    """Points on nodes, each in four parts: a node at distance d, with nodes h apart, has the share max(0, 1 - d/h) on either axis."""
    low, high = reach
    mass = np.zeros((NODES + 2, NODES + 2))  # with a node beyond either end, where what fades is left
    x, y = (np.clip((z - low) / (high - low) * (NODES - 1) + 1, 0, NODES + 1) for z in (x, y))
    i, j = (np.minimum(z.astype(int), NODES) for z in (x, y))
    s, t = x - i, y - j
    for di, share in ((0, 1 - s), (1, s)):
        for dj, other in ((0, 1 - t), (1, t)):
            np.add.at(mass, (i + di, j + dj), share * other)
    return mass[1:-1, 1:-1] / max(len(x), 1)


class Overlaps(NamedTuple):
    """How much of the data's portrait the long run shares, and the yardstick: how much the data's halves share with each other."""

    shared: Number
    own: Number


def overlaps(data: NDArray, model: NDArray, delay: int) -> Overlaps:
    """How much of the data's portrait the long run shares, and how much the data's halves share.

    Each piece of the run is as long as half of the data, so that both overlaps suffer alike from few points; the interval is the
    spread over pieces (two standard errors of their mean).
    """
    half = len(data) // 2
    known = data[np.isfinite(data)]
    reach = float(known.min()), float(known.max())
    pieces = [model[i : i + half] for i in range(0, len(model) - half + 1, half)][:40] or [model]
    values = np.array([overlap(piece, side, delay, reach) for piece in pieces for side in (data[:half], data[half:])])
    means = values.reshape(-1, 2).mean(1)
    error = 2 * float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else float("nan")
    mean = float(means.mean())
    spread = (max(0.0, mean - error), min(1.0, mean + error)) if np.isfinite(error) else (None, None)
    how = f"shared mass of two delay portraits on {NODES} x {NODES} nodes, delay {delay}"
    return Overlaps(
        Number(
            mean,
            "estimated" if np.isfinite(error) else "measured",
            spread[0],
            spread[1],
            "",
            f"{how}; mean over {len(means)} pieces of the run",
        ),
        Number(overlap(data[:half], data[half:], delay, reach), "measured", how=f"{how}; first against second half of the data"),
    )


def portrait(data: NDArray, model: NDArray, delay: int, overlaps: Overlaps, *, name: str, unit: str, still: bool, made: Made) -> Finding:
    """Delay portraits side by side, the same axes, the same number of points.    data [T], model [T'] in the data's units; still: the model
    stands still"""
    shared, own = overlaps
    count = min(len(data), len(model))
    known = data[np.isfinite(data)]
    margin = 0.06 * (known.max() - known.min())
    low, high = min(known.min(), float(np.quantile(model, 0.0005))), max(known.max(), float(np.quantile(model, 0.9995)))
    span = known.max() - known.min()
    low, high = max(low, known.min() - span) - margin, min(high, known.max() + span) + margin
    edges = np.linspace(low, high, 97)

    def paint(series: NDArray, colour: str, who: str):
        def on(axes: Axes) -> None:
            counts = np.histogram2d(*_pairs(series, delay), bins=(edges, edges))[0]
            cells(axes, counts, edges, edges, [colour] * 4, (0.3, 0.5, 0.75, 1.0))
            axes.set_xlim(low, high)
            axes.set_ylim(low, high)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.text(0.98, 0.98, who, transform=axes.transAxes, color=colour, weight="bold", ha="right", va="top", gid="halo-who")
            if still and who == "model":
                axes.plot(series[-1:], series[-1:], "o", color=colour, ms=6)
            axis_names(axes, f"{name} now", f"{counted(delay, unit)} before")

        return on

    share = shared.value / own.value if own.value else 0.0
    if still:
        title = "The long run stands still: one point, where the data's portrait has many"
    elif own.value < TELLING:
        title = f"Too little to compare: the data's own halves share only {own.value:.0%} of a portrait, the long run {shared.value:.0%}"
    elif share >= 0.85:
        title = f"The long run visits what the data visit: portraits share {shared.value:.0%}, the data's own halves {own.value:.0%}"
    elif share < 0.4:
        title = f"The long run is somewhere else: portraits share only {shared.value:.0%}, the data's own halves {own.value:.0%}"
    else:
        title = (
            f"The long run visits a part of what the data visit: portraits share {shared.value:.0%}, the data's own halves {own.value:.0%}"
        )
    panels = tuple(
        draw(f"portrait-{who}", paint(series[-count:], colour, who), width=HALF, height=HALF, left=40, right=8, top=24, bottom=38)
        for who, series, colour in (("data", data, DATA), ("model", model, MODEL))
    )
    alt = f"Two delay portraits on the same axes, data on the left, the model's long free run on the right. {title}."
    return Finding(
        "portrait",
        title,
        "After a very long free run, does the model still live where the data live?",
        {"overlap of delay portraits, model and data": shared, "overlap of delay portraits, two halves of the data": own},
        made,
        "A portrait shows where a system is, not when: two different clocks can draw the same picture. The spectrum tells them apart.",
        Picture(
            panels,
            alt,
            f"Each value against the one {counted(delay, unit)} before, {count:,} points a side, stronger where visited more often.",
        ),
    )
