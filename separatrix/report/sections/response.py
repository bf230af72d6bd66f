"""What the forecast listens to: how far back, and how loudly it answers a small change.

    g(τ) = |∂ŷ_{t+1} / ∂x_{t-τ}|                 gain = max ‖f(u + d) - f(u)‖ / ‖d‖ over small changes d of the data u     (1)

Paper    Bengio, Simard & Frasconi 1994, IEEE Trans. Neural Netw. 5:157 (gradients as memory).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, counted, plain, plural
from separatrix.report.ink import INK, MODEL, draw, reading
from separatrix.report.labels import Label, axis_names, beside, powers, whole_steps
from separatrix.stability.number import Number


def response(
    lags: NDArray,
    influence: NDArray,
    *,
    faded: Number,
    gain: Number | None,
    numbers: Mapping[str, Number],
    unit: str,
    made: Made,
) -> Finding:
    """influence [lags] of a value that long ago on the next forecast; faded: the lag after which less than one percent is left"""
    unfinished = faded.low is not None and faded.value == faded.low
    title = f"The next value depends on the last {counted(faded.value, unit)}" + (" and beyond" if unfinished else "")
    if gain is not None and np.isfinite(gain.value):
        title += f"; a small change of the data is amplified up to {plain(float(f'{gain.value:.2g}'))} times"
    share = np.maximum(influence / influence.max(), 1e-6)

    def paint(axes: Axes) -> Mapping[str, object]:
        axes.set_yscale("log")
        seen = lags <= max(20.0, min(float(lags[-1]), 1.6 * faded.value))
        axes.plot(lags[seen] + 1, share[seen], color=MODEL, lw=1.4)
        axes.set_xlim(1, float(lags[seen][-1]) + 1)
        axes.axhline(0.01, color=INK, lw=0.7, ls=(0, (2, 2)))
        axes.set_ylim(max(1e-6, 0.5 * float(share[seen].min())), 2)
        beside(axes, float(lags[seen][-1]) + 1, [Label("1 percent", 0.01, INK, "halo-line")])
        powers(axes, "y")
        whole_steps(axes)
        axis_names(axes, f"{plural(unit)} back", "influence on the next forecast")
        return {"influence": reading(lags[seen] + 1, share[seen])}

    return Finding(
        "response",
        title,
        "Which part of the past does the next forecast depend on, and how much can a small change of the data move the forecasts?",
        numbers,
        made,
        "Derivatives at the data say nothing about large changes, and the gain is the largest found, not the largest there is.",
        Picture(
            (draw("response", paint, height=180, right=72),),
            f"Influence of a past value on the next forecast against its age, on a logarithmic axis. {title}.",
            "Root mean square of the derivative of the last forecast, as a share of its maximum.",
        ),
    )
