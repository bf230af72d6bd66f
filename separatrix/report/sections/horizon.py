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
from separatrix.report.labels import Label, axis_names, beside, whole_steps
from separatrix.report.verdict import ReportedHorizon
from separatrix.stability.number import Number


def horizon(
    horizon: ReportedHorizon,
    curves: Mapping[str, NDArray],
    *,
    quartiles: tuple[NDArray, NDArray],
    rivals: Mapping[str, Number],
    limit: float,
    made: Made,
) -> Finding:
    """Error against lead time over the origins of a horizon.

    curves     {"model": [n], baseline: [n]}, median error in standard deviations at lead 1 .. n.
    quartiles  of the model's error.    [n] each
    rivals     the horizon of each baseline.
    limit      the error that counts as lost.
    """
    steps, origins = np.arange(1, len(curves["model"]) + 1), horizon.origins
    if origins is None:
        raise ValueError("the horizon does not say from how many origins it was measured. Give ReportedHorizon(..., origins=...).")
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
        axes.fill_between(steps, *(np.clip(edge, 0, top) for edge in quartiles), color=MODEL, alpha=0.18, lw=0)
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
                Label(who, min(top, float(line[-1])), MODEL if who == "model" else RIVAL, f"halo-{i}")
                for i, (who, line) in enumerate(curves.items())
            ],
        )
        whole_steps(axes)
        axis_names(axes, f"lead time, {plural(horizon.unit)}", "error, s.d. of the data")
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
