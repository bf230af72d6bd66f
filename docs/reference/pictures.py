"""A picture for every room, drawn by what the room exports: only that of `report`, a whole page, is kept from an earlier run.

Inks are those of the report. A painter draws on an empty Figure and returns what there is to see in it.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.nn.functional import normalize

import separatrix as sx
from separatrix.mixers.registry import MIXERS, build_mixer
from separatrix.recurrence import delta_rule, linear_attention, ridge_attention
from separatrix.report.ink import DASHES, DATA, INK, MODEL, RIVAL, on_paper
from separatrix.stability import lyapunov_spectrum, memory_horizon
from separatrix.systems import SYSTEMS, lorenz, trajectory
from separatrix.tasks.baselines import Autoregression, seasonal
from separatrix.tasks.laser import laser_split

Painter = Callable[[Figure], str]
PICTURES: dict[str, tuple[Painter, float]] = {}
WIDTH = 8.0  # inches


def of_height(height: float) -> Callable[[Painter], Painter]:
    """Enter a painter under its own name, which is that of the room."""

    def enter(paint: Painter) -> Painter:
        PICTURES[paint.__name__] = paint, height
        return paint

    return enter


def drawn(room: str) -> str:
    """As HTML."""
    if room == "report":
        image = b64encode((Path(__file__).parents[1] / "img" / "report.png").read_bytes()).decode()
        picture, said = (
            f'<img alt="" src="data:image/png;base64,{image}">',
            "The report of `separatrix fit laser` (`make picture` draws it).",
        )
    else:
        paint, height = PICTURES[room]
        svg, said = on_paper(paint, WIDTH, height)
        picture = svg[svg.index("<svg") :]
    return f"<figure>{picture}<figcaption>{escape(said)}</figcaption></figure>"


@of_height(1.9)
def claims(figure: Figure) -> str:
    told = [paper for paper in sx.papers.papers() if paper.claim and paper.verdict]
    axes = figure.add_axes((0.01, 0, 0.98, 1))
    for at, paper in enumerate(reversed(told)):
        holds = paper.verdict == "holds"
        axes.plot([0], [at], "o" if holds else "x", color=MODEL if holds else RIVAL, ms=8, mew=2)
        axes.text(0.05, at, f"{paper.verdict}: {paper.title}", va="center")
    axes.set(xlim=(-0.03, 3), ylim=(-0.7, len(told) - 0.3))
    axes.axis("off")
    return f"What the {len(told)} claims said when they were last run."


@of_height(5.0)
def data(figure: Figure) -> str:
    names = [name for name in sx.data.about() if name not in sx.data.TEXTS]
    for axes, name in zip(figure.subplots(len(names)), names):
        line = sx.data.load(name).values[:600, 0]
        axes.plot(line, color=DATA, lw=0.9)
        axes.set_xlim(0, len(line) - 1)
        axes.text(-0.01, 0.5, f"{name}, {len(line)} rows", transform=axes.transAxes, ha="right", va="center")
        axes.axis("off")
    figure.subplots_adjust(left=0.22, right=0.99, top=0.99, bottom=0.01)
    return "The sequences that come with the package: the first column, its first rows."


@of_height(3.2)
def mixers(figure: Figure) -> str:
    axes = figure.add_axes((0.16, 0.16, 0.81, 0.8))
    x = torch.randn(1, 256, 32, generator=torch.Generator().manual_seed(0))
    named = []
    for name in MIXERS:
        layer = build_mixer(name, 32, generator=torch.Generator().manual_seed(0))
        if not hasattr(layer, "transition"):
            continue
        lives = memory_horizon(layer.transition(x)).half_life.flatten().clamp(1e-1, 1e6)
        low, quarter, middle, three, high = np.quantile(lives.double().numpy(), [0, 0.25, 0.5, 0.75, 1])
        at = -len(named)
        axes.plot([low, high], [at, at], color=MODEL, lw=1)
        axes.plot([quarter, three], [at, at], color=MODEL, lw=6, alpha=0.5, solid_capstyle="butt")
        axes.plot([middle], [at], "o", color=MODEL, ms=6)
        named.append(name)
    axes.set_yticks([-i for i in range(len(named))], named)
    axes.set_xscale("log")
    axes.set_xlabel("half-life of a mode on white noise, steps", loc="right")
    return "How long each layer remembers before it is trained. Dot: the median mode. Bar: middle half. Line: from shortest to longest."


@of_height(2.6)
def models(figure: Figure) -> str:
    series = sx.data.load("sunspots")
    mean, scale = series.values.mean(), series.values.std()
    heard = torch.tensor((series.values[-720:] - mean) / scale)
    linear = sx.models.RidgeAutoregression(1, 132).double().fit(heard)
    goes_on = linear.free_run(heard[None, -132:], 240)[0, :, 0].numpy() * scale + mean
    axes = figure.add_axes((0.08, 0.17, 0.9, 0.78))
    axes.plot(np.arange(-360, 0), series.values[-360:, 0], color=DATA, lw=1)
    axes.plot(np.arange(len(goes_on)), goes_on, color=MODEL, lw=1.8)
    axes.set_xlim(-360, len(goes_on))
    axes.set_xlabel("months from the end of the sunspot numbers", loc="right")
    return "A RidgeAutoregression of 132 months, fitted to the last 60 years (grey), goes on by itself for 20 more (blue)."


@of_height(3.4)
def papers(figure: Figure) -> str:
    rooms = Counter(paper.room for paper in sx.papers.papers())
    done = {status: Counter(p.room for p in sx.papers.papers() if p.status == status) for status in ("works", "parts")}
    axes = figure.add_axes((0.16, 0.14, 0.82, 0.84))
    for at, (room, count) in enumerate(rooms.most_common()):
        works, parts = done["works"][room], done["parts"][room]
        for left, width, colour in ((0, works, MODEL), (works, parts, DATA)):
            axes.barh(-at, width, left=left, color=colour, height=0.7)
        axes.barh(-at, count, fill=False, edgecolor=INK, lw=0.7, height=0.7)
    axes.set_yticks([-i for i in range(len(rooms))], [room for room, _ in rooms.most_common()])
    axes.set_xlabel("papers", loc="right")
    return "The map: papers of each room. Blue: implemented, and its claim was run. Grey: implemented. Empty: open."


@of_height(2.8)
def recurrence(figure: Figure) -> str:
    K, T = 32, 96
    draw = torch.Generator().manual_seed(0)
    k = normalize(torch.randn(256, T, 1, K, generator=draw), dim=-1)
    v, beta = torch.randn(256, T, 1, K, generator=draw), torch.ones(256, T, 1)
    q, fading = k[:, :1].expand_as(k), torch.full((256, T, 1), -1 / 32)
    read = {
        "linear attention": linear_attention(q, k, v, scale=1.0)[0],
        "with decay": linear_attention(q, k, v, fading, scale=1.0)[0],
        "delta rule": delta_rule(q, k, v, beta, scale=1.0)[0],
        "ridge attention": ridge_attention(q, k, v, beta, ridge=torch.full((1, K), 1e-3))[0],
    }
    axes = figure.add_axes((0.08, 0.17, 0.72, 0.78))
    for (name, o), dash in zip(read.items(), DASHES):
        missed = (o - v[:, :1]).square().sum((-2, -1)).mean(0) / v[:, :1].square().sum((-2, -1)).mean(0)
        axes.plot(missed.sqrt(), color=MODEL, ls=dash, lw=1.6)
        axes.annotate(name, (T - 1, float(missed[-1].sqrt())), (6, 0), textcoords="offset points", va="center", annotation_clip=False)
    axes.set(xlim=(0, T - 1), ylim=(0, None))
    axes.set_xlabel("values written since, under other keys", loc="right")
    return (
        f"The first value, read again by its key: relative error, random keys. Ridge attention is exact until all {K} dimensions are used."
    )


@of_height(2.6)
def stability(figure: Figure) -> str:
    lengths = np.unique(np.logspace(3, 5.5, 11).astype(int))
    found = [lyapunov_spectrum(lorenz, steps=int(steps)) for steps in lengths]
    axes = figure.add_axes((0.1, 0.18, 0.88, 0.76))
    known = lorenz.known["lyapunov"].value[0]
    axes.axhline(known, color=DATA, lw=1.5)
    middle = np.array([float(spectrum.exponents[0]) for spectrum in found])
    ends = np.array([[n.low, n.high] for n in (spectrum.largest for spectrum in found)], float)
    axes.errorbar(lengths * lorenz.dt, middle, np.abs(ends.T - middle), fmt="o", color=MODEL, ms=4, lw=1.2)
    axes.set_xscale("log")
    axes.set_xlabel("units of time", loc="right")
    return f"The largest Lyapunov exponent of the Lorenz system, 95 % intervals, by the length of the run. Line: {known} (Sprott 2003)."


@of_height(3.6)
def systems(figure: Figure) -> str:
    axes = figure.subplots(2, 5).flatten()
    for place, (name, system) in zip(axes, SYSTEMS.items()):
        flows = system.dt < 1
        line = trajectory(system, torch.tensor(system.initial_state, dtype=torch.float64), 3000 if flows else 500)
        if flows:
            place.plot(line[::2, 0], line[::2, -1], color=MODEL, lw=0.4)
        elif system.dimension > 1:
            place.plot(line[:, 0], line[:, -1], ".", color=MODEL, ms=1)
        else:
            place.plot(line[:-1, 0], line[1:, 0], ".", color=MODEL, ms=1)
        place.set_title(name, fontsize=11)
        place.axis("off")
    figure.subplots_adjust(left=0.01, right=0.99, top=0.92, bottom=0.02)
    return "The systems, 3,000 steps of a flow and 500 of a map: first coordinate against the last, or against the next value."


@of_height(2.6)
def tasks(figure: Figure) -> str:
    series, truth = laser_split()
    heard = series.values[None, :, 0]
    axes = figure.add_axes((0.07, 0.17, 0.89, 0.78))
    axes.plot(np.arange(900, 1000), heard[0, 900:], color=DATA, lw=1)
    axes.plot(np.arange(1000, 1100), truth, color=DATA, lw=2)
    assert series.period is not None
    rivals = {"AR(20)": Autoregression.fit(heard[0], 20).forecast(heard, 100)[0], "seasonal": seasonal(heard, 100, series.period)[0]}
    for (name, forecast), dash in zip(rivals.items(), DASHES):
        axes.plot(np.arange(1000, 1100), forecast, color=RIVAL, ls=dash, lw=1.2, label=name)
    axes.legend(loc="upper left", frameon=False)
    axes.set_xlim(900, 1100)
    axes.set_xlabel("row of the laser", loc="right")
    return "The Santa Fe task: rows up to 999 are heard, the next hundred (thick) are asked for. Two forecasts that cost nothing."


@of_height(2.6)
def training(figure: Figure) -> str:
    series = sx.data.load("lynx")
    model = sx.Forecaster("s4d", steps=60, random_state=0).fit(series)
    ahead = model.predict(20)[:, 0]
    low, high = model.calibrate(series).predict_interval(20, coverage=0.8)
    years = np.arange(1821, 1821 + len(series.values))
    later = years[-1] + 1 + np.arange(20)
    axes = figure.add_axes((0.09, 0.17, 0.89, 0.78))
    axes.plot(years, series.values[:, 0], color=DATA, lw=1)
    axes.fill_between(later, low[:, 0], high[:, 0], color=MODEL, alpha=0.2, lw=0)
    axes.plot(later, ahead, color=MODEL, lw=1.8)
    axes.set_xlim(years[0], later[-1])
    axes.set_xlabel("year", loc="right")
    return "Forecaster('s4d', steps=60) on the lynx trapped a year: 20 years ahead, eight in ten should lie in the band."
