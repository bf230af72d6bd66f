"""How many past rows a linear autoregression hears: its order, or the mean of several.

    e_{f,m} = mean_{t,k} |ẑ_{t+k} - z_{t+k}|²     free runs of k = 1..K rows into fold f, candidate m fitted to the rows outside of f  (1)
    m       = L0, or (1 - s) L0 + s L              the mean of the coefficients of two orders, L > L0 and s = 1/2 or 1                 (2)
    p_m     ∝ Π_f e_{f,m}^-η                       of L0 and the candidates with e_{f,m} < e_{f,L0} in every fold; 0 of the rest       (3)

A year of weeks or a day of hours lies beyond sixteen rows, and a free run is lost without it. Criteria of one step hardly see that: what
the fifty-second value adds to the next one is little. Four errors that overlap are a weak witness, so the folds must agree, and what they
agree on is not chosen but averaged: the autoregression is the mean of the candidates with the weights of (3), again one autoregression.
With η = 3 a fold counts like six independent errors.

On 55 stretches of the shipped series, others than those of `separatrix bench noise`, (3) goes beyond sixteen rows 17 times; errors after
the fitted rows are 14 percent less in the geometric mean over all, and nowhere more (`tests/training/test_order.py`). The best order that
the folds agree on, alone: 13 percent less, and 11 percent more in the worst case. The least error alone: 14 less, 23 more. All lags with a
penalty that grows with the lag, by generalized cross-validation: 12 less, 122 more. On 388 further stretches, shorter ones and of other
series, (3) has 1.5 percent less and 28 percent more in the worst case, the best order that the folds agree on 0.8 less and 40 more.

Paper    Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x (rows left out); Buckland et al. 1997, doi:10.2307/2533961 (weights like (3));
         Litterman 1986, doi:10.1080/07350015.1986.10509491 (the penalty that was not taken).
Cost     O(T (C L)²) for each order and fold: some tenths of a second for 1,500 rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor

from separatrix.models.autoregression import RidgeAutoregression, carried, mean_of_orders
from separatrix.models.forecaster import mean_and_scale
from separatrix.training.folds import FOLDS, SHORTEST, folds, log_errors, origins

ORDERS = (24, 32, 48, 64, 96, 128)
PARTS = (0.5, 1.0)  # s
SHARPNESS = 3.0  # η
LEAST = 0.05  # a smaller share of an order is none: all networks hear as far back as the longest, and a fit is slower for it
LATEST = 10_000  # rows that are looked at, the last ones
WIDEST = 512  # numbers in a window, of all channels


def orders(values: NDArray, first: int, steps: int) -> dict[int, float]:
    """The orders of (3) and their shares, or all of `first` where the series is too short to tell.

    values [T, C], NaN for gaps; first: L0; steps: K
    """
    rows = torch.tensor(values[-LATEST:], dtype=torch.float64)
    T, C = rows.shape
    longer = [L for L in ORDERS if first < L <= T // 8 and C * L <= WIDEST]
    if not longer or (T - longer[-1]) // FOLDS < SHORTEST:
        return {first: 1.0}
    mean, scale = mean_and_scale(rows)
    z = (rows - mean) / scale
    candidates = [{first: 1.0}, *({first: 1 - s, L: s} for L in longer for s in PARTS)]
    found = [_errors(z, candidates, hidden, steps) for hidden in folds(T, longer[-1], FOLDS)]
    e = torch.stack([log_errors(errors) for errors in zip(*found)])  # [candidates, F]
    stays = (e < e[0]).all(1)
    stays[0] = True
    p = torch.softmax(torch.where(stays, -SHARPNESS * e.sum(1), -torch.inf), 0).tolist()
    shares = {L: sum(p_m * m.get(L, 0.0) for p_m, m in zip(p, candidates)) for L in (first, *longer)}
    kept = {L: share for L, share in shares.items() if share >= LEAST}
    return {L: share / sum(kept.values()) for L, share in kept.items()}


def _errors(z: Tensor, candidates: Sequence[dict[int, float]], hidden: range, steps: int) -> list[Tensor]:
    """What (1) is the mean square of, in one fold, for each candidate.    z [T, C] -> [origins, leads, C]"""
    shown = z.clone()
    shown[list(hidden)] = torch.nan
    leads = min(2 * len(hidden) // 3, steps)
    starts = origins(hidden, leads)
    truth, line = z[starts[:, None] + torch.arange(leads)], carried(z)
    fits = {L: RidgeAutoregression(z.shape[1], L).double().fit(shown) for L in set().union(*candidates)}
    found = []
    for m in candidates:
        linear = mean_of_orders([fits[L] for L in m], list(m.values()))
        found.append(linear.free_run(line[starts[:, None] + torch.arange(-linear.lags, 0)], leads) - truth)
    return found
