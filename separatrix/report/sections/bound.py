"""The long free run: does the envelope of the output stay where it is?

low_j, high_j       extremes of the output over block j, blocks growing with time so that a slow drift shows as well as a fast one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, counted, plain
from separatrix.report.ink import DATA, INK, MODEL, draw, reading
from separatrix.report.labels import Label, axis_names, beside, powers, room
from separatrix.report.verdict import Escape
from separatrix.stability.number import Number


class Envelope(NamedTuple):
    """Extremes of each block of a run, and the step where it ends.    [blocks] each"""

    low: NDArray
    high: NDArray
    steps: NDArray


def bounded(
    envelope: Envelope,
    data: tuple[float, float],
    *,
    numbers: Mapping[str, Number],
    escape: Escape | None,
    name: str,
    made: Made,
    text: str = "",
) -> Finding:
    """The envelope of the long run.    data (lowest, highest), name of its values"""
    low, high, steps = envelope
    total = int(steps[-1]) if len(steps) else 0
    finite = np.isfinite(low) & np.isfinite(high)
    span = data[1] - data[0] or 1.0
    if escape is not None:
        title = f"Runs away after {counted(escape.step, 'free step')}: {escape.where}"
    else:
        reach = max(abs(float(np.max(high[finite])) - sum(data) / 2), abs(float(np.min(low[finite])) - sum(data) / 2)) / (span / 2)
        where = "inside the range of the data" if reach < 1.005 else f"within {plain(float(f'{reach:.3g}'))} times the range of the data"
        title = f"Stays bounded for {total:,} free steps, {where}"
    clip = (data[0] - 2 * span, data[1] + 2 * span)

    def paint(axes: Axes) -> Mapping[str, object]:
        lows, highs = np.clip(np.where(finite, low, clip[0]), *clip), np.clip(np.where(finite, high, clip[1]), *clip)
        axes.set_xscale("log")
        axes.set_xlim(float(steps[0]), max(float(steps[-1]), float(steps[0]) + 1))
        axes.axhspan(*data, color=DATA, alpha=0.22, lw=0)
        axes.fill_between(steps, lows, highs, color=MODEL, alpha=0.25, lw=0)
        axes.plot(steps, highs, color=MODEL, lw=1.2)
        axes.plot(steps, lows, color=MODEL, lw=1.2)
        if escape is not None:
            axes.axvline(max(escape.step, float(steps[0])), color=INK, lw=0.7, ls=(0, (2, 2)))
        top, bottom = max(data[1], highs.max()), min(data[0], lows.min())
        axes.set_ylim(room(bottom, top))
        beside(
            axes,
            float(steps[-1]),
            [
                Label("of data", sum(data) / 2, DATA, "halo-data2"),  # from below; equal heights keep this order
                Label("range", sum(data) / 2, DATA, "halo-data"),
                Label("model", float(highs[-1]), MODEL, "halo-model"),
            ],
        )
        powers(axes, "x")
        axis_names(axes, "free-running steps", name)
        return {"highest": reading(steps, high), "lowest": reading(steps, low)}

    alt = f"Highest and lowest value of the long free run on a logarithmic time axis, with the range of the data as a band. {title}."
    return Finding(
        "bounded",
        title,
        "Left alone for a very long time, does the model stay in bounds, or does it drift or run away?",
        numbers,
        made,
        "A measurement from one start, not a proof: another start or a longer run may still leave.",
        Picture(
            (draw("bounded", paint, height=190, right=66),),
            alt,
            "Each point of the outline is the extreme over the block of steps that ends there.",
        ),
        text,
    )
