"""Free run against truth: how far a forecast that sees no further value stays with the data.

    NMSE(n) = mean (ŷ_t - y_t)² / var(y)        over t = 1..n after the last value seen; the mean of the truth itself reaches 1

Paper    Weigend & Gershenfeld 1994, Time Series Prediction (the competition that scored free runs this way).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain, plural
from separatrix.report.ink import DASHES, DATA, FAINT, INK, MODEL, RIVAL, draw, reading
from separatrix.report.labels import axis_names, beside, name_line, powers, room, whole_steps
from separatrix.report.verdict import Horizon
from separatrix.stability.number import Number


@dataclass(frozen=True)
class Rival:
    """A baseline that was given the same values.    forecast [n]"""

    name: str
    forecast: NDArray
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Hidden:
    """Errors of free runs into rows that were hidden from the fit, and the interval that follows from them.

    errors    [folds, origins, leads], NaN where nothing was measured.
    width     [n], half of the interval at each lead.
    coverage  share of the rows that should fall inside.
    """

    errors: NDArray
    width: NDArray
    coverage: float

    def grown(self, variance: float) -> NDArray:
        """NMSE up to each lead, in every fold.    [folds, leads]"""
        known = np.isfinite(self.errors)
        squares = np.where(known, self.errors, 0.0) ** 2
        return np.cumsum(squares.sum(1), axis=1) / np.maximum(np.cumsum(known.sum(1), axis=1), 1) / variance


def nmse(forecast: NDArray, truth: NDArray, variance: float) -> float:
    """Mean squared error over the values that exist, in units of `variance`."""
    known = np.isfinite(truth)
    return float(np.mean((forecast[known] - truth[known]) ** 2) / variance) if known.any() else float("nan")


def free_run(
    truth: NDArray,
    forecast: NDArray,
    past: NDArray,
    rivals: Sequence[Rival],
    *,
    variance: float,
    spread: float,
    horizon: Horizon | None,
    origin: int,
    name: str,
    unit: str,
    made: Made,
    alone: NDArray | None = None,
    hidden: Hidden | None = None,
) -> Finding:
    """truth, forecast [n] from row `origin` on, past [m] before it; variance: of the truth; spread: s.d. of the data

    alone   [members, n], what each member of an ensemble forecasts when it hears only itself.
    hidden  what errors on rows that were hidden from a fit say of this forecast.
    """
    n = len(truth)
    error = nmse(forecast, truth, variance)
    errors = {rival.name: nmse(rival.forecast, truth, variance) for rival in rivals}
    ranked = sorted((e, who) for who, e in errors.items() if np.isfinite(e))
    best = ranked[0] if ranked else None
    left = leaves(forecast, truth, spread)
    title = (
        f"Free run stays with the data for all {n} {plural(unit)}"
        if left is None
        else f"Free run leaves the data after {left} of {n} {plural(unit)}"
        if left > 1
        else "Free run leaves the data at once"
    )
    title += f": NMSE {plain(error)}" + (f", best baseline {plain(best[0])} ({best[1]})" if best else "")
    how = f"mean squared error of {n} free-running steps over the variance of the truth"
    numbers = {f"free-running NMSE over {n} {plural(unit)}": Number(error, "measured", how=how)}
    numbers |= {f"NMSE of {who}": Number(e, "measured", how="as above" + _took(rivals, who)) for who, e in errors.items()}
    if alone is not None:
        each = [nmse(one, truth, variance) for one in alone]
        told = f"each of the {len(each)} networks hears only itself: {', '.join(plain(one) for one in each)}"
        numbers["NMSE of a member alone, median"] = Number(float(np.median(each)), "measured", how=told)
    if hidden is not None:
        inside = (np.abs(truth - forecast) <= hidden.width)[np.isfinite(truth)]
        share = f"{hidden.coverage:.0%} interval"
        numbers[f"rows inside the {share}"] = Number(
            float(inside.sum()),
            "measured",
            how=f"of {len(inside)}; estimated from {hidden.errors[..., 0].size} free runs into rows hidden from the fit",
        )
        leads = min(n, hidden.errors.shape[2])
        by_fold = hidden.grown(spread**2)[:, leads - 1]
        numbers[f"NMSE over {leads} {plural(unit)} on hidden rows"] = Number(
            float(by_fold.mean()), "measured", float(by_fold.min()), float(by_fold.max()),
            how="networks that were not fitted to these rows, over the variance of the data: mean and range over folds",
        )  # fmt: skip
    numbers["steps before this free run leaves"] = Number(
        float(n if left is None else left),
        "measured",
        unit=plural(unit),
        how="steps before the first error of more than one half of a standard deviation" + (" (there was none)" if left is None else ""),
    )
    several = horizon is not None and horizon.origins != 1
    if horizon is not None:
        numbers["forecast horizon" + (", over origins" if several else "")] = horizon.steps
    shown = best[1] if best else ""
    switches = {r.name: (f"free-run-rival-{i}-", r.name == shown) for i, r in enumerate(rivals)}
    alt = f"The model's free run drawn over {n} values of {name} from row {origin} on. {title}." + (
        f" The baselines reach {', '.join(f'{who} {plain(e)}' for e, who in ranked)}." if ranked else ""
    )
    room = max(66.0, 14 + 6.4 * max((len(rival.name) for rival in rivals), default=0))
    trace = draw(
        "free-run",
        lambda axes: _trace(axes, truth, forecast, past, rivals, shown, left, name, unit, alone, hidden),
        height=249,
        right=room,
        top=37,
    )
    grown = draw("free-run-error", lambda axes: _errors(axes, truth, forecast, rivals, variance, unit, hidden), height=190, right=room)
    caption = (
        "Above, the forecast on top of what happened"
        + (f", with the best baseline, {shown}, thin" if shown else "")
        + (
            f"; pale, the interval that should hold {hidden.coverage:.0%} of the rows"
            if hidden is not None
            else ""
            if alone is None
            else "; pale, each network of the ensemble by itself"
        )
        + ". Below, how the error of each grows with the lead time"
        + ("" if hidden is None else "; dashed, what rows hidden from the fit let one expect")
        + "."
        + (f" Over several origins, {horizon.whose} holds for {horizon}." if horizon and several else "")
    )
    text = f"Row {origin - 1} is the last value the model saw; from there it ran on its own output."
    return Finding(
        "free-run",
        title,
        f"Started at row {origin} and fed with its own output, how long does the model follow {name}?",
        numbers,
        made,
        "One stretch from one origin: a lucky or an unlucky place moves these numbers."
        + (" The section on the horizon repeats it from other origins." if several else ""),
        Picture((trace, grown), alt, caption, switches),
        text,
    )


def leaves(forecast: NDArray, truth: NDArray, spread: float, limit: float = 0.5) -> int | None:
    """Steps before the first error of more than `limit` times `spread`; None: there was none."""
    known = np.isfinite(truth)
    over = np.flatnonzero(~(np.abs(np.where(known, forecast - np.where(known, truth, 0.0), 0.0)) <= limit * spread))
    return int(over[0]) if len(over) else None


def _took(rivals: Sequence[Rival], who: str) -> str:
    rival = next(r for r in rivals if r.name == who)
    return "".join([f"; {rival.note}" if rival.note else "", f"; fitted in {rival.seconds:.1f} s" if rival.seconds is not None else ""])


def _trace(
    axes: Axes,
    truth: NDArray,
    forecast: NDArray,
    past: NDArray,
    rivals: Sequence[Rival],
    shown: str,
    left: int | None,
    name: str,
    unit: str,
    alone: NDArray | None,
    hidden: Hidden | None,
) -> Mapping[str, object]:
    n, before = len(truth), np.arange(-len(past) + 1, 1)
    after = np.arange(1, n + 1)
    axes.set_xlim(before[0] if len(past) else 0, n)
    everything = np.concatenate([truth, forecast, past])
    axes.set_ylim(room(np.nanmin(everything), np.nanmax(everything), 0.06, 0.1))
    joined = np.concatenate([past[-1:], truth])
    axes.plot(before, past, color=DATA, lw=2.6)
    axes.plot(np.arange(1 - len(past[-1:]), n + 1), joined, color=DATA, lw=2.6)
    axes.axvline(0.5, color=INK, lw=0.7)
    axes.text(0.5, 1.0, " on its own", transform=axes.get_xaxis_transform(), ha="left", va="bottom", gid="halo-own")
    if left is not None and left > 0:
        axes.axvline(left, color=INK, lw=0.7, ls=(0, (2, 2)))
        late = left > 0.7 * n
        axes.text(
            left,
            0.0 if left < 0.2 * n else 1.0,  # beside "on its own" there is no room for it
            f"leaves at {left} " if late else f" leaves at {left}",
            transform=axes.get_xaxis_transform(),
            ha="right" if late else "left",
            va="bottom",
            gid="halo-left",
        )
    for i, rival in enumerate(rivals):
        inside = np.clip(rival.forecast, *axes.get_ylim())
        axes.plot(
            after, inside, color=RIVAL, lw=0.8, ls=DASHES[i % len(DASHES)], gid=f"rival-{i}-line" + ("" if rival.name == shown else "-off")
        )
    if hidden is not None:
        ends_of = (np.clip(forecast + sign * hidden.width, *axes.get_ylim()) for sign in (-1, 1))
        axes.fill_between(after, *ends_of, color=MODEL, alpha=0.18, lw=0)
    elif alone is not None:
        axes.plot(after, np.clip(alone, *axes.get_ylim()).T, color=MODEL, lw=0.7, alpha=0.35)
    axes.plot(after, forecast, color=MODEL, lw=1.4)
    ends = [
        ("data", truth[np.isfinite(truth)][-1] if np.isfinite(truth).any() else 0.0, DATA, "halo-data"),
        ("model", forecast[-1], MODEL, "halo-model"),
    ]
    ends += [
        (r.name, float(np.clip(r.forecast[-1], *axes.get_ylim())), RIVAL, f"rival-{i}-name" + ("" if r.name == shown else "-off"))
        for i, r in enumerate(rivals)
        if r.name == shown
    ]
    beside(axes, n, ends)
    for i, rival in enumerate(rivals):
        if rival.name != shown:
            name_line(
                axes,
                n,
                float(np.clip(rival.forecast[-1], *axes.get_ylim())),
                rival.name,
                RIVAL,
                dx=6,
                bold=False,
                gid=f"rival-{i}-name-off",
            )
    whole_steps(axes)
    axis_names(axes, f"{plural(unit)} after the last value seen", name, rise=22)  # above "on its own"
    return {"data": reading(np.concatenate([before, after]), np.concatenate([past, truth])), "model": reading(after, forecast)} | {
        r.name: reading(after, r.forecast) for r in rivals
    }


def _errors(
    axes: Axes, truth: NDArray, forecast: NDArray, rivals: Sequence[Rival], variance: float, unit: str, hidden: Hidden | None
) -> Mapping[str, object]:
    steps = np.arange(1, len(truth) + 1)

    def grown(guess: NDArray) -> NDArray:
        known = np.isfinite(truth)
        squares = np.where(known, guess - np.where(known, truth, 0.0), 0.0) ** 2
        return np.cumsum(squares) / np.maximum(np.cumsum(known), 1) / variance

    lines = {"model": grown(forecast)} | {rival.name: grown(rival.forecast) for rival in rivals}
    lines = {who: np.clip(line, 1e-5, 1e3) for who, line in lines.items()}
    axes.set_yscale("log")
    axes.set_xlim(0, len(truth))
    axes.axhline(1.0, color=FAINT, lw=0.9)
    axes.text(len(truth) * 0.01, 1.0, "the mean", color=INK, va="bottom", ha="left", gid="halo-mean")
    for i, rival in enumerate(rivals):
        axes.plot(steps, lines[rival.name], color=RIVAL, lw=0.9, ls=DASHES[i % len(DASHES)])
    axes.plot(steps, lines["model"], color=MODEL, lw=1.8)
    if hidden is not None:
        expected = hidden.grown(variance).mean(0)[: len(steps)]
        axes.plot(steps[: len(expected)], np.clip(expected, 1e-5, 1e3), color=MODEL, lw=1.1, ls=(0, (3, 2)))
    powers(axes, "y")
    whole_steps(axes)
    beside(
        axes, len(truth), [(who, line[-1], MODEL if who == "model" else RIVAL, f"halo-{i}") for i, (who, line) in enumerate(lines.items())]
    )
    axis_names(axes, f"{plural(unit)} after the last value seen", "NMSE up to there")
    return {who: reading(steps, line) for who, line in lines.items()}
