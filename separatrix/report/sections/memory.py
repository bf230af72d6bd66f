"""How long the layers remember: the half-life of each mode along the data.

half-life = log 2 / -r        r: mean of log |λ| along the data, mode by mode
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain, plural
from separatrix.report.ink import INK, MODEL, draw
from separatrix.report.labels import powers
from separatrix.stability.number import Number


def memory(
    names: Sequence[str],
    half_lives: Sequence[NDArray],
    *,
    numbers: Mapping[str, Number],
    unit: str,
    made: Made,
    cycle: tuple[float, str] | None,
) -> Finding:
    """How long each layer remembers: median, middle half and extremes over its modes.    half_lives [modes] steps, one array a layer"""
    spans = [np.clip(steps.ravel(), 0.1, 1e6) for steps in half_lives]
    medians = [float(np.median(s)) for s in spans]
    longest = int(np.argmax([steps.max() for steps in half_lives]))
    most = float(half_lives[longest].max())  # the picture ends at a million steps, the number does not
    fastest, slowest = (plain(float(f"{edge(medians):.2g}")) for edge in (min, max))
    who = f"Layers forget half in {fastest} to {slowest}" if len(names) > 1 else f"The layer forgets half in {slowest}"
    title = f"{who} {plural(unit)} at the median mode"
    until = "never" if np.isinf(most) else f"in {plain(float(f'{most:.2g}'))}"
    title += f", the slowest mode {until} ({names[longest]})"

    def paint(axes: Axes) -> None:
        axes.set_xscale("log")
        for i, (name, steps) in enumerate(zip(names, spans)):
            at = len(names) - 1 - i
            low, quarter, middle, three, high = np.quantile(steps, [0, 0.25, 0.5, 0.75, 1])
            axes.plot([low, high], [at, at], color=MODEL, lw=1)
            axes.plot([quarter, three], [at, at], color=MODEL, lw=6, solid_capstyle="butt", alpha=0.5)
            axes.plot([middle], [at], "o", color=MODEL, ms=6)
            axes.text(-0.02, at, name, transform=axes.get_yaxis_transform(), ha="right", va="center")
        everything = np.concatenate(spans)
        axes.set_xlim(max(0.1, 0.7 * everything.min()), 1.4 * everything.max())
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        if cycle and axes.get_xlim()[0] < cycle[0] < axes.get_xlim()[1]:
            axes.axvline(cycle[0], color=INK, lw=0.7, ls=(0, (2, 2)), zorder=0)
            axes.text(cycle[0], 1.0, f"one {cycle[1]}", transform=axes.get_xaxis_transform(), ha="center", va="bottom", gid="halo-cycle")
        powers(axes, "x")
        axes.set_xlabel(f"half-life, {plural(unit)}", loc="right")

    widest = max(len(name) for name in names)
    picture = Picture(
        (draw("memory", paint, height=66 + 26 * len(names), left=min(150, 18 + 6.6 * widest)),),
        f"Half-life of each layer on a logarithmic axis. {title}.",
        "Half-lives of the modes, averaged along the data. Dot: median. Bar: middle half. Line: from shortest to longest.",
    )
    return Finding(
        "memory",
        title,
        "How long does a trace of the past live in each layer?",
        numbers,
        made,
        "The time until half of a state is left. What the network makes of it may fade sooner, and its feedback may keep it longer.",
        picture,
    )
