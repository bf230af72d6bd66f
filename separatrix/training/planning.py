"""From a series and a few wishes to everything that a fit will do.

Where a wish is None the series decides: how long the loss runs free and how much the network hears by its length, whether the networks
learn the whole map or correct a linear autoregression by `nonlinearity.py`, and of which orders that autoregression is the mean by
`order.py`.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from separatrix.data import Series
from separatrix.machine import this_machine, versions
from separatrix.training.folds import FOLDS, SHORTEST
from separatrix.training.networks import MEMORYLESS
from separatrix.training.nonlinearity import NONLINEAR, nonlinearity
from separatrix.training.order import orders
from separatrix.training.recipe import Data, Network, Recipe, RunConfig

STEPS = 2400  # optimizer steps, by `tasks/settings.py`

# What differs from a mixer's own defaults when a series of a thousand points is all there is: few modes, which forget within the context
# that a window gives them (2 to 40 steps), so that a state which has heard all of the series is one the fit has met.
SETTINGS: dict[str, dict[str, Any]] = {"s4d": {"d_state": 8, "init": "lin", "dt_range": (0.05, 1.0)}}

# Networks that correct a linear autoregression are held back. Their weight decay is DECAY over the number of rows, 20 to 200: what fewer
# rows seem to say beyond it is noise more often. A window whose error is of the data's own size is no lost one but the rule, so that its
# square counts and not its logarithm.
DECAY, LOST, FEWER_STEPS = 20_000.0, 10.0, 400


class Wishes(Protocol):
    """What a `Forecaster` was told; None: the series decides."""

    mixer: str
    horizon: int | None
    lags: int | None
    orders: dict[int, float]
    steps: int | None
    d_model: int
    layers: int
    members: int
    linear: bool | None
    settings: dict[str, Any] | None
    random_state: int


def plan_fit(wanted: Wishes, series: Series, *, flat: bool = False) -> RunConfig:
    """The run of a forecaster with these wishes on this series.    flat: whether the caller's series was [time]"""
    T, C = series.values.shape
    if T < 8:
        raise ValueError(f"{series.name!r} has {T} rows but a fit needs at least 8. Pass a longer series.")
    lags = wanted.lags or max(1, min(16, T // 8))
    horizon = wanted.horizon or max(1, min(40, T // 4))
    found = nonlinearity(series.values, lags, horizon)
    linear = found > NONLINEAR if wanted.linear is None else wanted.linear
    shares = orders(series.values, lags, horizon) if linear and wanted.lags is None else wanted.orders
    lags = max(shares, default=lags)
    context = max(2, min(lags + 80, T // 3))
    steps = wanted.steps or (FEWER_STEPS if linear else STEPS)
    held_back: dict[str, Any] = {}
    if linear:
        parts = max(FOLDS, wanted.members)
        left_out = parts if wanted.members > 1 and (T - context) // parts >= SHORTEST else 0
        held_back = dict(weight_decay=min(max(DECAY / T, 20.0), 200.0), lost=LOST, left_out=left_out)
    network = Network(mixer=wanted.mixer, channels=C, d_model=wanted.d_model, layers=wanted.layers, d_ff=2 * wanted.d_model,
                      members=wanted.members, lags=lags, mask=series.gaps > 0, linear=linear,
                      orders=shares if len(shares) > 1 else {}, settings=_settings(wanted))  # fmt: skip
    return RunConfig(
        seed=wanted.random_state,
        network=network,
        recipe=Recipe(steps=steps, horizon=horizon, context=context, teacher_steps=steps * 35 // 100, **held_back),
        data=Data(
            name=series.name, sha256=series.fingerprint, rows=T, names=series.names, step=series.step, unit=series.unit, gaps=series.gaps
        ),
        flat=flat,
        nonlinearity=found,
        versions=versions(),
        machine=this_machine(),
    )


def _settings(wanted: Wishes) -> dict[str, Any]:
    """Of the mixer, as config.json will give them back."""
    settings = {**SETTINGS.get(wanted.mixer, {}), **(wanted.settings or {})}
    if wanted.mixer == MEMORYLESS and settings:
        raise ValueError(f"settings is {settings} but {MEMORYLESS!r} has none. Leave them out.")
    if own := settings.keys() & {"d_model", "generator"}:
        raise ValueError(f"settings holds {min(own)!r}, which the forecaster sets itself: pass d_model and random_state beside settings.")
    try:
        return json.loads(json.dumps(settings))
    except TypeError:
        raise TypeError(
            f"settings is {settings} but a run keeps numbers and words. Where a setting is a function, give its name."
        ) from None
