"""The character of the long run: which values it takes, and with which rhythms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain, plural
from separatrix.report.ink import DATA, FAINT, INK, MODEL, draw, reading
from separatrix.report.labels import Label, axis_names, beside, name_line, powers
from separatrix.stability.number import Number


class Pair(NamedTuple):
    """One curve of the data and the same one of the model's long run, over the same x."""

    x: NDArray
    data: NDArray
    model: NDArray


def histogram(densities: Pair, *, numbers: Mapping[str, Number], title: str, name: str, made: Made) -> Finding:
    """Densities on shared bins.    x [n+1] their edges, data, model [n]"""
    edges, data, model = densities

    def paint(axes: Axes) -> Mapping[str, object]:
        axes.fill_between(np.repeat(edges, 2)[1:-1], np.repeat(data, 2), color=DATA, alpha=0.55, lw=0)
        axes.plot(np.repeat(edges, 2)[1:-1], np.repeat(model, 2), color=MODEL, lw=1.5)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, 1.12 * max(data.max(), model.max()))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _names(axes)
        axis_names(axes, name, "")
        middle = (edges[1:] + edges[:-1]) / 2
        return {"data": reading(middle, data), "model": reading(middle, model)}

    return Finding(
        "histogram",
        title,
        "Does the long run take the values that the data take, as often?",
        numbers,
        made,
        "The order of the values plays no role here: a shuffled series has the same histogram.",
        Picture(
            (draw("histogram", paint, height=150, left=14, top=6),),
            f"Histogram of the long run over that of the data. {title}.",
            "Share of time at each value: data filled, model outlined.",
        ),
    )


def _names(axes: Axes) -> None:
    """Both names at the right, above what is there, so that no bar is covered."""
    end, top = axes.get_xlim()[1], axes.get_ylim()[1]
    axes.text(end, 0.97 * top, "data", color=DATA, weight="bold", ha="right", va="top", gid="halo-data")
    axes.text(end, 0.83 * top, "model", color=MODEL, weight="bold", ha="right", va="top", gid="halo-model")


def spectrum(shares: Pair, *, numbers: Mapping[str, Number], title: str, unit: str, cycle: tuple[float, str] | None, made: Made) -> Finding:
    """Power spectra, as a share of the variance.    x [n] in cycles per `unit`, data, model [n]"""

    def paint(axes: Axes) -> Mapping[str, object]:
        f, d, m = (line[shares.x > 0] for line in shares)
        floor = max(1e-6 * float(np.max(d)), 1e-300)
        axes.set_yscale("log")
        axes.plot(f, np.maximum(d, floor), color=DATA, lw=2.4)
        axes.plot(f, np.maximum(m, floor), color=MODEL, lw=1.2)
        axes.set_xlim(0, float(f[-1]))
        top = float(np.max([d.max(), m.max()]))
        axes.set_ylim(max(floor, 1e-5 * top), 4 * top)
        if cycle:
            axes.axvline(1 / cycle[0], color=FAINT, lw=0.8, zorder=0)
            said = f"one {cycle[1]}, {plain(round(cycle[0], 2))} {plural(unit)}"
            name_line(axes, 1 / cycle[0], Label(said, 2.2 * top, INK, "halo-cycle"), dx=4, bold=False)
        powers(axes, "y")
        beside(
            axes,
            float(f[-1]),
            [
                Label("data", float(max(d[-1], axes.get_ylim()[0])), DATA, "halo-data"),
                Label("model", float(max(m[-1], axes.get_ylim()[0])), MODEL, "halo-model"),
            ],
        )
        axis_names(axes, f"frequency, cycles per {unit}", "power")
        return {"data": reading(f, d), "model": reading(f, m)}

    return Finding(
        "spectrum",
        title,
        "Does the long run keep the rhythms of the data?",
        numbers,
        made,
        "A spectrum sees linear correlations only: a noise with the same spectrum would pass here and fail elsewhere.",
        Picture(
            (draw("spectrum", paint, height=210, right=52),),
            f"Power spectra of data and long run on a logarithmic axis. {title}.",
            "Welch estimates on equal windows, as shares of each series' variance.",
        ),
    )
