"""How fast nearby starts part, in the model and in the data, with the same instrument and the same settings.

    S(k) = < ln d_i(k) >        d_i(k): distance of the i-th pair of neighbours k steps later; the slope of S is the exponent     (1)

Paper    Rosenstein, Collins & De Luca 1993, Physica D 65, 117.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain, plural, show
from separatrix.report.ink import DATA, FAINT, INK, MODEL, draw, reading
from separatrix.report.labels import Label, axis_names, beside, room
from separatrix.stability.number import Number


@dataclass(frozen=True)
class Growth:
    """(1) for one series.    steps, log_distance [K]; fit: the first and the last step of the straight stretch; exponent per `unit`"""

    who: str
    steps: NDArray
    log_distance: NDArray
    fit: tuple[float, float]
    exponent: Number


def divergence(growths: Sequence[Growth], *, numbers: Mapping[str, Number], unit: str, made: Made, doubt: str = "") -> Finding:
    """growths: the data first (when there are any), then the model; doubt: why an exponent may not be one."""
    named = {growth.who: growth for growth in growths}
    values = {who: growth.exponent for who, growth in named.items()}
    rates = [
        f"{_brief(growth.exponent)}{f' per {unit}' if growth is growths[-1] else ''} in the {growth.who}" for growth in reversed(growths)
    ]
    title = f"Nearby starts part at {', '.join(rates)}" + (f", but {doubt}" if doubt else _meaning(growths))

    def paint(axes: Axes) -> Mapping[str, object]:
        for who, growth in named.items():
            colour = DATA if who == "data" else MODEL
            axes.plot(growth.steps, growth.log_distance, color=colour, lw=2.4 if who == "data" else 1.5)
            if np.isfinite(growth.exponent.value):
                inside = (growth.steps >= growth.fit[0]) & (growth.steps <= growth.fit[1])
                at = growth.steps[inside]
                if len(at) > 1:
                    level = float(np.mean(growth.log_distance[inside] - growth.exponent.value * at))
                    begin = level + growth.exponent.value * at[0]
                    if (interval := _interval(growth.exponent)) is not None:
                        axes.fill_between(at, *(begin + rate * (at - at[0]) for rate in interval), color=colour, alpha=0.25, lw=0)
                    axes.plot(at, begin + growth.exponent.value * (at - at[0]), color=INK, lw=0.9, ls=(0, (4, 2)))
        last = max(float(growth.steps[-1]) for growth in growths)
        axes.set_xlim(0, last)
        drawn = np.concatenate([growth.log_distance for growth in growths])
        low, high = float(np.nanmin(drawn)), float(np.nanmax(drawn))
        flat = max(0.0, 1.0 - (high - low)) / 2  # less than one e-fold is not growth and is not blown up to look like it
        axes.set_ylim(room(low - flat, high + flat))
        beside(
            axes,
            last,
            [
                Label(f"{who} {_brief(g.exponent)}", float(g.log_distance[-1]), DATA if who == "data" else MODEL, f"halo-{who}")
                for who, g in named.items()
            ],
        )
        axis_names(axes, f"{plural(unit)} later", "mean ln(distance)")
        return {who: reading(g.steps, g.log_distance) for who, g in named.items()}

    margin = max(92.0, 14 + 6.8 * max(len(f"{who} {_brief(value)}") for who, value in values.items()))
    alt = f"Mean logarithm of the distance between neighbours against time, for {' and '.join(named)}. {title}."
    return Finding(
        "divergence",
        title,
        "Two states that are almost alike: how fast do they part, and is it the same in the model as in the data?",
        numbers,
        made,
        "Read off one scalar series with neighbours; noise and a short record bias it, and coloured noise parts like chaos. "
        "The exponent of the model's own equations stands in the section on its spectrum.",
        Picture(
            (draw("divergence", paint, height=230, right=margin),),
            alt,
            "A straight rise is exponential growth; the level where it ends is the size of the attractor. "
            "Dashed: the stretch of the fit, whose slope is the exponent beside the name; pale: slopes within its interval.",
        ),
    )


def _meaning(growths: Sequence[Growth]) -> str:
    """What the exponents say, to end a title."""
    signs = {growth.who: sign(growth.exponent, float(growth.steps[-1])) for growth in growths}
    if unclear := [who for who, found in signs.items() if found == 0]:
        return f": not told from zero in the {' and the '.join(unclear)}"
    if len(signs) == 1:
        return ""
    grow = [who for who, found in signs.items() if found > 0]
    return ": both as chaos does" if len(grow) == 2 else f": only the {grow[0]} as chaos does" if grow else ": neither is chaotic"


def sign(exponent: Number, steps: float) -> int:
    """1 for growth, -1 for decay, 0 where it is not told from zero: by the nearer end of its interval it would change a disturbance by less
    than one e-fold over the steps that were measured.    exponent per step"""
    low, high = _low(exponent), exponent.value if exponent.high is None else exponent.high
    return 1 if low * steps >= 1 else -1 if high * steps <= -1 else 0


def exponents(
    values: Sequence[Number], *, estimate: Number | None, numbers: Mapping[str, Number], settled: bool, unit: str, made: Made
) -> Finding:
    """The leading Lyapunov exponents of the model in free run, largest first; estimate: what its output alone suggests."""
    top = values[0]
    kind = {
        1: "chaotic",
        -1: "settling, every nearby start is forgotten",
        0: "at the line between settling and chaos",
    }[sign(top, made.steps or math.inf)]
    title = f"In free run the model is {kind}: largest exponent {_brief(top)} per {unit}"
    if not settled:
        title += " (still drifting)"

    text = (
        ""
        if estimate is None or _meet(estimate, top)
        else (
            f"The estimate from the output alone (picture of nearby starts: {_brief(estimate)}) and this exponent of the equations "
            f"({_brief(top)}) differ by more than their intervals: on such a run the estimate is biased. Expect the same bias in the "
            f"estimate for the data: compare the two estimates with each other, and neither with this number."
        )
    )

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=INK, lw=0.8)
        for i, number in enumerate(values):
            if number.low is not None and number.high is not None:
                axes.plot([i + 1, i + 1], [number.low, number.high], color=MODEL, lw=2.4, alpha=0.5)
            axes.plot([i + 1], [number.value], "o", ms=5, color=MODEL)
        axes.set_xlim(0.4, len(values) + 0.6)
        axes.set_xticks(range(1, len(values) + 1) if len(values) <= 16 else range(1, len(values) + 1, 4))
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", color=FAINT, lw=0.4)
        axis_names(axes, "exponent, largest first", f"per {unit}")

    return Finding(
        "exponents",
        title,
        "Along its own free run, at which rates do small disturbances of the whole state grow or fade?",
        numbers,
        made,
        "An average over one long run. Single moments can amplify far more than the average says; the section on gain looks at those.",
        Picture(
            (draw("exponents", paint, height=180, left=44),),
            f"The {len(values)} leading Lyapunov exponents of the free-running model. {title}.",
            "Above the line a disturbance grows, below it fades. Bars: 95 percent intervals over blocks of the run.",
        ),
        text,
    )


def _meet(a: Number, b: Number) -> bool:
    """Whether two intervals have a value in common; without intervals nothing can be said against it."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True
    return a.low <= b.high and b.low <= a.high


def _interval(number: Number) -> tuple[float, float] | None:
    """Both ends, where there are two."""
    if number.low is None or number.high is None or not math.isfinite(number.low + number.high):
        return None
    return number.low, number.high


def _low(number: Number) -> float:
    return number.low if number.low is not None else number.value


def _brief(number: Number) -> str:
    """The value with the digits of its interval, without the interval, and never more than a title can hold."""
    text = show(number, unit=False).split(" [")[0].split(" (")[0]
    return text if len(text) <= 8 else plain(number.value)
