"""Intervals from how wrong forecasts are on rows that a network was not fitted to.

    ŷ_h ± Q_h           Q_h: the ⌈(n + 1) coverage⌉-th smallest of the n errors of lead h out of fold (`folds.py`)    (1)

For each fold of the series a network like those of the forecaster is fitted that hears the fold and is never fitted to it. A forecaster
whose networks correct a linear autoregression is fitted like that in the first place (`correction.py`) and has its errors without another
fit.

If errors to come are like these, interval (1) holds its coverage. They may not be: origins that overlap are alike, so that n errors are
worth fewer, and the future may differ from the past. On the other side, the networks of the folds have seen fewer rows than the
forecaster's, whose ensemble errs less than the single networks measured here,
and Q_h is never taken to shrink with the lead.

Paper    Lei et al. 2018, arXiv:1604.04173; Barber et al. 2021, arXiv:1905.02928 (errors out of fold); Xu & Xie 2021,
         arXiv:2010.09107 (several networks, along a sequence).
Cost     one fit of an ensemble of four, or nothing.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Generator
from numbers import Real
from pathlib import Path

import torch
from torch import Tensor

from separatrix.files import save_tensors
from separatrix.training.checkpoint import read_tensors
from separatrix.training.ensemble import Ensemble
from separatrix.training.folds import FOLDS
from separatrix.training.loop import CHECKPOINT, Step, train
from separatrix.training.recipe import RunConfig

ERRORS = "errors.safetensors"
UNDER_WAY = "folds"  # in the run's folder, until it is done


def calibrating(config: RunConfig, values: Tensor, folder: Path | None) -> Generator[Step, None, Tensor]:
    """Fit a network for every fold, one optimizer step an item.    values [T, C], the fitted rows -> errors [F, n, H, C], when it is done

    folder  the run, where the errors are kept when all is done, and until then what a second call goes on from.
    """
    network, recipe = config.network.model_copy(update=dict(members=FOLDS)), config.recipe.model_copy(update=dict(left_out=FOLDS))
    ensemble = Ensemble.of(config.model_copy(update=dict(network=network, recipe=recipe)), values)
    where = None if folder is None else folder / UNDER_WAY
    if where is not None:
        where.mkdir(exist_ok=True)
    begun = where is not None and (where / CHECKPOINT).is_file()
    yield from train(ensemble.model, ensemble.parts(recipe), recipe, seed=config.seed, folder=where, resume=begun)
    errors = ensemble.errors(1.0 if config.correction is None else config.correction, recipe.context)
    if folder is not None and where is not None:
        save_errors(folder, errors)
        shutil.rmtree(where)
    return errors


def half_widths(errors: Tensor, coverage: float, steps: int) -> Tensor:
    """Q of (1) for leads 1 to `steps`; beyond the leads that were measured, the largest.    errors [..., H, C] -> [steps, C]"""
    if not isinstance(coverage, Real) or not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage!r} but must lie between 0 and 1, such as 0.9.")
    errors = errors.flatten(0, -3)
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
    if found.keys() != {"errors"} or found["errors"].ndim != 4 or found["errors"].shape[3] != channels:
        raise ValueError(f"{folder / ERRORS} does not hold the errors of this run. Delete it and calibrate again.")
    return found["errors"]
