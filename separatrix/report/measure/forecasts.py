"""Forecasts from many origins at once, with baselines from the same ones.

The first origin is the one that is drawn: where the fitted rows end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separatrix.models.forecaster import ForecastModel
from separatrix.recurrence import State
from separatrix.report.finding import Finding, Made, plural
from separatrix.report.measure.rivals import Peer
from separatrix.report.sections.forecast import Hidden, Rival, free_run
from separatrix.report.sections.horizon import horizon
from separatrix.report.subject import Subject
from separatrix.report.verdict import Horizon
from separatrix.stability import (
    Number,
    forecast_horizon,
)
from separatrix.tasks.baselines import Autoregression, seasonal
from separatrix.training.calibration import FOLDS, half_widths

COVERAGE = 0.9  # of the interval that is drawn
LOST = 0.5  # standard deviations: a forecast farther off is lost


@dataclass(frozen=True)
class Forecasts:
    findings: tuple[Finding, ...]
    horizon: Horizon
    states: list[State]  # of the model, at each origin
    nmse: Number
    best: tuple[str, float] | None  # of the baselines, by NMSE
    longest: tuple[str, Number] | None  # of the baselines, by horizon


def forecasts(subject: Subject, peers: Sequence[Peer] = ()) -> Forecasts:
    """Free runs from many origins at once, and baselines from the same ones; peers are baselines that had to be fitted."""
    began = time.perf_counter()
    steps, origins, new = subject.origins
    values, channel, unit = subject.values, subject.channel, subject.unit
    states = states_at(subject.model, values, origins)
    with torch.no_grad():
        made, _ = subject.model.free_run(None, steps, joined(states))
    ours = made[..., channel].double().numpy()
    seconds = time.perf_counter() - began
    truth = np.stack([subject.line[t : t + steps] for t in origins])
    shortest = min(origins)
    past = np.stack([subject.line[t - shortest : t] for t in origins])
    rivals: dict[str, tuple[NDArray, str]] = {}
    for order in (p for p in (20, 10, 4, 1) if shortest >= 4 * p + 2 and subject.seen >= 4 * p + 2):
        try:
            fitted = Autoregression.fit(subject.line[: subject.seen], order)
        except ValueError:  # gaps leave too few whole windows
            continue
        rivals[f"AR({order})"] = fitted.forecast(past, steps), f"least squares on rows 0 to {subject.seen - 1:,}"
        break
    period = None if subject.cycle is None else subject.cycle[0]
    if period is not None:
        rivals["seasonal"] = seasonal(past, steps, period), f"repeats the last {period:.3g} rows"
    for peer in peers:
        with torch.no_grad():
            theirs, _ = peer.model.free_run(None, steps, joined(states_at(peer.model, values, origins)))
        rivals[peer.name] = theirs[..., channel].double().numpy(), peer.note

    whole = np.isfinite(truth).all(1)
    kept = [t for t, good in zip(origins, whole) if good]
    where = f"{len(kept)} origins in rows {min(kept, default=0):,} to {max(kept, default=0):,}" + (
        "" if new else ", which the model was fitted to"
    )
    inputs = subject.inputs + ("" if new else "; no row is new to the model, so these forecasts flatter it")
    free = Made(inputs, steps, subject.seed, subject.dtype, seconds, f"from row {origins[0]:,}, fed with its own output")
    lasting = {}
    reach = Horizon(Number(math.nan, "measured", unit=unit), unit, None)
    extra: list[Finding] = []
    if len(kept):
        generator = torch.Generator().manual_seed(subject.seed)
        for who, guess in [("model", ours), *((name, guess) for name, (guess, _) in rivals.items())]:
            lasting[who] = forecast_horizon(
                torch.from_numpy(guess[whole]),
                torch.from_numpy(truth[whole]),
                scale=subject.spread,
                threshold=LOST,
                period=period,
                origins=kept,
                generator=generator,
            )
            lasting[who] = lasting[who]._replace(steps=replace(lasting[who].steps, unit=plural(unit)))
        reach = Horizon(lasting["model"].steps, unit, subject.cycle, len(kept))
        error = lasting["model"].error.numpy()
        if len(kept) > 1:
            median = {who: np.median(np.nan_to_num(h.error.numpy(), posinf=1e9), axis=0) for who, h in lasting.items()}
            quartiles = np.quantile(error, [0.25, 0.75], axis=0)
            made_by = Made(f"{inputs}; {where}", steps * len(kept), subject.seed, subject.dtype, time.perf_counter() - began)
            extra.append(
                horizon(
                    reach,
                    median,
                    np.arange(1, steps + 1),
                    spread=(quartiles[0], quartiles[1]),
                    rivals={who: h.steps for who, h in lasting.items() if who != "model"},
                    limit=LOST,
                    origins=len(kept),
                    unit=unit,
                    made=made_by,
                    call="separatrix.stability.forecast_horizon(forecast, truth, scale=..., threshold=0.5)",
                )
            )
    variance = float(np.nanvar(truth[0])) or 1.0
    before = subject.line[max(0, origins[0] - max(10, steps // 3)) : origins[0]]
    first = free_run(
        truth[0],
        ours[0],
        before,
        [Rival(name, guess[0], note=note) for name, (guess, note) in rivals.items()],
        variance=variance,
        spread=subject.spread,
        horizon=reach if len(kept) else None,
        origin=origins[0],
        name=subject.name,
        unit=unit,
        made=free,
        call="separatrix.Forecaster.load(RUN).predict(steps)",
        alone=alone(subject.model, values[: origins[0]], steps, channel),
        hidden=hidden(subject, steps),
    )
    nmse = next(iter(first.numbers.values()))
    scored = [(name, first.numbers[f"NMSE of {name}"].value) for name in rivals]
    best = min((s for s in scored if math.isfinite(s[1])), key=lambda s: s[1], default=None)
    holding = [(who, found.steps) for who, found in lasting.items() if who != "model" and math.isfinite(found.steps.value)]
    longest = max(holding, key=lambda one: one[1].value, default=None)
    return Forecasts((first, *extra), reach, states, nmse, best, longest)


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
    each = errors[..., subject.channel].reshape(FOLDS, -1, errors.shape[1])
    return Hidden(each.numpy(), width, COVERAGE)


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
