"""Forecast horizon: for how many steps does a forecast stay with the truth?

    e_h = (mean over channels of (ŷ_h - y_h)² / σ²)^(1/2)          horizon = (first h with e_h > θ) - 1          (1)

from many origins: one origin is an anecdote. σ is the spread of the data, so a forecast of nothing but the mean has e around 1, and
θ = 0.5 says "half as wrong as knowing nothing". A horizon in pulses (dominant periods) can be compared between series.

Paper    Vlachas et al. 2020, Neural Networks 126:191-217, arXiv:1910.05266 (valid prediction time).
Departs  median and interval over origins; origins where the forecast never left count as "at least".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_positive, expect_real
from separatrix.stability.number import Number

RESAMPLES = 1000

ForecastMethod = Callable[[Tensor, int], Tensor]  # (the series up to the origin [t, C], steps) -> [steps, C]


class Horizon(NamedTuple):
    """How long forecasts hold, and how the error grows.

    It does not say what a forecast is worth beyond the horizon, nor on another series; overlapping origins are not independent, so
    the interval draws whole runs of neighbouring origins.

    Paper    Vlachas et al. 2020, Neural Networks 126:191-217, arXiv:1910.05266 (valid prediction time).
    """

    steps: Number  # median over origins, in samples; "at least" when half of the origins never left
    time: Number  # the same in units of dt
    pulses: Number | None  # the same in dominant periods, when a period was given
    each: Tensor  # [O] horizon of each origin, in samples
    censored: Tensor  # [O] bool: this origin never left within the H steps that were compared
    error: Tensor  # [O, H] e of (1)
    threshold: float
    origins: Tensor  # [O], or the rows of the forecasts


def forecast_horizon(
    forecast: Tensor,
    truth: Tensor,
    *,
    scale: Tensor | float,
    threshold: float = 0.5,
    dt: float = 1.0,
    period: float | None = None,
    origins: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Horizon:
    """(first h with e_h > θ) - 1,  e_h = (mean over channels of (ŷ_h - y_h)² / σ²)^(1/2), of forecasts that were already made.

    forecast, truth [O, H] or [O, H, C]

    scale      σ, the standard deviation of the data the forecasts were made from; a number or [C].
    threshold  θ.
    dt         time per sample.
    period     dominant period in units of dt, for the horizon in pulses.
    origins    where the forecasts start in the series, for drawing.
    generator  of the bootstrap over origins; a fixed seed when None.

    Paper    Vlachas et al. 2020, Neural Networks 126:191-217, arXiv:1910.05266 (valid prediction time).
    Raises   ValueError for shapes and origins that do not fit, a truth with gaps, and threshold, scale, dt or period not above 0;
             TypeError for complex numbers.
    """
    expect_positive("dt", dt, "time per sample")
    if period is not None:
        expect_positive("period", period, "time, or None")
    forecast, truth = torch.as_tensor(forecast), torch.as_tensor(truth)
    expect_real(forecast=forecast, truth=truth)
    forecast, truth = (z.detach().cpu().double() for z in (forecast, truth))
    if forecast.shape != truth.shape or forecast.ndim not in (2, 3) or 0 in forecast.shape:
        raise ValueError(f"forecast is {tuple(forecast.shape)} and truth {tuple(truth.shape)}, expected equal [origins, steps, ...].")
    if not bool(torch.isfinite(truth).all()):
        raise ValueError("truth holds NaN or infinite values: choose origins whose futures have no gaps.")
    expect_positive("threshold", threshold, "share of the standard deviation")
    if forecast.ndim == 2:
        forecast, truth = forecast[..., None], truth[..., None]
    sigma = torch.as_tensor(scale, dtype=torch.float64)
    if sigma.shape not in ((), (1,), forecast.shape[2:]):
        raise ValueError(f"scale is {tuple(sigma.shape)}, expected a number or one for each of the {forecast.shape[2]} channels.")
    if not bool(((sigma > 0) & (sigma < torch.inf)).all()):
        raise ValueError(f"scale is {scale}, expected positive standard deviations.")
    starts = list(range(len(truth)) if origins is None else origins)
    if len(starts) != len(truth):
        raise ValueError(f"{len(starts)} origins were given, expected one for each of the {len(truth)} forecasts.")
    # A forecast that is no longer finite has left the data: its error is infinite, not unknown.
    error = ((forecast - truth) / sigma).square().mean(-1).sqrt().nan_to_num(nan=torch.inf)
    left = error > threshold
    censored = ~left.any(1)
    each = torch.where(censored, torch.tensor(error.shape[1]), left.int().argmax(1))
    steps = _median(each, censored, error.shape[1], generator)
    return Horizon(
        steps=steps,
        time=steps.scaled(dt, "units of time"),
        pulses=None if period is None else steps.scaled(dt / period, "pulses"),
        each=each,
        censored=censored,
        error=error,
        threshold=threshold,
        origins=torch.tensor(starts),
    )


def horizon_along(
    forecast: ForecastMethod,
    series: Tensor,
    origins: Sequence[int],
    steps: int,
    *,
    scale: Tensor | float | None = None,
    threshold: float = 0.5,
    dt: float = 1.0,
    period: float | None = None,
    baselines: Mapping[str, ForecastMethod] | None = None,
) -> tuple[Horizon, dict[str, Horizon]]:
    """Horizons of a forecaster and of baselines, all from the same origins of one series.

    forecast   called with the series up to the origin and the number of steps.
    series     [T] or [T, C].
    origins    an origin t has seen samples 0..t-1 and forecasts t..t+steps-1.
    steps      rows of every forecast.
    scale      σ; the standard deviation of the samples before the first origin when None.
    threshold  θ; dt and period as for `forecast_horizon`.
    baselines  by name, called like `forecast`; the bootstrap draws the same origins for all.

    Paper    Vlachas et al. 2020, Neural Networks 126:191-217, arXiv:1910.05266 (valid prediction time).
    Raises   ValueError for origins outside the series, forecasts of other lengths, and what `forecast_horizon` refuses.
    """
    x = torch.as_tensor(series).detach().cpu().double()
    x = x[:, None] if x.ndim == 1 else x
    origins = list(origins)
    if not origins or min(origins) < 1 or max(origins) + steps > len(x):
        raise ValueError(f"origins reach from {min(origins, default=None)} to {max(origins, default=None)} with {steps} steps each, "
                         f"expected at least one, all within the {len(x)} samples of the series.")  # fmt: skip
    truth = torch.stack([x[t : t + steps] for t in origins])
    if scale is None:
        scale = x[: min(origins)].std(0) if min(origins) > 1 else x.std(0)

    def measure(name: str, method: ForecastMethod) -> Horizon:
        made = [torch.as_tensor(method(x[:t], steps)).detach().cpu().double().reshape(-1, x.shape[1]) for t in origins]
        wrong = [len(m) for m in made if len(m) != steps]
        if wrong:
            raise ValueError(f"{name} returned {wrong[0]} steps, expected {steps}.")
        return forecast_horizon(torch.stack(made), truth, scale=scale, threshold=threshold, dt=dt, period=period, origins=origins)

    return measure("forecast", forecast), {name: measure(name, method) for name, method in (baselines or {}).items()}


def _median(each: Tensor, censored: Tensor, steps: int, generator: torch.Generator | None) -> Number:
    values, count = each.double().numpy(), len(each)
    how = f"median over {count} origins, {int(censored.sum())} of which never left within {steps} steps"
    if count == 1:
        how = f"one origin, which {'never left' if bool(censored) else 'left'} within {steps} steps"
    middle = float(np.median(values))
    if float(censored.double().mean()) >= 0.5:
        return Number(middle, "measured", low=middle, unit="samples", how=how)
    if count < 5:
        return Number(middle, "measured", float(values.min()), float(values.max()), "samples", how)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    run = max(1, round(count ** (1 / 3)))  # neighbouring origins share their futures: draw them together
    first = rng.integers(0, count, (RESAMPLES, -(-count // run)))
    drawn = ((first[..., None] + np.arange(run)) % count).reshape(RESAMPLES, -1)[:, :count]
    low, high = np.quantile(np.median(values[drawn], axis=1), (0.025, 0.975))
    # A median that reaches into the origins that never left has no upper end: nobody looked beyond the last step.
    return Number(middle, "estimated", min(middle, low), None if high > steps - 1 else max(middle, high), "samples", how)
