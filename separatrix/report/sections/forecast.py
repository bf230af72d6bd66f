"""Free run against truth: how far a forecast that hears no further value stays with the data, by the scores of `report.stretch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from separatrix.report.finding import Finding, Made, Picture, plain, plural
from separatrix.report.ink import DASHES, DATA, FAINT, INK, MODEL, RIVAL, draw, reading
from separatrix.report.labels import Label, axis_names, beside, name_line, powers, room, whole_steps
from separatrix.report.stretch import Forecast, Leaving, Rival, Stretch
from separatrix.report.verdict import ReportedHorizon
from separatrix.stability.number import Number

FLATTEST = 1 / 3  # of the height that the lines of a picture keep beside a wide interval
LEAST = 1e-12, 1e-5  # between these the picture of errors ends below: smaller ones are rounding, and the first steps would stretch it


def free_run(stretch: Stretch, forecast: Forecast, rivals: Sequence[Rival], *, horizon: ReportedHorizon | None, made: Made) -> Finding:
    """One stretch, the model's forecast of it and those of the baselines; horizon: over all origins, where it could be measured"""
    n, rows, name, origin = len(stretch.truth), plural(stretch.unit), stretch.name, stretch.origin
    known, error, left = stretch.known, stretch.nmse(forecast.values), stretch.leaves(forecast.values)
    errors = {rival.name: stretch.nmse(rival.forecast) for rival in rivals}
    ranked = sorted((e, who) for who, e in errors.items() if np.isfinite(e))
    best = ranked[0] if ranked else None
    title = _title(stretch, left)
    if known:
        title += f": NMSE {plain(error)}" + (f", best baseline {plain(best[0])} ({best[1]})" if best else "")
    how = f"mean squared error of {n} free-running steps over the variance of the truth" + (
        f"; {known} of them were measured" if known < n else ""
    )
    numbers = {f"free-running NMSE over {n} {rows}": Number(error, "measured", how=how)}
    if known:
        numbers |= {f"NMSE of {rival.name}": Number(errors[rival.name], "measured", how=f"as above{rival.told}") for rival in rivals}
        numbers["steps before this free run leaves"] = Number(
            float(left.steps),
            "measured",
            unit=rows,
            how="steps up to the last value before the first error of more than one half of a standard deviation"
            + ("" if left.seen else " (there was none)"),
        )
    numbers |= _doubt(stretch, forecast)
    several = horizon is not None and horizon.origins != 1
    if horizon is not None:
        numbers["forecast horizon" + (", over origins" if several else "")] = horizon.steps
    shown = best[1] if best else ""
    switches = {r.name: (f"free-run-rival-{i}-", r.name == shown) for i, r in enumerate(rivals)}
    alt = f"The model's free run drawn over {n} values of {name} from row {stretch.place(origin)} on. {title}." + (
        f" The baselines reach {', '.join(f'{who} {plain(e)}' for e, who in ranked)}." if ranked else ""
    )
    room = max(66.0, 14 + 6.4 * max((len(rival.name) for rival in rivals), default=0))
    trace = draw("free-run", lambda axes: _trace(axes, stretch, forecast, rivals, shown), height=249, right=room, top=37)
    panels = [trace]
    if known:
        panels.append(draw("free-run-error", lambda axes: _errors(axes, stretch, forecast, rivals), height=190, right=room))
    ends = _reach(stretch, forecast)[1]
    beyond = "" if ends is None else f", which reaches beyond the picture: from {plain(ends[0])} to {plain(ends[1])}"
    caption = (
        ("Above, the forecast on top of what happened" if known else "The forecast; what happened was not measured")
        + (f", with the best baseline, {shown}, thin" if shown else "")
        + (
            f"; pale, the interval that should hold {forecast.hidden.coverage:.0%} of the rows{beyond}"
            if forecast.hidden is not None
            else ""
            if forecast.alone is None
            else "; pale, each network of the ensemble by itself"
        )
        + (". Below, how the error of each grows with the lead time" if known else "")
        + ("; dashed, what rows hidden from the fit let one expect" if known and forecast.hidden is not None else "")
        + "."
        + (f" Over several origins, {horizon.whose} holds for {horizon}." if horizon and several else "")
    )
    return Finding(
        "free-run",
        title,
        f"Started at row {stretch.place(origin)} and fed with its own output, how long does the model follow {name}?",
        numbers,
        made,
        "One stretch from one origin: a lucky or an unlucky place moves these numbers."
        + (" The section on the horizon repeats it from other origins." if several else ""),
        Picture(tuple(panels), alt, caption, switches),
        _start(stretch),
    )


def _title(stretch: Stretch, left: Leaving) -> str:
    """How far the forecast was seen to stay, and no farther."""
    n, known, rows = len(stretch.truth), stretch.known, plural(stretch.unit)
    if not known:
        return f"How long the free run stays with the data cannot be seen: all {n} {rows} are gaps"
    if left.seen:
        return f"Free run leaves the data after {left.steps} of {n} {rows}" if left.steps > 1 else "Free run leaves the data at once"
    return (
        f"Free run stays with the data for all {n} {rows}"
        if known == n
        else f"Free run stays with the {known} values that were measured in {n} {rows}"
    )


def _start(stretch: Stretch) -> str:
    """The last value that was heard, and what came after it."""
    last, before = stretch.heard, stretch.origin - 1
    if last < 0:
        return f"The model saw no value before row {stretch.place(stretch.origin)}; from there it ran on its own output."
    said = f"Row {stretch.place(last)} is the last value the model saw"
    if last < before:
        said += (
            f"; row {stretch.place(before)} is a gap" if last == before - 1 else f"; rows {last + 1:,} to {stretch.place(before)} are gaps"
        )
    return f"{said}. From row {stretch.place(stretch.origin)} on it ran on its own output."


def _doubt(stretch: Stretch, forecast: Forecast) -> dict[str, Number]:
    """What members by themselves and rows hidden from a fit say of the forecast."""
    numbers, truth, hidden = {}, stretch.truth, forecast.hidden
    if forecast.alone is not None and stretch.known:
        each = [stretch.nmse(one) for one in forecast.alone]
        told = f"each of the {len(each)} networks hears only itself: {', '.join(plain(one) for one in each)}"
        numbers["NMSE of a member alone, median"] = Number(float(np.median(each)), "measured", how=told)
    if hidden is not None and stretch.known:
        inside = (np.abs(truth - forecast.values) <= hidden.width)[np.isfinite(truth)]
        told = f"{inside.sum()} of {len(inside)}; estimated from {hidden.errors[..., 0].size} free runs into rows hidden from the fit"
        share = f"share of rows inside the {hidden.coverage:.0%} interval"  # a count would not be comparable with another horizon's
        numbers[share] = Number(float(100 * inside.mean()), "measured", unit="%", how=told)
        leads = min(len(truth), hidden.errors.shape[2])
        by_fold = hidden.grown(stretch.spread**2)[:, leads - 1]
        by_fold = by_fold[np.isfinite(by_fold)]  # a fold of gaps says nothing
        told = "networks that were not fitted to these rows, over the variance of the data: mean and range over folds"
        low, mean, high = float(by_fold.min()), float(by_fold.mean()), float(by_fold.max())
        numbers[f"NMSE over {leads} {plural(stretch.unit)} on hidden rows"] = Number(mean, "measured", low, high, how=told)
    return numbers


def _shown(stretch: Stretch) -> NDArray:
    """The values before the origin that are drawn."""
    return stretch.past[-max(10, len(stretch.truth) // 3) :]


def _reach(stretch: Stretch, forecast: Forecast) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """Lowest and highest value to draw, and the ends of the interval where it reaches beyond them.

    The interval is drawn whole as long as a FLATTEST share of the height is left for the lines; else it gets as much on either side of
    them as they have themselves.
    """
    lines = np.concatenate([stretch.truth, forecast.values, _shown(stretch)])
    low, high = float(np.nanmin(lines)), float(np.nanmax(lines))
    if forecast.hidden is None:
        return (low, high), None
    width = forecast.hidden.width
    ends = float(np.nanmin(forecast.values - width)), float(np.nanmax(forecast.values + width))
    span, both = high - low, (min(low, ends[0]), max(high, ends[1]))
    if span == 0 or span >= FLATTEST * (both[1] - both[0]):
        return both, None
    return (max(both[0], low - span), min(both[1], high + span)), ends


def _trace(axes: Axes, stretch: Stretch, forecast: Forecast, rivals: Sequence[Rival], shown: str) -> Mapping[str, object]:
    """Data, forecast and baselines; only the baseline that is `shown` is seen at first."""
    truth, guess, left = stretch.truth, forecast.values, stretch.leaves(forecast.values)
    past = _shown(stretch)
    n, before, after = len(truth), np.arange(-len(past) + 1, 1), stretch.leads
    axes.set_xlim(before[0] if len(past) else 0, n)
    axes.set_ylim(room(*_reach(stretch, forecast)[0], 0.06, 0.1))
    joined = np.concatenate([past[-1:], truth])
    axes.plot(before, past, color=DATA, lw=2.6)
    axes.plot(np.arange(1 - len(past[-1:]), n + 1), joined, color=DATA, lw=2.6)
    axes.axvline(0.5, color=INK, lw=0.7)
    axes.text(0.5, 1.0, " on its own", transform=axes.get_xaxis_transform(), ha="left", va="bottom", gid="halo-own")
    if left.seen and left.steps > 0:
        axes.axvline(left.steps, color=INK, lw=0.7, ls=(0, (2, 2)))
        late = left.steps > 0.7 * n
        axes.text(
            left.steps,
            0.0 if left.steps < 0.2 * n else 1.0,  # beside "on its own" there is no room for it
            f"leaves at {left.steps} " if late else f" leaves at {left.steps}",
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
    if forecast.hidden is not None:
        ends_of = (np.clip(guess + sign * forecast.hidden.width, *axes.get_ylim()) for sign in (-1, 1))
        axes.fill_between(after, *ends_of, color=MODEL, alpha=0.18, lw=0)
    elif forecast.alone is not None:
        axes.plot(after, np.clip(forecast.alone, *axes.get_ylim()).T, color=MODEL, lw=0.7, alpha=0.35)
    axes.plot(after, guess, color=MODEL, lw=1.4)
    names = [
        Label(r.name, float(np.clip(r.forecast[-1], *axes.get_ylim())), RIVAL, f"rival-{i}-name" + ("" if r.name == shown else "-off"))
        for i, r in enumerate(rivals)
    ]
    ends = [Label("data", truth[np.isfinite(truth)][-1], DATA, "halo-data")] if stretch.known else []
    ends.append(Label("model", guess[-1], MODEL, "halo-model"))
    beside(axes, n, [*ends, *(label for label in names if label.text == shown)])
    for label in names:
        if label.text != shown:
            name_line(axes, n, label, dx=6, bold=False)
    whole_steps(axes)
    axis_names(axes, _after(stretch), stretch.name, rise=22)  # above "on its own"
    return {"data": reading(np.concatenate([before, after]), np.concatenate([past, truth])), "model": reading(after, guess)} | {
        r.name: reading(after, r.forecast) for r in rivals
    }


def _after(stretch: Stretch) -> str:
    """What lead times count from: the row before the origin, by its time where it has one."""
    last = stretch.origin - 1
    return f"{plural(stretch.unit)} after {stretch.clock(last) or ('the last value seen' if stretch.heard == last else f'row {last:,}')}"


def _errors(axes: Axes, stretch: Stretch, forecast: Forecast, rivals: Sequence[Rival]) -> Mapping[str, object]:
    """How the error of each grows with the lead time."""
    n, steps = len(stretch.truth), stretch.leads
    lines = {"model": stretch.grown(forecast.values)} | {rival.name: stretch.grown(rival.forecast) for rival in rivals}
    all_of_them = np.concatenate(list(lines.values()))
    least = float(np.clip(all_of_them[all_of_them > 0].min(initial=1.0), *LEAST))
    lines = {who: np.clip(line, least, 1e3) for who, line in lines.items()}
    axes.set_yscale("log")
    axes.set_xlim(0, n)
    axes.axhline(1.0, color=FAINT, lw=0.9)
    for i, rival in enumerate(rivals):
        axes.plot(steps, lines[rival.name], color=RIVAL, lw=0.9, ls=DASHES[i % len(DASHES)])
    axes.plot(steps, lines["model"], color=MODEL, lw=1.8)
    if forecast.hidden is not None:
        expected = forecast.hidden.grown(stretch.variance).mean(0)[: len(steps)]
        axes.plot(steps[: len(expected)], np.clip(expected, least, 1e3), color=MODEL, lw=1.1, ls=(0, (3, 2)))
    powers(axes, "y")
    whole_steps(axes)
    names = [Label(who, line[-1], MODEL if who == "model" else RIVAL, f"halo-{i}") for i, (who, line) in enumerate(lines.items())]
    beside(axes, n, [*names, Label("the mean", 1.0, INK, "halo-mean")])
    axis_names(axes, _after(stretch), "NMSE up to there")
    return {who: reading(steps, line) for who, line in lines.items()}
