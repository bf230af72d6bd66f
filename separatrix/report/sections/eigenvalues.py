"""Eigenvalues of the recurrent layers, visited along the data, and how long they remember.

    h_t = A_t h_{t-1} + ...        λ in spec(A_t)        memory = -1 / ln |λ|   steps until a trace has faded to 1/e

A layer whose transition depends on its input has no eigenvalues of its own, only those it visits: they are collected along the data.

Paper    Orvieto et al. 2023, arXiv:2303.06349 (eigenvalues of recurrent layers and their memory).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle, PathPatch
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, counted, plural
from separatrix.report.ink import FAINT, INK, MEMORY, WIDE, Panel, draw, squares
from separatrix.report.labels import axis_names, powers
from separatrix.stability import Number, memory_steps

BANDS = (0.0, 3.0, 10.0, 30.0, 100.0, np.inf)  # memory in steps, one shade each


@dataclass(frozen=True)
class Layer:
    """The eigenvalues one layer visited.    values [visits, n] complex; input_dependent: False when every visit is the same"""

    name: str
    values: NDArray
    input_dependent: bool


def eigenvalues(layers: Sequence[Layer], *, numbers: Mapping[str, Number], unit: str, made: Made) -> Finding:
    """All layers in one complex plane."""
    values = np.concatenate([layer.values.ravel() for layer in layers])
    modulus, steps = np.abs(values), _memory(values)
    # of the layer with the largest share: a layer that is visited once would vanish among the visits of others
    outside, loudest = max(((float(np.mean(np.abs(layer.values) > 1 + 1e-6)), layer) for layer in layers), key=lambda pair: pair[0])
    longest = float(np.max(steps))
    visited = "visited " if any(layer.input_dependent for layer in layers) else ""
    if outside > 0:
        share = f"{outside:.2%}" if outside >= 5e-5 else "Less than 0.01%"
        those = "visited eigenvalues" if loudest.input_dependent else "eigenvalues"
        of, named = ("", "") if len(layers) == 1 else (" of one layer", f" ({loudest.name})")
        title = f"{share} of the {those}{of} lie outside the unit circle{named}"
    elif np.isinf(longest):
        title = f"No {visited}eigenvalue lies outside the unit circle; the longest memory does not fade"
    else:
        lasting = counted(float(f"{longest:.2g}"), unit)
        title = f"Every {visited}eigenvalue lies inside the unit circle; the longest memory is {lasting}"
    real = bool(np.all(np.abs(values.imag) < 1e-9))
    radius = max(1.08, min(1.5, 1.05 * float(modulus.max())))
    panels: tuple[Panel, ...]
    if real:
        panels = (draw("eigenvalues-line", lambda axes: _on_a_line(axes, values.real, radius), height=150),)
        alternate = " or alternate" if values.real.min() < 0 else ""
        looks = f"All eigenvalues are real: the layers leak{alternate}, they do not ring."
    else:
        both = np.concatenate([values, values.conj()])  # a real layer has both of each pair, and may keep one
        panels = (
            draw(
                "eigenvalues-plane",
                lambda axes: _plane(axes, both, (-radius, radius), (-radius, radius)),
                width=HALF_PLUS,
                height=HALF_PLUS,
                left=36,
                right=6,
                top=24,
                bottom=38,
            ),
            draw(
                "eigenvalues-edge",
                lambda axes: _polar(axes, both, unit),
                width=WIDE - HALF_PLUS,
                height=HALF_PLUS,
                left=52,
                right=8,
                top=24,
                bottom=38,
            ),
        )
        looks = (
            "First the complex plane with the unit circle, then the same eigenvalues by angle (how fast they turn) and memory: "
            "the thin rim of the disc, where all long memories live, opened up."
        )
    alt = f"Eigenvalues of {len(layers)} layer{'s' if len(layers) > 1 else ''} in the complex plane with the unit circle. {title}."
    caption = f"{looks} The stronger the shade, the longer the memory: under 3, 10, 30, 100 {plural(unit)} and beyond. " + (
        "Collected along the data, because the layers choose their transitions from what they read."
        if any(la.input_dependent for la in layers)
        else "The transitions of these layers do not depend on the data: one visit shows all."
    )
    return Finding(
        "eigenvalues",
        title,
        "How do the states of the layers move by themselves: do they fade, ring or grow?",
        numbers,
        made,
        "Eigenvalues inside the circle do not bound the loop through the whole network that feeds on its own output, "
        "nor products of transitions that do not commute.",
        Picture(panels, alt, caption),
    )


HALF_PLUS = 240


def _plane(axes: Axes, values: NDArray, xs: tuple[float, float], ys: tuple[float, float]) -> None:
    ex, ey = np.linspace(*xs, 121), np.linspace(*ys, 121)
    _bands(axes, values.real, values.imag, _memory(values), ex, ey)
    axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, lw=0.9))
    axes.axhline(0, color=FAINT, lw=0.5, zorder=0)
    axes.axvline(0, color=FAINT, lw=0.5, zorder=0)
    axes.set_xlim(*xs)
    axes.set_ylim(*ys)
    axes.set_aspect("equal")
    axes.set_xticks([-1, 0, 1])
    axes.set_yticks([-1, 0, 1])
    axis_names(axes, "real", "imaginary")


def _polar(axes: Axes, values: NDArray, unit: str) -> None:
    steps = np.clip(_memory(values), 0.3, 1e5)
    angle = np.abs(np.angle(values)) / np.pi
    top = max(200.0, 2 * float(steps.max()))
    axes.set_yscale("log")
    axes.set_xlim(0, 1)
    bottom = max(0.3, 0.5 * float(steps.min()))
    axes.set_ylim(bottom, top)
    ey = np.geomspace(bottom, top, 101)
    _bands(axes, angle, steps, steps, np.linspace(0, 1 + 1e-9, 101), ey)
    axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    powers(axes, "y")
    axes.set_xlabel(f"angle, half turns a {unit}", loc="right", labelpad=3)
    axes.text(0, 1.03, f"memory, {plural(unit)}", transform=axes.transAxes, ha="left", va="bottom")


def _on_a_line(axes: Axes, values: NDArray, radius: float) -> None:
    edges = np.linspace(-radius, radius, 161)
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.histogram(values, edges)[0]
    heights = np.log1p(counts) / np.log1p(max(counts.max(), 1))
    shade = np.digitize(_memory(middle), BANDS[1:-1])
    for level, colour in enumerate(MEMORY):
        axes.bar(middle[shade == level], heights[shade == level], width=edges[1] - edges[0], color=colour, lw=0)
    axes.axvline(1, color=INK, lw=0.9)
    axes.axvline(-1, color=INK, lw=0.9)
    axes.set_xlim(-radius, radius)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axis_names(axes, "eigenvalue (the bars at -1 and 1 mark the unit circle)", "visits, log scale")


def _bands(axes: Axes, x: NDArray, y: NDArray, steps: NDArray, ex: NDArray, ey: NDArray) -> None:
    """One shape a shade of memory, fainter where visits are rare."""
    shade = np.digitize(steps, BANDS[1:-1])
    for level, colour in enumerate(MEMORY):
        counts = np.histogram2d(x[shade == level], y[shade == level], bins=(ex, ey))[0]
        if counts.max() > 0:
            rare = counts < 0.02 * counts.max()
            for where, opacity in (((counts > 0) & rare, 0.55), ((counts > 0) & ~rare, 1.0)):
                shape = squares(where, ex, ey)
                if shape is not None:
                    axes.add_patch(PathPatch(shape, facecolor=colour, edgecolor=colour, alpha=opacity, linewidth=0.9, joinstyle="round"))


def _memory(values: NDArray) -> NDArray:
    return memory_steps(torch.from_numpy(values)).numpy()
