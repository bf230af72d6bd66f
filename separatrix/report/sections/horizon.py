"""How far forecasts hold: error against lead time, from many origins.

    e_h = |ŷ_{t+h} - y_{t+h}| / σ        the horizon of an origin t: steps before the first e_h above the limit

Paper    Vlachas et al. 2020, Neural Networks 126:191-217, arXiv:1910.05266 (valid prediction time).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain, plural, show
from separatrix.report.ink import DASHES, INK, MODEL, RIVAL, draw, reading
from separatrix.report.labels import axis_names, beside, whole_steps
from separatrix.report.verdict import Horizon
from separatrix.stability.number import Number


def horizon(
    horizon: Horizon,
    curves: Mapping[str, NDArray],
    steps: NDArray,
    *,
    spread: tuple[NDArray, NDArray] | None,
    rivals: Mapping[str, Number],
    limit: float,
    origins: int,
    unit: str,
    made: Made,
) -> Finding:
    """Error against lead time over many origins.

    curves  {"model": [n], baseline: [n]}, median error in standard deviations; spread: its quartiles.
    """
    best = max(((n.value, who) for who, n in rivals.items() if np.isfinite(n.value)), default=None)
    title = f"The median forecast holds for {horizon}"
    if best is not None:
        title += (
            f", the best baseline ({best[1]}) for {plain(round(best[0]))}"
            if best[0] < horizon.steps.value
            else f"; {best[1]} holds longer, {plain(round(best[0]))}"
        )
    alt = f"Error against lead time from {origins} origins. {title}. The line that counts as lost is {plain(limit)} standard deviations."

    def paint(axes: Axes) -> Mapping[str, object]:
        axes.set_xlim(0, float(steps[-1]))
        top = max(1.6, min(2.5, 1.1 * float(np.nanmax(curves["model"]))))
        axes.set_ylim(0, top)
        axes.axhline(limit, color=INK, lw=0.7, ls=(0, (2, 2)))
        axes.text(0, limit, f" lost: {plain(limit)} s.d.", ha="left", va="bottom", gid="halo-limit")
        if spread is not None:
            axes.fill_between(steps, *(np.clip(s, 0, top) for s in spread), color=MODEL, alpha=0.18, lw=0)
        for i, line in enumerate(line for who, line in curves.items() if who != "model"):
            axes.plot(steps, np.clip(line, 0, top), color=RIVAL, lw=0.9, ls=DASHES[i % len(DASHES)])
        axes.plot(steps, np.clip(curves["model"], 0, top), color=MODEL, lw=1.8)
        value = horizon.steps.value
        if np.isfinite(value) and value <= steps[-1]:
            axes.plot([value], [limit], "o", ms=5, color=MODEL)
            if horizon.steps.low is not None and horizon.steps.high is not None:
                axes.plot([horizon.steps.low, min(horizon.steps.high, float(steps[-1]))], [limit, limit], color=MODEL, lw=2.4)
        beside(
            axes,
            float(steps[-1]),
            [
                (who, min(top, float(line[-1])), MODEL if who == "model" else RIVAL, f"halo-{i}")
                for i, (who, line) in enumerate(curves.items())
            ],
        )
        whole_steps(axes)
        axis_names(axes, f"lead time, {plural(unit)}", "error, s.d. of the data")
        return {who: reading(steps, line) for who, line in curves.items()}

    numbers = {"forecast horizon, model": horizon.steps} | {f"forecast horizon, {who}": number for who, number in rivals.items()}
    return Finding(
        "horizon",
        title,
        f"From {origins} different origins, how far ahead is a forecast still better than {plain(limit)} standard deviations off?",
        numbers,
        made,
        "The horizon belongs to this series and this error limit. Origins close to each other are not independent.",
        Picture(
            (draw("horizon", paint, height=220, right=66),),
            alt,
            f"Median error over {origins} origins against lead time; the band holds the middle half. Horizon {show(horizon.steps)}.",
        ),
    )
