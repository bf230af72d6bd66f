"""How training went: loss against step, and where it stopped."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain
from separatrix.report.ink import INK, MODEL, RIVAL, axis_names, draw, powers, reading
from separatrix.report.sections.forecast import beside
from separatrix.stability.number import Number


def training(
    steps: NDArray,
    loss: NDArray,
    checks: tuple[NDArray, NDArray] | None,
    kept: int | None,
    *,
    numbers: Mapping[str, Number],
    made: Made,
    call: str,
    text: str,
    what: str = "validation NMSE",
    turn: int | None = None,
) -> Finding:
    """Loss against step.

    steps, loss  [n].
    checks       steps and errors of a validation stretch, [m] each.
    kept         the step whose weights were kept.
    turn         the step from which the loss runs free.
    """
    best = float(np.nanmin(checks[1])) if checks is not None and len(checks[1]) else float("nan")
    title = f"Training ended after {int(steps[-1]):,} steps" + (
        f"; the weights of step {kept:,} were kept" if kept is not None and kept != steps[-1] else ""
    )
    if np.isfinite(best):
        title += f", {what} {plain(best)}"

    def paint(axes: Axes) -> Mapping[str, object]:
        axes.set_yscale("log")
        axes.set_xlim(float(steps[0]), float(steps[-1]))
        axes.plot(steps, loss, color=MODEL, lw=0.6, alpha=0.35)
        smooth = _smooth(loss, max(1, len(loss) // 60))
        axes.plot(steps, smooth, color=MODEL, lw=1.6)
        ends = [("loss", float(smooth[-1]), MODEL, "halo-loss")]
        lines = {"loss": reading(steps, loss)}
        if checks is not None and len(checks[0]):
            axes.plot(*checks, color=RIVAL, lw=1.1, ls=(0, (5, 2)))
            ends.append(("validation", float(checks[1][-1]), RIVAL, "halo-validation"))
            lines[what] = reading(*checks)
        if turn is not None and steps[0] < turn < steps[-1]:
            axes.axvline(turn, color=INK, lw=0.7, ls=(0, (2, 2)))
            axes.text(turn, 1.0, "one step ahead ", transform=axes.get_xaxis_transform(), ha="right", va="bottom", gid="halo-before")
            axes.text(turn, 1.0, " free running", transform=axes.get_xaxis_transform(), ha="left", va="bottom", gid="halo-after")
        if kept is not None:
            axes.axvline(kept, color=INK, lw=0.7, ls=(0, (2, 2)))
            axes.text(kept, 1.0, "kept", transform=axes.get_xaxis_transform(), ha="center", va="bottom", gid="halo-kept")
        powers(axes, "y")
        beside(axes, float(steps[-1]), ends)
        axis_names(axes, "training step", "loss")
        return lines

    return Finding(
        "training",
        title,
        "Did training go down smoothly, and where was it stopped?",
        numbers,
        made,
        "A low training loss is no promise for the free run: that is what the other sections measure.",
        call,
        Picture(
            (draw("training", paint, height=190, right=66),),
            f"Training loss against step on a logarithmic axis. {title}.",
            "Thin: every step. Thick: running median." + (" Dashed: error on the validation stretch." if checks is not None else ""),
        ),
        text,
    )


def _smooth(values: NDArray, half: int) -> NDArray:
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])
