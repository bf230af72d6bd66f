"""How wrong forecasts are on rows that a network was not fitted to, and the interval that follows.

    r_{t,h} = |x_{t+h} - ŷ_{t+h}|        a free run from row t into a fold that was hidden from this network          (1)
    ŷ_h ± Q_h                            Q_h: the ⌈(n + 1) coverage⌉-th smallest of the n errors (1) of lead h        (2)

Errors along fitted rows flatter: a network that has 500 noisy rows to learn from is three times as exact there as after them. So the series
is cut into folds, and for each of them a network like those of the forecaster is fitted that hears the fold and is never fitted to it.

If errors to come are like (1), interval (2) holds its coverage. They may not be: origins that overlap are alike, so that n errors are worth
fewer, and the future may differ from the past. On the other side, the networks of (1) have seen fewer rows than the forecaster's, an
ensemble errs less than they do one by one, and Q_h is never taken to shrink with the lead.

Paper    Lei et al. 2018, arXiv:1604.04173 (2); Barber et al. 2021, arXiv:1905.02928 (errors out of fold); Xu & Xie 2021,
         arXiv:2010.09107 (several networks, along a sequence).
Cost     one fit of an ensemble of four.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from separatrix.files import save_tensors
from separatrix.models.autoregression import RidgeAutoregression
from separatrix.models.forecaster import ForecastModel
from separatrix.training.checkpoint import read_tensors
from separatrix.training.loop import CHECKPOINT, Part, Step, train
from separatrix.training.networks import build
from separatrix.training.recipe import RunConfig
from separatrix.training.rollout import Rollout

ERRORS = "errors.safetensors"
UNDER_WAY = "folds"  # in the run's folder, until it is done
FOLDS = 4
SHORTEST = 4  # rows of a fold
ORIGINS, LEADS = 64, 200  # in each fold, at most


def calibrating(config: RunConfig, values: Tensor, folder: Path | None) -> Generator[Step, None, Tensor]:
    """Fit a network for every fold, one optimizer step an item.    values [T, C], the fitted rows -> (1) [n, H, C], as the iterator's value

    folder  the run, where the errors are kept when all is done, and until then what a second call goes on from.
    """
    heard = config.recipe.context
    hidden = folds(len(values), heard)
    model = build(config.network.model_copy(update=dict(members=FOLDS)), torch.Generator().manual_seed(config.seed))
    model.measure_scale(values)
    scaled = model.scaled(values)
    networks = [without(model.alone(i), scaled, rows) for i, rows in enumerate(hidden)]
    parts = [Part(network, Rollout([scaled], config.recipe, rows)) for network, rows in zip(networks, hidden)]
    where = None if folder is None else folder / UNDER_WAY
    if where is not None:
        where.mkdir(exist_ok=True)
    begun = where is not None and (where / CHECKPOINT).is_file()
    yield from train(model, parts, config.recipe, seed=config.seed, folder=where, resume=begun)
    errors = out_of_fold([network.eval() for network in networks], values, hidden, heard)
    if folder is not None and where is not None:
        save_errors(folder, errors)
        shutil.rmtree(where)
    return errors


def folds(length: int, heard: int) -> list[range]:
    """Equal parts of all rows but the first `heard`, which only lead up to a forecast."""
    size = (length - heard) // FOLDS
    if size < SHORTEST:
        raise ValueError(
            f"the series has {length} rows, which leaves {size} for each of {FOLDS} folds, but {SHORTEST} are needed to tell anything. "
            f"Pass a longer series."
        )
    return [range(stop - size, stop) for stop in range(length - (FOLDS - 1) * size, length + 1, size)]


def without(network: ForecastModel, scaled: Tensor, hidden: range) -> ForecastModel:
    """With an autoregression of its own, if there is one, fitted to the rows that are not hidden."""
    if network.linear is not None:
        network.linear = RidgeAutoregression(network.channels, network.lags)
        shown = scaled.clone()
        shown[list(hidden)] = torch.nan
        network.start_linear(shown)
    return network


def out_of_fold(networks: Sequence[ForecastModel], values: Tensor, hidden: Sequence[range], heard: int) -> Tensor:
    """(1) of every network in the rows that were hidden from it.    values [T, C] -> [n, H, C], NaN where nothing was measured

    Leads go to two thirds of a fold, so that all of them are seen from the same origins, the rest of it.
    """
    found = []
    leads = min(2 * min(map(len, hidden)) // 3, LEADS)
    with torch.no_grad():
        for network, rows in zip(networks, hidden):
            count = min(len(rows) - leads + 1, ORIGINS)
            starts = torch.linspace(rows.start, rows.stop - leads, count, dtype=torch.float64).round().long()
            forecast, _ = network.free_run(values[starts[:, None] + torch.arange(-heard, 0)], leads)
            found.append((values[starts[:, None] + torch.arange(leads)] - forecast).abs())
    return torch.cat(found)


def half_widths(errors: Tensor, coverage: float, steps: int) -> Tensor:
    """Q of (2) for leads 1 to `steps`; beyond the leads that were measured, the largest.    errors [n, H, C] -> [steps, C]"""
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage!r} but must lie between 0 and 1, such as 0.9.")
    known = (~torch.isnan(errors)).sum(0)
    fewest = int(known.amax(0).amin())  # of the channel that has the least
    if math.ceil((fewest + 1) * coverage) > fewest:
        most = math.floor(100 * fewest / (fewest + 1)) / 100
        raise ValueError(f"coverage is {coverage:g} but {fewest} errors out of fold allow at most {most:g}. Choose that, or fit more rows.")
    rank = torch.ceil((known + 1) * coverage).long()
    ranked = errors.nan_to_num(nan=torch.inf).sort(0).values.gather(0, (rank - 1).clamp(0, len(errors) - 1)[None])[0]
    widths = torch.where(rank <= known, ranked, -torch.inf).cummax(0).values
    first = torch.where(widths > -torch.inf, widths, torch.inf).amin(0)  # for leads before any that was measured
    return torch.maximum(widths, first)[torch.arange(steps).clamp(max=len(widths) - 1)]


def save_errors(folder: Path, errors: Tensor) -> None:
    save_tensors(folder / ERRORS, {"errors": errors}, {})


def forget_errors(folder: Path) -> None:
    """Of a fit that another one takes the place of, those of a calibration under way too."""
    (folder / ERRORS).unlink(missing_ok=True)
    shutil.rmtree(folder / UNDER_WAY, ignore_errors=True)


def load_errors(folder: Path, channels: int) -> Tensor | None:
    """What a calibration found, if there was one."""
    if not (folder / ERRORS).is_file():
        return None
    found = read_tensors(folder / ERRORS)[0]
    if found.keys() != {"errors"} or found["errors"].ndim != 3 or found["errors"].shape[2] != channels:
        raise ValueError(f"{folder / ERRORS} does not hold the errors of this run. Delete it and calibrate again.")
    return found["errors"]
