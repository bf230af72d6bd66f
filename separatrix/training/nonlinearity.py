"""Does a series need more than a linear autoregression? Sugihara's S-map, on rows that were left out.

    ŷ_{t+h} = b_0 + b · w_t,    b = argmin  Σ_s ω_s (z_{s+h} - b_0 - b · w_s)² / Σ_s ω_s + λ |b|²
    ω_s     = exp(-θ |w_s - w_t| / mean_u |w_u - w_t|)                                                              (1)
    ratio   = min over h and θ > 0 of  e_{h,θ} / e_{h,0},       e the root mean square error on rows left out       (2)

θ = 0 is one linear map for all of state space, θ > 0 one for each neighbourhood. Where the next value is a smooth function of the last
ones, neighbourhoods know better and the ratio falls: 0.3 to 0.8 for chaotic flows with up to 30 percent of noise, for the laser and the
electrocardiogram. Where it is a linear function and noise, as far as so many rows can tell, they only hear more of the noise: 0.91 to 1.0
for autoregressions of 300 rows or more, random walks and seasons with noise, for El Niño, temperature and carbon dioxide.

Paper    Sugihara 1994, doi:10.1098/rsta.1994.0106.
Departs  a whole fold is left out at a time, and the rows around it that share values with it.
Cost     O(n P E²) for at most n = 1,500 rows to learn from, P = 80 rows a fold to forecast and E = 8 coordinates: half a second.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from separatrix.models.autoregression import carried
from separatrix.models.forecaster import mean_and_scale
from separatrix.recurrence.checks import expect_count
from separatrix.training.folds import FOLDS, SMALL
from separatrix.training.rows import as_array

THETAS = np.array([0.0, 1.0, 2.0, 4.0, 8.0])
RIDGE = 1e-5  # λ
COORDINATES = 8  # of a window, at most
LEARNED, PROBED = 1500, 80
FEWEST_ROWS = 100  # rows: of forty autoregressions with 40 rows nine seem nonlinear, with 60 or 100 two, with 300 or 1,000 none
NONLINEAR = 0.9  # a ratio below this is nonlinearity


def nonlinearity(values: ArrayLike, lags: int = 16, horizon: int = 40) -> float:
    """How much better local maps forecast left out rows than one linear map.    values [T] or [T, C], NaN for gaps -> a ratio, at most 1

        ratio = min over h and θ > 0 of  e_{h,θ} / e_{h,0}

    e_{h,θ} is the root mean square error of forecasts over h rows by Sugihara's S-map with weights exp(-θ distance), of all channels
    together: below 0.9 counts as nonlinear, near 1 a linear map is as good. 1 where the series is too short to tell.

    lags     rows that a window w spans; up to eight of them, evenly spaced, are its coordinates. A gap in it is held at the last value.
    horizon  forecasts are over one row, an eighth of these and half of them.
    """
    rows = as_array(values)
    if rows.ndim not in (1, 2) or 0 in rows.shape[1:] or np.isinf(rows).any():
        raise ValueError(f"values are {rows.shape} but must be [time] or [time, channels] of finite numbers, NaN for gaps.")
    expect_count("lags", lags)
    expect_count("horizon", horizon)
    if len(rows) < FEWEST_ROWS:
        return 1.0
    x = torch.tensor(rows.reshape(len(rows), -1))
    mean, scale = mean_and_scale(x)
    standard = (x - mean) / scale
    z, filled = standard.numpy(), carried(standard).numpy()
    ratios = [1.0]
    for lead in sorted({1, max(1, horizon // 8), max(1, horizon // 2)}):
        errors = np.sum([_errors(filled[:, c], z[:, c], lags, lead) for c in range(z.shape[1])], axis=0)
        if errors[0] > 0:
            ratios.append(float(np.sqrt(errors[1:].min() / errors[0])))
    return min(ratios)


def _errors(z: NDArray, measured: NDArray, lags: int, lead: int) -> NDArray:
    """Sums of squared errors for every θ.    z, measured [T] -> [len(THETAS)]"""
    back = np.unique(np.linspace(0, lags - 1, min(COORDINATES, lags)).round().astype(int))
    now = np.arange(lags - 1, len(z) - lead)
    now = now[np.isfinite(measured[now + lead])]
    windows, targets = z[now[:, None] - back], z[now + lead]
    near = lags + lead  # rows this close share values
    total = np.zeros(len(THETAS))
    for rows in np.array_split(np.arange(len(now)), FOLDS):
        if not len(rows):
            continue
        known = np.flatnonzero((now < now[rows[0]] - near) | (now > now[rows[-1]] + near))
        known, asked = _some(known, LEARNED), _some(rows, PROBED)
        if len(known) <= len(back) + 1:
            continue
        total += _local(windows[known], targets[known], windows[asked], targets[asked])
    return total


def _local(w: NDArray, y: NDArray, asked: NDArray, truth: NDArray) -> NDArray:
    """(1) learnt from w, y and held against truth, squares summed over the rows asked for.    -> [len(THETAS)]"""
    design, one = np.c_[np.ones(len(w)), w], np.c_[np.ones(len(asked)), asked]
    size = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(w), -1)
    distance = np.linalg.norm(asked[:, None] - w[None], axis=2)
    distance /= np.maximum(distance.mean(1, keepdims=True), 1e-300)
    ridge = RIDGE * np.diag(np.r_[0.0, np.ones(size - 1)])
    found = []
    for theta in THETAS:
        weight = np.exp(-theta * distance)
        weight /= weight.sum(1, keepdims=True)
        gram = (weight @ products).reshape(-1, size, size) + ridge
        b = np.linalg.solve(gram, (weight @ (design * y[:, None]))[:, :, None])[:, :, 0]
        found.append((np.square((b * one).sum(1) - truth) + SMALL**2).sum())  # SMALL: an exact sine is linear
    return np.array(found)


def _some(rows: NDArray, most: int) -> NDArray:
    """At most so many of them, evenly spread."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(int))] if len(rows) else rows
