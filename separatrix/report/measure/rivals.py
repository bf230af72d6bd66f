"""Networks of other kinds as yardsticks: as many parameters, the same recipe, the same rows, the same seed.

They are kept under `baselines/` in the run folder, so that a second audit does not fit them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from separatrix.data import Series
from separatrix.models.forecaster import ForecastModel
from separatrix.tasks.rivals import parameters, rival
from separatrix.training import Forecaster, RunConfig

KEPT = "baselines"


@dataclass(frozen=True)
class Peer:
    """A fitted network to hold the model against."""

    name: str
    model: ForecastModel
    note: str


def peers(folder: Path, config: RunConfig, rows: Series, names: Sequence[str], say: Callable[[float, str], None]) -> list[Peer]:
    """One fitted network for each name, the audited kind left out.

    rows  the fitted rows.
    say   called with (share done, what is being done).
    """
    names = [name for name in names if name != config.network.mixer]
    found = []
    for i, name in enumerate(names):
        forecaster = rival(name, config, rows)
        where = folder / KEPT / name
        kept = _kept(where, forecaster.plan(rows))
        if kept is None:
            for step in forecaster.fitting(rows):
                say((i + step.done) / len(names), f"baseline {name}")
            forecaster.save(where)
            kept = forecaster
        note = f"{parameters(kept.model):,} parameters, fitted to the same rows by the same recipe and seed"
        found.append(Peer(name.upper() if len(name) <= 4 else name, kept.model, note))
    return found


def _kept(where: Path, plan: RunConfig) -> Forecaster | None:
    """What an earlier audit fitted, if it is what this one would fit."""
    try:
        kept = Forecaster.load(where)
    except ValueError:
        return None
    return kept if kept.config is not None and not kept.config.differences(plan) else None
