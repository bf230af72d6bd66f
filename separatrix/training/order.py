"""How many past rows a linear autoregression hears: its order.

    e_{f,L} = mean_{t,k} |ẑ_{t+k} - z_{t+k}|²           free runs of k = 1..K rows into fold f of an autoregression of order L
                                                        that was fitted to the rows outside of f                      (1)
    L* = argmin_L  Σ_f log e_{f,L}   over L0 and the orders with e_{f,L} < e_{f,L0} in every fold                     (2)

A year of weeks or a day of hours lies beyond sixteen rows, and a free run is lost without it. Criteria of one step hardly see that: what
the fifty-second value adds to the next one is little. In (2) the folds must agree, because four errors that overlap are a weak witness. On
55 stretches of the shipped series, others than those of `separatrix bench noise`, (2) chooses a higher order 13 times; errors after the
fitted rows are 13 percent less than with sixteen rows in the geometric mean over all, and 11 percent more in the worst case
(`tests/training/test_order.py`). The least error alone chooses one 29 times: 14 percent less, and 23 percent more in the worst case.

Paper    Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x (choice by rows left out).
Cost     O(T (C L)²) for each order and fold: a tenth of a second for 1,500 rows.
"""

from __future__ import annotations

import torch
from numpy.typing import NDArray
from torch import Tensor

from separatrix.models.autoregression import RidgeAutoregression, carried
from separatrix.models.forecaster import mean_and_scale
from separatrix.training.folds import FOLDS, SHORTEST, folds, log_errors, origins

ORDERS = (24, 32, 48, 64, 96, 128)
LATEST = 10_000  # rows that are looked at, the last ones
WIDEST = 512  # numbers in a window, of all channels


def order(values: NDArray, first: int, steps: int) -> int:
    """(2), or `first` where the series is too short to tell.    values [T, C], NaN for gaps; first: L0; steps: K"""
    rows = torch.tensor(values[-LATEST:], dtype=torch.float64)
    T, C = rows.shape
    longer = [L for L in ORDERS if first < L <= T // 8 and C * L <= WIDEST]
    if not longer or (T - longer[-1]) // FOLDS < SHORTEST:
        return first
    mean, scale = mean_and_scale(rows)
    z = (rows - mean) / scale
    hidden = folds(T, longer[-1], FOLDS)
    found = {L: log_errors([_errors(z, L, rows, steps) for rows in hidden]) for L in (first, *longer)}
    agreed = [L for L in longer if bool((found[L] < found[first]).all())]
    return min([first, *agreed], key=lambda L: float(found[L].sum()))


def _errors(z: Tensor, L: int, hidden: range, steps: int) -> Tensor:
    """What (1) is the mean square of, in one fold.    z [T, C] -> [origins, leads, C]"""
    shown = z.clone()
    shown[list(hidden)] = torch.nan
    linear = RidgeAutoregression(z.shape[1], L).double().fit(shown)
    leads = min(2 * len(hidden) // 3, steps)
    starts = origins(hidden, leads)
    windows = carried(z)[starts[:, None] + torch.arange(-L, 0)]
    return linear.free_run(windows, leads) - z[starts[:, None] + torch.arange(leads)]
