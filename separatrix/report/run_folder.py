"""What a run folder tells: the series it was fitted to, its recipe in words, and how the fit went."""

from __future__ import annotations

import json
import math
from datetime import date
from inspect import signature
from pathlib import Path

import numpy as np

from separatrix import data as shipped
from separatrix.data import Series, Task
from separatrix.data.shipped import SHIPPED
from separatrix.data.task import TASK
from separatrix.report.finding import Finding, Made, Run
from separatrix.report.sections.training import training
from separatrix.stability import Number
from separatrix.training import Forecaster, RunConfig, read_metrics
from separatrix.training.checkpoint import read_checkpoint
from separatrix.training.loop import CHECKPOINT, METRICS
from separatrix.training.planning import SETTINGS
from separatrix.training.recipe import CHOSEN, LINEAR


def fitted_series(folder: str | Path, config: RunConfig) -> Series:
    """The series a run was fitted to: where its task says, else the shipped one of that name."""
    folder = Path(folder)
    if (folder / TASK).is_file():
        return matching(Task.load(folder).series(), config)
    try:
        series = shipped.load(config.data.name)
    except ValueError:
        raise ValueError(
            f"the run was fitted to {config.data.name!r}, which is not a shipped series. Pass the series (or the file) it came from."
        ) from None
    return matching(series, config)


def knows_its_series(folder: Path, config: RunConfig) -> bool:
    """Whether `fitted_series` can find it."""
    return (folder / TASK).is_file() or config.data.name in SHIPPED


def matching(series: Series, config: RunConfig) -> Series:
    """The columns the run was fitted to, checked against its fingerprint."""
    if series.names != config.data.names:
        series = series.select(*config.data.names)
    rows = config.data.rows
    if len(series) < rows or Series.from_array(series.values[:rows]).fingerprint != config.data.sha256:
        raise ValueError(
            f"the first {rows:,} rows of {series.name!r} are not what the run was fitted to (sha256 {config.data.sha256[:12]}...). "
            f"Give the file that the run was fitted to, unchanged."
        )
    return series


def recipe(config: RunConfig, series: Series, command: str) -> Run:
    """The run in words."""
    network, plan = config.network, config.recipe
    local = "" if config.nonlinearity is None else f"; the error of local maps is {config.nonlinearity:.2f} times that of a linear one here"
    averaged = ", ".join(f"{L} rows ({share:.0%})" for L, share in network.orders.items())
    mean = f"; the mean of autoregressions of {averaged}" if averaged else ""
    kept = "" if config.correction is None else f"; {config.correction:.0%} of what the networks add to it is kept"
    told = {
        "loss horizon": f"{plan.horizon} free-running rows, grown from {plan.first_horizon} after {plan.teacher_steps:,} one-step steps",
        "lags": f"{network.lags} rows in the delay window",
        "stopping point": f"after {plan.steps:,} steps, fixed beforehand; the weights are a running average (factor {plan.average:g})",
        "linear part": f"{'yes' if network.linear else 'no'}{local}{mean}{kept}. {LINEAR}",
        "how the other defaults were chosen": CHOSEN,
        "rows": f"the fit read rows 0 to {config.data.rows - 1:,} and no later one",
    }
    flat = {f"{part}.{key}": value for part in ("network", "recipe", "data") for key, value in getattr(config, part).model_dump().items()}
    return Run(
        name=series.name,
        model=_model(config),
        data=f"{series.name}, {len(series):,} rows",
        command=command or "separatrix audit RUN",
        data_sha256=series.sha256 or config.data.sha256,
        seed=config.seed,
        created=date.today().isoformat(),
        machine=", ".join(f"{key} {value}" for key, value in config.machine.items()),
        notice=" ".join([series.notice, *series.remarks]).strip(),
        config={key: str(value) for key, value in flat.items()},
        versions=config.versions,
        choices=told,
    )


def _model(config: RunConfig) -> str:
    """What forecasts, in one line: on many a series the networks named in the command say the least of it."""
    network = config.network
    layers = f"{network.layers} layer{'s' if network.layers > 1 else ''}"
    each = f"{network.mixer}, {layers}, width {network.d_model}"
    if network.members > 1:
        each = f"{network.members} networks that hear their mean, each {each}"
    if not network.linear:
        return each
    share = 1.0 if config.correction is None else config.correction
    if share == 0:
        return f"a linear autoregression; nothing is kept of {each}"
    return f"a linear autoregression and {'' if share == 1 else f'{share:.0%} of '}the corrections of {each}"


def trained(folder: Path, config: RunConfig) -> list[Finding]:
    """How the fit went, where its lines were kept."""
    if not (folder / METRICS).is_file():
        return []
    lines = read_metrics(folder / METRICS)
    if len(lines) < 2:
        return []
    steps, loss = (np.array([float(line[key]) for line in lines]) for key in ("step", "loss"))
    free = np.array([float(line.get("free", "nan")) for line in lines])
    numbers = {
        "loss, median of the last tenth": Number(
            float(np.median(loss[-max(1, len(loss) // 10) :])), "measured", how=f"{len(lines):,} steps"
        ),
        "largest gradient norm": Number(max(float(line.get("gradient", 0.0)) for line in lines), "measured", how="before clipping"),
    }
    if np.isfinite(free).any():
        numbers["free-running part, median of the last tenth"] = Number(float(np.nanmedian(free[-max(1, len(free) // 10) :])), "measured")
    rows = config.data.rows
    call = f"[step.loss for step in {unfitted(config)}.fitting(series.values[:{rows}])]"
    made = Made(f"rows 0 to {rows - 1:,} of {config.data.name}", call, int(steps[-1]), config.seed, "float32", _spent(folder))
    return [training(steps, loss, turn=config.recipe.teacher_steps or None, numbers=numbers, made=made)]


def unfitted(config: RunConfig) -> str:
    """The expression that makes the forecaster of a run: what differs from the defaults, and what the series decided by itself."""
    network = config.network
    usual = SETTINGS.get(network.mixer, {})
    own = {name: value for name, value in network.settings.items() if json.dumps(value) != json.dumps(usual.get(name))}
    lags = None if network.orders else network.lags  # a window that is given would leave the autoregression no choice of its orders
    settings: dict[str, object] = dict(
        horizon=config.recipe.horizon, lags=lags, steps=config.recipe.steps, d_model=network.d_model, layers=network.layers,
        members=network.members, linear=network.linear, settings=own or None,
    )  # fmt: skip
    defaults = signature(Forecaster).parameters
    told = [f"{name}={value!r}" for name, value in settings.items() if value != defaults[name].default]
    return f"sx.Forecaster({', '.join([repr(network.mixer), *told, f'random_state={config.seed}'])})"


def _spent(folder: Path) -> float | None:
    """Seconds that the fit took; None where its checkpoint does not say."""
    try:
        seconds = read_checkpoint(folder / CHECKPOINT).seconds
    except ValueError:  # it is gone, or damaged: a report can do without it
        return None
    return None if math.isnan(seconds) else seconds
