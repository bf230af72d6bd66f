"""What the layers do along the data: eigenvalues, half-lives, how far back a forecast looks."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import torch
from numpy.typing import NDArray

from separatrix.recurrence import Transition
from separatrix.report.finding import Finding, Made, plural
from separatrix.report.sections.eigenvalues import Layer, eigenvalues
from separatrix.report.sections.memory import memory
from separatrix.report.sections.response import response
from separatrix.report.subject import Subject
from separatrix.stability import (
    Number,
    eigenvalues_along,
    gradient_reach,
    measured_gain,
    memory_horizon,
)
from separatrix.tasks.baselines import bridged


def layers(subject: Subject, rows: int = 1000) -> list[Finding]:
    """Eigenvalues and half-lives of every layer that is linear in its state, along the last fitted rows."""
    began = time.perf_counter()
    first = max(0, subject.seen - rows)
    x = subject.values[None, first : subject.seen]
    shown: list[Layer] = []
    spans: list[NDArray] = []
    numbers: dict[str, Number] = {}
    lasting: dict[str, Number] = {}
    with torch.no_grad():
        for visit in subject.model.walk(x):
            make = getattr(visit.mixer, "transition", None)
            if make is None:
                continue
            transition = make(visit.x, visit.before)
            found, remembered = eigenvalues_along(transition), memory_horizon(transition)
            place = re.sub(r"(\d+)", r" \1", visit.name).replace(".", ", ")
            name = f"{place}, {type(visit.mixer).__name__}"
            shown.append(Layer(name, found.values.numpy(), moves(transition)))
            spans.append(remembered.half_life.numpy())
            numbers |= {
                f"largest modulus, {name}": found.largest,
                f"share outside the unit circle, {name}": found.outside,
                f"largest norm of one step, {name}": found.norm,
            }
            lasting |= {
                f"median half-life, {name}": replace(remembered.median, unit=plural(subject.unit)),
                f"longest half-life, {name}": replace(remembered.longest, unit=plural(subject.unit)),
            }
    if not shown:
        raise ValueError("no layer of this model is linear in its state, so there are no eigenvalues to show.")
    visits = f"visits = [v for v in model.walk(values[None, {first}:{subject.seen}]) if hasattr(v.mixer, 'transition')]"
    each = "(v.mixer.transition(v.x, v.before)) for v in visits]"
    made = Made(
        f"rows {first:,} to {subject.seen - 1:,} of {subject.series.name}, teacher forced",
        f"{visits}\n[sx.stability.eigenvalues_along{each}",
        x.shape[1],
        None,
        subject.dtype,
        time.perf_counter() - began,
    )
    return [
        eigenvalues(shown, numbers=numbers, unit=subject.unit, made=made),
        memory(
            [layer.name for layer in shown],
            spans,
            numbers=lasting,
            unit=subject.unit,
            made=replace(made, call=f"{visits}\n[sx.stability.memory_horizon{each}"),
            cycle=subject.cycle,
        ),
    ]


def moves(transition: Transition) -> bool:
    """Whether it differs between steps. Its numbers say so; its norm need not: that of a reflection is 1, whatever is reflected."""
    return any(bool((x != x[:, :1]).any()) for x in transition.tensors().values())


def responses(subject: Subject, rows: int = 300) -> Finding:
    """How far back the next forecast looks, and how much a small change of the data moves the forecasts."""
    began = time.perf_counter()
    first = max(0, subject.seen - rows)
    x = torch.tensor(bridged(subject.series.values[first : subject.seen].T).T)[None]
    reach = gradient_reach(lambda u: subject.model(u)[0], x, generator=torch.Generator().manual_seed(subject.seed), probes=2)
    gain = measured_gain(
        lambda u: subject.model(u[None])[0][0], x[0], rounds=8, size=1e-3, generator=torch.Generator().manual_seed(subject.seed)
    ).gain
    call = (
        "from separatrix.tasks.baselines import bridged\n"
        f"x = torch.tensor(bridged(series.values[{first}:{subject.seen}].T).T)[None]\n"
        "reach = sx.stability.gradient_reach(lambda x: model(x)[0], x, probes=2, generator=seeded())\n"
        "gain = sx.stability.measured_gain(lambda u: model(u[None])[0][0], x[0], rounds=8, size=1e-3, generator=seeded())\n"
        "reach, gain.gain"
    )
    made = Made(
        f"rows {first:,} to {subject.seen - 1:,} of {subject.series.name}, teacher forced",
        call,
        x.shape[1],
        subject.seed,
        subject.dtype,
        time.perf_counter() - began,
    )
    numbers = {
        "age at which half of the influence is left": replace(reach.half_life, unit=plural(subject.unit)),
        "age at which one percent is left": replace(reach.faded, unit=plural(subject.unit)),
        "largest amplification that was found": gain,
    }
    return response(
        reach.lags.numpy(),
        reach.influence.numpy(),
        faded=reach.faded,
        gain=gain,
        numbers=numbers,
        unit=subject.unit,
        made=made,
    )
