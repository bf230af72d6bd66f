"""Rows left out of a fit, and how wrong forecasts of them are.

    r_{t,h} = |x_{t+h} - ŷ_{t+h}|        a free run from row t into a fold that was hidden from this network          (1)

Errors along fitted rows flatter: a network that has 500 noisy rows to learn from is three times as exact there as after them. So the rows
are cut into folds. A network hears its own fold and is never fitted to it: no row of it is a target.

Paper    Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x; Bergmeir et al. 2018, doi:10.1016/j.csda.2017.11.003 (along a sequence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from separatrix.models.autoregression import RidgeAutoregression
from separatrix.models.forecaster import ForecastModel

FOLDS = 4
SHORTEST = 4  # rows of a fold
ORIGINS, LEADS = 64, 200  # in each fold, at most
SMALL = 0.01  # s.d.; an error this small cannot be told from none


def folds(length: int, heard: int, count: int = FOLDS) -> list[range]:
    """Equal parts of all rows but the first `heard`, which only lead up to a forecast."""
    size = (length - heard) // count
    if size < SHORTEST:
        raise ValueError(
            f"the series has {length} rows, which leaves {size} for each of {count} folds, but {SHORTEST} are needed to tell anything. "
            f"Pass a longer series."
        )
    return [range(stop - size, stop) for stop in range(length - (count - 1) * size, length + 1, size)]


def origins(rows: range, leads: int) -> Tensor:
    """Where forecasts that far ahead can start in a fold, evenly spread.    [n]"""
    count = min(len(rows) - leads + 1, ORIGINS)
    return torch.linspace(rows.start, rows.stop - leads, count, dtype=torch.float64).round().long()


def without(network: ForecastModel, scaled: Tensor, hidden: range, orders: Mapping[int, float] | None = None) -> ForecastModel:
    """With an autoregression of its own, if there is one, fitted to the rows that are not hidden."""
    if network.linear is not None:
        network.linear = RidgeAutoregression(network.channels, network.lags)
        shown = scaled.clone()
        shown[list(hidden)] = torch.nan
        network.start_linear(shown, orders)
    return network


def out_of_fold(networks: Sequence[ForecastModel], values: Tensor, hidden: Sequence[range], heard: int, leads: int = LEADS) -> Tensor:
    """(1) of every network in the rows that were hidden from it.    values [T, C] -> [F, n, H, C], NaN where nothing was measured

    H is `leads`, or two thirds of a fold if that is less, so that all of them are seen from the same origins, the rest of it.
    """
    found = []
    leads = min(2 * min(map(len, hidden)) // 3, leads)
    with torch.no_grad():
        for network, rows in zip(networks, hidden):
            starts = origins(rows, leads)
            forecast, _ = network.free_run(values[starts[:, None] + torch.arange(-heard, 0)], leads)
            found.append((values[starts[:, None] + torch.arange(leads)] - forecast).abs())
    return torch.stack(found)


def log_errors(errors: Sequence[Tensor] | Tensor) -> Tensor:
    """log of the mean square of each fold's errors, in s.d. of the data: a hard fold weighs no more than an easy one.    -> [F]"""
    return torch.stack([(fold.square().nanmean() + SMALL**2).log() for fold in errors]).nan_to_num(0.0)
