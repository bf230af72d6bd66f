"""Does a long run keep the character of the data: its rhythm, its values, its memory?

    rhythm   Hellinger distance of power spectra           H(p, q) = (1 - Σ_i √(p_i q_i))^(1/2)                (1)
    values   Wasserstein-1 distance of the values, in standard deviations of the data
    memory   largest difference of autocorrelations up to a few periods

A distance means nothing by itself: two halves of the data differ as well. So the data is cut into pieces, every piece is compared
with every other one (the yardstick), pieces of the same length are cut from the run and compared with those of the data, and what
is reported is the ratio of the medians: 1 is as close to the data as the data is to itself. No yardstick is shorter than RESOLUTION.

Paper    Hellinger distance of spectra: Mikhaeil, Monfared & Durstewitz 2022, arXiv:2110.07238; Brenner et al. 2022, arXiv:2207.02542.
         Wasserstein distance of values: Villani 2009, Optimal Transport, Springer.
Departs  the yardstick from the data's own pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import wasserstein_distance
from torch import Tensor

from separatrix.recurrence.checks import expect_count, expect_positive
from separatrix.stability.number import Number, Verdict
from separatrix.stability.power import of_size_one, power_spectrum, scalar_series, shares_of_power
from separatrix.stability.rosenstein import mean_period

SMOOTH = 1.0  # bins of the spectrum over which (1) is smoothed, as a Gaussian's standard deviation: phases of lines must not decide
# Runs of one and the same system stray beyond their data's own largest distance one time in fifteen, beyond this many times it one in
# twenty-five; the values of Lorenz with rho = 27 instead of 28 are 1.5 times as far in the median (4,000 samples of z, every 0.05).
MARGIN = 1.25
# Pieces of a strictly periodic series do not differ at all, and a run that strays from them by rounding must not be called infinitely far.
# What is off by this many standard deviations is not told apart: values move by as much, spectra by less (noise of ε standard deviations
# moves (1) by ε/√2), correlations by at most twice as much.
RESOLUTION = 1e-3


class Closeness(NamedTuple):
    """One distance with its yardstick."""

    distance: Number  # run against data, median over pairs of pieces
    yardstick: Number  # data against data, median over pairs of pieces
    ratio: Number  # of the two; at most about 1 when the run is like the data
    alike: bool  # the run's median is at most MARGIN times `line`

    @property
    def line(self) -> float:
        """The largest distance between two pieces of the data, or RESOLUTION where that is more."""
        return _line(self.yardstick)


class Character(NamedTuple):
    """How alike a run and the data are, with the curves that show it.

    It does not say that the run and the data are one system: order of events beyond the autocorrelation is not looked at.

    Paper    Mikhaeil, Monfared & Durstewitz 2022, arXiv:2110.07238; Villani 2009, Optimal Transport, Springer.
    """

    rhythm: Closeness  # Hellinger distance, 0 to 1
    values: Closeness  # in standard deviations of the data
    memory: Closeness  # difference of correlation coefficients, 0 to 2
    frequency: Tensor  # [F], cycles per unit of dt
    power_data: Tensor  # [F], shares
    power_run: Tensor  # [F]
    edges: Tensor  # [E + 1] of the histogram
    histogram_data: Tensor  # [E], shares
    histogram_run: Tensor  # [E]
    lags: Tensor  # [L + 1], in units of dt
    correlation_data: Tensor  # [L + 1]
    correlation_run: Tensor  # [L + 1]

    @property
    def verdict(self) -> Verdict:
        """SETTLED when all three are alike, DRIFTING when one is not."""
        return Verdict.SETTLED if self.rhythm.alike and self.values.alike and self.memory.alike else Verdict.DRIFTING


def character(data: Tensor, run: Tensor, *, dt: float = 1.0, pieces: int = 4, bins: int = 50) -> Character:
    """Compare a long run with the data it should be like.    data [T], run [T'], T' at least as long as a piece of the data

    dt      time per sample, of both.
    pieces  the data is cut into; the run is cut into pieces of the same length, at most 16, spread evenly.
    bins    of the histogram that is drawn; the distance of values does not use it.

    Paper    Mikhaeil, Monfared & Durstewitz 2022, arXiv:2110.07238; Villani 2009, Optimal Transport, Springer.
    Raises   ValueError for series that are constant, too short or have gaps, fewer than 2 pieces, no bins, and dt <= 0;
             TypeError for complex ones.
    """
    expect_positive("dt", dt, "time per sample")
    x, y = scalar_series(data, "data", least=128), scalar_series(run, "run")
    expect_count("bins", bins, 1)
    expect_count("pieces", pieces, 2)  # the data's own variability is the yardstick
    length = len(x) // pieces
    if length < 64 or len(y) < length:
        raise ValueError(f"pieces of {length} samples from data of {len(x)} and a run of {len(y)}: expected both at least 64.")
    deviation = float(x.std())
    if deviation == 0:
        raise ValueError("data is constant: it has no character to keep.")
    period = mean_period(torch.from_numpy(x))
    # Pieces overlap a little to begin at different phases of a cycle, as those of the run do: phase alone must not look like a difference.
    turn = min(round(period / pieces), length // 2)
    of_data = [x[i * (length - turn) :][:length] for i in range(pieces)]
    starts = np.linspace(0, len(y) - length, min(16, len(y) // length)).astype(int)
    of_run = [y[s : s + length] for s in starts]
    segment = max(32, length // 4)
    lag = min(length // 4, round(10 * period))

    def rhythm(a: np.ndarray, b: np.ndarray) -> float:
        return hellinger(_power(a, segment), _power(b, segment))

    def values(a: np.ndarray, b: np.ndarray) -> float:
        return float(wasserstein_distance(a, b)) / deviation

    def memory(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(autocorrelation(a, lag) - autocorrelation(b, lag)).max())

    inside = ((x.min() - 3 * deviation) <= y) & (y <= (x.max() + 3 * deviation))
    edges = np.histogram_bin_edges(np.concatenate([x, y[inside]]), bins)
    long = max(64, len(x) // 8)
    return Character(
        rhythm=_closeness(rhythm, of_data, of_run, ""),
        values=_closeness(values, of_data, of_run, "standard deviations"),
        memory=_closeness(memory, of_data, of_run, ""),
        frequency=power_spectrum(torch.from_numpy(x), dt=dt, segment=long).frequency,
        power_data=torch.from_numpy(_power(x, long)),
        power_run=torch.from_numpy(_power(y, long)),
        edges=torch.from_numpy(edges),
        histogram_data=torch.from_numpy(np.histogram(x, edges)[0] / len(x)),
        histogram_run=torch.from_numpy(np.histogram(y, edges)[0] / len(y)),
        lags=torch.arange(lag + 1, dtype=torch.float64) * dt,
        correlation_data=torch.from_numpy(autocorrelation(x, lag)),
        correlation_run=torch.from_numpy(autocorrelation(y, lag)),
    )


def hellinger(p: np.ndarray, q: np.ndarray) -> float:
    """(1) for two sets of shares.    [F], [F] -> 0 (equal) to 1 (nothing in common)"""
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(p * q).sum())))


def autocorrelation(x: np.ndarray, lags: int) -> np.ndarray:
    """Correlation of a series with itself, `lag` samples later.    [T] -> [lags + 1], 1 at lag 0; all 1 for a constant"""
    centred = x - x.mean()
    variance = float(np.mean(centred * centred))
    if variance <= 1e-24 * float(np.max(x * x)):
        return np.ones(lags + 1)
    spectrum = np.fft.rfft(centred, 2 * len(x))
    return np.fft.irfft(spectrum * spectrum.conj())[: lags + 1] / (len(x) * variance)


def _power(x: np.ndarray, segment: int) -> np.ndarray:
    """Smoothed shares of the power; all zero for what stands still, which has nothing in common with anything that moves."""
    if float(x.std()) <= 1e-12 * float(np.abs(x).max()):
        return np.zeros(segment // 2)
    shares = shares_of_power(of_size_one(x)[0], 1.0, segment)[1]
    if not shares.any():
        return shares
    smooth = gaussian_filter1d(shares, SMOOTH, mode="nearest")
    return smooth / smooth.sum()


def _closeness(distance: Callable, of_data: Sequence[np.ndarray], of_run: Sequence[np.ndarray], unit: str) -> Closeness:
    own = np.array([distance(a, b) for a, b in combinations(of_data, 2)])
    other = np.array([distance(a, b) for a, b in product(of_data, of_run)])
    of_pairs = f"median over {len(other)} pairs of {len(of_data[0]):,} samples, range of the middle nine tenths"
    far = Number(np.median(other), "measured", np.quantile(other, 0.05), np.quantile(other, 0.95), unit, of_pairs)
    near = Number(np.median(own), "measured", own.min(), own.max(), unit, f"median and range over {len(own)} pairs of pieces of the data")
    floor = max(near.value, RESOLUTION)
    ratio = Number(
        far.value / floor, "measured", unit="times the data's own distance", how=f"ratio of the medians, the data's at least {RESOLUTION}"
    )
    return Closeness(far, near, ratio, bool(far.value <= MARGIN * _line(near)))


def _line(yardstick: Number) -> float:
    assert yardstick.high is not None  # the largest of its pairs
    return max(yardstick.high, RESOLUTION)
