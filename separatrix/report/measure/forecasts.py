"""Forecasts from many origins at once, with baselines from the same ones.

The first origin is the one that is drawn: where the fitted rows end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separatrix.models.forecaster import ForecastModel
from separatrix.recurrence import State
from separatrix.report.finding import Finding, Made, plural
from separatrix.report.measure.rivals import Peer
from separatrix.report.sections.forecast import free_run
from separatrix.report.sections.horizon import horizon
from separatrix.report.stretch import LOST, Forecast, Hidden, Rival, Stretch
from separatrix.report.subject import Subject
from separatrix.report.verdict import ReportedHorizon
from separatrix.stability import Horizon, Number, forecast_horizon
from separatrix.tasks.baselines import Autoregression, seasonal
from separatrix.training.calibration import half_widths

COVERAGE = 0.9  # of the interval that is drawn


@dataclass(frozen=True)
class Forecasts:
    findings: tuple[Finding, ...]
    horizon: ReportedHorizon
    states: list[State]  # of the model, at each origin
    nmse: Number
    best: tuple[str, float] | None  # of the baselines, by NMSE
    longest: tuple[str, Number] | None  # of the baselines, by horizon


def forecasts(subject: Subject, peers: Sequence[Peer] = ()) -> Forecasts:
    """Free runs from many origins at once, and baselines from the same ones; peers are baselines that had to be fitted."""
    began = time.perf_counter()
    steps, origins, new = subject.origins
    states = states_at(subject.model, subject.values, origins)
    ours = _run_free(subject.model, states, steps, subject.channel)
    seconds = time.perf_counter() - began
    rivals = [*_baselines(subject), *_fitted(subject, peers)]
    truth = np.stack([subject.line[t : t + steps] for t in origins])
    whole = np.isfinite(truth).all(1)
    kept = [t for t, good in zip(origins, whole) if good]
    lasting: dict[str, Horizon] = {}
    reach, extra = ReportedHorizon(Number(math.nan, "measured", unit=subject.unit), subject.unit, None), []
    inputs = subject.inputs + ("" if new else "; no row is new to the model, so these forecasts flatter it")
    if kept:
        guesses = {"model": ours, **{rival.name: rival.forecasts for rival in rivals}}
        lasting = _horizons(subject, {who: guess[whole] for who, guess in guesses.items()}, truth[whole], kept)
        reach = ReportedHorizon(lasting["model"].steps, subject.unit, subject.cycle, len(kept))
    if len(kept) > 1:
        where = f"{len(kept)} origins in rows {min(kept):,} to {max(kept):,}" + ("" if new else ", which the model was fitted to")
        call = (
            f"origins = {kept}\n"
            f"forecasts = torch.stack([model.free_run(values[None, :t], {steps})[0][0, :, {subject.channel}] for t in origins])\n"
            f"truth = torch.stack([values[t : t + {steps}, {subject.channel}] for t in origins])\n"
            f"sx.stability.forecast_horizon(forecasts, truth, scale={subject.spread:.9g}, threshold={LOST}, generator=seeded())"
        )
        made = Made(f"{inputs}; {where}", call, steps * len(kept), subject.seed, subject.dtype, time.perf_counter() - began)
        extra.append(_over_origins(reach, lasting, made))
    call = (
        f"forecast = model.free_run(None, {steps}, start)[0][0, :, {subject.channel}].numpy()\n"
        f"truth = series.values[{origins[0]}:{origins[0] + steps}, {subject.channel}]\n"
        "np.nanmean((forecast - truth) ** 2) / np.nanvar(truth)"
    )
    made = Made(inputs, call, steps, subject.seed, subject.dtype, seconds, f"from row {origins[0]:,}, fed with its own output")
    first = free_run(
        Stretch(subject.line[: origins[0]], truth[0], origins[0], subject.name, subject.unit, subject.spread, subject.clock),
        Forecast(ours[0], alone(subject.model, subject.values[: origins[0]], steps, subject.channel), hidden(subject, steps)),
        [Rival(rival.name, rival.forecasts[0], note=rival.note) for rival in rivals],
        horizon=reach if kept else None,
        made=made,
    )
    nmse = next(iter(first.numbers.values()))
    scored = [(rival.name, first.numbers[name].value) for rival in rivals if (name := f"NMSE of {rival.name}") in first.numbers]
    best = min((s for s in scored if math.isfinite(s[1])), key=lambda s: s[1], default=None)
    holding = [(who, found.steps) for who, found in lasting.items() if who != "model" and math.isfinite(found.steps.value)]
    longest = max(holding, key=lambda one: one[1].value, default=None)
    return Forecasts((first, *extra), reach, states, nmse, best, longest)


class _Guess(NamedTuple):
    """What a baseline forecasts from every origin.    forecasts [origins, steps]"""

    name: str
    forecasts: NDArray
    note: str


def _baselines(subject: Subject) -> Iterator[_Guess]:
    """Those that cost nothing, as far as the rows before the first origin allow."""
    steps, origins, _ = subject.origins
    shortest = min(origins)
    past = np.stack([subject.line[t - shortest : t] for t in origins])
    for order in (p for p in (20, 10, 4, 1) if shortest >= 4 * p + 2 and subject.seen >= 4 * p + 2):
        try:
            fitted = Autoregression.fit(subject.line[: subject.seen], order)
        except ValueError:  # gaps leave too few whole windows
            continue
        yield _Guess(f"AR({order})", fitted.forecast(past, steps), f"least squares on rows 0 to {subject.seen - 1:,}")
        break
    if subject.cycle is not None:
        period, _ = subject.cycle
        yield _Guess("seasonal", seasonal(past, steps, period), f"repeats the last {period:.3g} rows")


def _fitted(subject: Subject, peers: Sequence[Peer]) -> Iterator[_Guess]:
    steps, origins, _ = subject.origins
    for peer in peers:
        states = states_at(peer.model, subject.values, origins)
        yield _Guess(peer.name, _run_free(peer.model, states, steps, subject.channel), peer.note)


def _run_free(model: ForecastModel, states: Sequence[State], steps: int, channel: int) -> NDArray:
    """One channel of the free runs from these states.    [len(states), steps]"""
    with torch.no_grad():
        run, _ = model.free_run(None, steps, joined(states))
    return run[..., channel].double().numpy()


def _horizons(subject: Subject, guesses: dict[str, NDArray], truth: NDArray, origins: list[int]) -> dict[str, Horizon]:
    """How long each forecast holds, over the same origins.    guesses, truth [origins, steps]"""
    generator = torch.Generator().manual_seed(subject.seed)
    found = {}
    for who, guess in guesses.items():
        lasting = forecast_horizon(
            torch.from_numpy(guess),
            torch.from_numpy(truth),
            scale=subject.spread,
            threshold=LOST,
            period=None if subject.cycle is None else subject.cycle[0],
            origins=origins,
            generator=generator,
        )
        found[who] = lasting._replace(steps=replace(lasting.steps, unit=plural(subject.unit)))
    return found


def _over_origins(reach: ReportedHorizon, lasting: dict[str, Horizon], made: Made) -> Finding:
    """The section on the horizon: median errors, and the model's quartiles."""
    error = lasting["model"].error.numpy()
    low, high = np.quantile(error, [0.25, 0.75], axis=0)
    return horizon(
        reach,
        {who: np.median(np.nan_to_num(found.error.numpy(), posinf=1e9), axis=0) for who, found in lasting.items()},
        quartiles=(low, high),
        rivals={who: found.steps for who, found in lasting.items() if who != "model"},
        limit=LOST,
        made=made,
    )


def alone(model: ForecastModel, heard: Tensor, steps: int, channel: int) -> NDArray | None:
    """What each member of an ensemble forecasts when it hears only itself.    [members, steps]"""
    if len(model.members) == 1:
        return None
    with torch.no_grad():
        runs = [model.alone(i).free_run(heard[None], steps)[0] for i in range(len(model.members))]
    return torch.cat(runs)[..., channel].double().numpy()


def hidden(subject: Subject, steps: int) -> Hidden | None:
    """What a calibration's errors on hidden rows say of a forecast of so many steps; None without one, or where it has too few."""
    errors = subject.errors
    if errors is None:
        return None
    try:
        width = half_widths(errors, COVERAGE, steps)[:, subject.channel].numpy()
    except ValueError:
        return None
    return Hidden(errors[..., subject.channel].numpy(), width, COVERAGE)


def states_at(model: ForecastModel, values: Tensor, origins: Sequence[int]) -> list[State]:
    """What a model carries when it has heard everything before each origin.    values [T, C], origins ascending -> states of one row"""
    states: list[State] = []
    state, before = None, 0
    with torch.no_grad():
        for origin in origins:
            _, state = model(values[None, before:origin], state)
            states.append(state)
            before = origin
    return states


def joined(states: Sequence[State]) -> State:
    """States of one row each as one state of many rows. A state that grows with what was heard keeps what the shortest one has."""
    parts: dict[str, Tensor | State] = {}
    for name in states[0].parts:
        pieces = [state.parts[name] for state in states]
        if isinstance(pieces[0], State):
            parts[name] = joined([piece for piece in pieces if isinstance(piece, State)])
        else:
            tensors = [piece for piece in pieces if isinstance(piece, Tensor)]
            if len({tensor.shape for tensor in tensors}) > 1:
                raise ValueError(
                    f"the part {name!r} of the model's state grows with what it hears: it has no state of fixed size to audit."
                )
            parts[name] = torch.cat(tensors)
    return State(**parts)
