"""How training went: loss against step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture
from separatrix.report.ink import INK, MODEL, draw, reading
from separatrix.report.labels import Label, axis_names, beside, powers
from separatrix.stability.number import Number


def training(steps: NDArray, loss: NDArray, *, turn: int | None = None, numbers: Mapping[str, Number], made: Made) -> Finding:
    """Loss against step.    steps, loss [n]; turn: the step from which the loss runs free"""
    title = f"Training ended after {int(steps[-1]):,} steps"
    scale = "log" if (loss > 0).all() else "linear"  # a constant series is learnt to the last digit

    def paint(axes: Axes) -> Mapping[str, object]:
        axes.set_yscale(scale)
        axes.set_xlim(float(steps[0]), float(steps[-1]))
        axes.plot(steps, loss, color=MODEL, lw=0.6, alpha=0.35)
        smooth = _smooth(loss, max(1, len(loss) // 60))
        axes.plot(steps, smooth, color=MODEL, lw=1.6)
        if turn is not None and steps[0] < turn < steps[-1]:
            axes.axvline(turn, color=INK, lw=0.7, ls=(0, (2, 2)))
            axes.text(turn, 1.0, "one step ahead ", transform=axes.get_xaxis_transform(), ha="right", va="bottom", gid="halo-before")
            axes.text(turn, 1.0, " free running", transform=axes.get_xaxis_transform(), ha="left", va="bottom", gid="halo-after")
        if scale == "log":
            powers(axes, "y")
        beside(axes, float(steps[-1]), [Label("loss", float(smooth[-1]), MODEL, "halo-loss")])
        axis_names(axes, "training step", "loss")
        return {"loss": reading(steps, loss)}

    return Finding(
        "training",
        title,
        "Did the loss go down smoothly, and where did the fit end?",
        numbers,
        made,
        "A low training loss is no promise for the free run: that is what the other sections measure.",
        Picture(
            (draw("training", paint, height=190, right=66),),
            f"Training loss against step on a {'logarithmic' if scale == 'log' else 'linear'} axis. {title}.",
            "Thin: every step. Thick: running median.",
        ),
    )


def _smooth(values: NDArray, half: int) -> NDArray:
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])
