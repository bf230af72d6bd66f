"""Power spectrum and dominant period of a measured series.

    S(f) = mean over segments of |FFT(w (x - mean x))|²,   half overlapping, Hann window w                      (1)

Paper    Welch 1967, IEEE Trans. Audio Electroacoust. 15:70-73.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from separatrix.recurrence.checks import expect_count, expect_positive, expect_real


class PowerSpectrum(NamedTuple):
    """The share of the variance at each frequency.

    Paper    Welch 1967, IEEE Trans. Audio Electroacoust. 15:70-73.
    """

    frequency: Tensor  # [F], cycles per unit of dt
    power: Tensor  # [F], sums to 1: the share of the variance at each frequency


def power_spectrum(series: Tensor, *, dt: float = 1.0, segment: int | None = None) -> PowerSpectrum:
    """S(f) = mean over segments of |FFT(w (x - mean x))|², without the mean, normalised to shares.

    Half overlapping segments, Hann window w.    series [T] -> frequencies and shares [segment // 2]

    segment  samples per segment; an eighth of the series, at least 64, when None.

    Paper    Welch 1967, IEEE Trans. Audio Electroacoust. 15:70-73.
    Raises   ValueError for a series not [T], under 32 samples, constant or with gaps, a segment outside 8 .. T and dt <= 0; TypeError for a
             complex one.
    """
    expect_positive("dt", dt, "time per sample")
    x, _ = of_size_one(scalar_series(series))
    if segment is None:
        segment = min(len(x), max(64, len(x) // 8))
    expect_count("segment", segment, 8)
    if segment > len(x):
        raise ValueError(f"segment is {segment}, expected between 8 and the length of the series, {len(x)}.")
    frequency, shares = shares_of_power(x, dt, segment)
    if not shares.any():
        raise ValueError("the series is constant: it has no spectrum.")
    return PowerSpectrum(torch.from_numpy(frequency), torch.from_numpy(shares))


def shares_of_power(x: np.ndarray, dt: float, segment: int) -> tuple[np.ndarray, np.ndarray]:
    """(1) without the mean, normalised to shares. All 0 where no segment moves: the samples after the last whole one are in none."""
    frequency, power = signal.welch(x, fs=1 / dt, nperseg=segment, detrend="constant")
    total = power[1:].sum()
    return frequency[1:], power[1:] / total if total > 0 else np.zeros_like(power[1:])


FEWEST = 6  # periods that a segment must hold to tell where its peak is


def dominant_period(series: Tensor, *, dt: float = 1.0, segment: int | None = None) -> float:
    """The period of the highest peak of the power spectrum, in units of dt.    series [T]

    Between the frequencies, a parabola through log power finds it. A peak so low that few of its periods go into a segment is looked at
    again in the spectrum of the whole series, unless `segment` says otherwise. A broad spectrum has a highest peak too: this says where it
    is, not that the series is periodic.

    Paper    Welch 1967, IEEE Trans. Audio Electroacoust. 15:70-73.
    Raises   ValueError for a series not [T], under 32 samples, constant or with gaps, a segment outside 8 .. T and dt <= 0; TypeError for a
             complex one.
    """
    piece = min(len(series), max(64, len(series) // 4)) if segment is None else segment
    frequency, power = power_spectrum(series, dt=dt, segment=piece)
    peak = int(power.argmax())
    if segment is None and peak + 1 < FEWEST and piece < len(series):
        highest = frequency[peak + 1]
        frequency, power = power_spectrum(series, dt=dt, segment=len(series))
        peak = int(torch.where(frequency < highest, power, 0.0).argmax())
    if not 0 < peak < len(power) - 1:
        return 1 / float(frequency[peak])
    before, at, after = power[peak - 1 : peak + 2].clamp(min=1e-300).log().tolist()
    curvature = before - 2 * at + after
    shift = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return 1 / float(frequency[peak] + shift * (frequency[1] - frequency[0]))


def scalar_series(series: Tensor, name: str = "series", least: int = 32) -> np.ndarray:
    """One measured quantity over time, as float64; refuses gaps, because every instrument here would read through them.    [T] or [T, 1]"""
    x = torch.as_tensor(series)
    expect_real(**{name: x})
    x = x.detach().cpu().double()
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 1:
        raise ValueError(f"{name} is {tuple(x.shape)}, expected one quantity over time, [time]. Take one column.")
    if len(x) < least:
        raise ValueError(f"{name} has {len(x)} samples, expected at least {least}.")
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        where = int((~torch.isfinite(x)).nonzero()[0, 0])
        raise ValueError(f"{name} has {bad} NaN or infinite values, the first at sample {where}. Fill the gaps, or pass a stretch without.")
    return x.numpy()


def of_size_one(x: np.ndarray) -> tuple[np.ndarray, float]:
    """x over the power of two above its magnitude, and the log of that power: squares then neither overflow nor vanish.    [T] -> [T]"""
    power = int(np.frexp(np.abs(x).max())[1])
    return np.ldexp(x, -power), power * np.log(2)
