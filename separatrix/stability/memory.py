"""How long does a layer remember? Half-lives along data, and the reach of the gradient.

    linear in the state   P_t = A_t ... A_1;    r_i = lim log σ_i(P_t) / t;    half-life_i = log 2 / -r_i        (1)
    anything else         g(τ) = |∂y_t / ∂x_{t-τ}|,  half-life: the lag after which g stays below max g / 2      (2)

For diagonal transitions r_i is the time average of log|a_i|, mode by mode; for time-invariant ones the log moduli of the eigenvalues;
for the rest the Lyapunov exponents of the product, by QR. The weights of a gated layer do not determine any of them: the data does.

Paper    Oseledets 1968, Trans. Moscow Math. Soc. 19:197 (r_i exist); Bengio, Simard & Frasconi 1994, IEEE Trans. Neural Netw. 5:157 (g).
Cost     diagonal: O(T N). Others: T applications to N columns and T / every QRs for each batch row and head. (2): `probes` backward passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence import Diagonal, Scalar, Transition
from separatrix.recurrence.checks import expect_count, expect_tensor
from separatrix.stability.number import Number
from separatrix.stability.spectra import expect_transition
from separatrix.systems.system import expect_finite, orthonormalise


class Memory(NamedTuple):
    """Half-lives of the modes of one layer, in steps.

    It does not say what is remembered, nor whether the readout uses it: a slow mode that nothing writes to holds nothing.

    Paper    Oseledets 1968, Trans. Moscow Math. Soc. 19:197.
    """

    half_life: Tensor  # [modes] steps, infinite where a mode does not fade
    median: Number
    longest: Number
    how: str


class Reach(NamedTuple):
    """How strongly the output depends on inputs further and further back.

    It is a derivative: it does not say what large changes of an input do, and it belongs to the sequence it was measured on.

    Paper    Bengio, Simard & Frasconi 1994, IEEE Trans. Neural Netw. 5:157.
    """

    lags: Tensor  # [T] steps, 0, 1, ...
    influence: Tensor  # [T], g of (2), root mean square over batch and probes
    half_life: Number  # steps
    faded: Number  # steps after which g stays below one percent of its maximum


def memory_horizon(transition: Transition, *, every: int = 4) -> Memory:
    """Half-lives log 2 / -r_i of a layer, r_i = lim log σ_i(A_t ... A_1) / t, from its transitions along data, [B, T, ...].

    every   steps between two QRs, for transitions that are not diagonal. Their rates are those of the product of T steps, which begins
            in no mode of its own: they are off by some 1/T, so half-lives near T or above say no more than that.

    Paper    Oseledets 1968, Trans. Moscow Math. Soc. 19:197.
    Raises   ValueError for a transition without steps or with NaN, and steps fewer than `every` where QRs are made; TypeError unless
             it is a Transition.
    """
    expect_transition(transition)
    expect_count("every", every)
    with torch.no_grad():
        rates, how = _rates(transition, every)
    if rates.numel() == 0:
        raise ValueError("the transition has no steps. Pass one made from a sequence of at least one sample.")
    if bool(torch.isnan(rates).any()):
        raise ValueError("the transition holds NaN values: the layer has no memory to measure.")
    half_life = torch.where(rates < 0, math.log(2) / -rates.clamp(max=-torch.finfo(torch.float64).tiny), torch.inf)
    # one by one: between two infinite ones torch would interpolate to NaN
    median = sum(float(half_life.quantile(0.5, interpolation=end)) for end in ("lower", "higher")) / 2
    longest = float(half_life.max())
    return Memory(half_life, Number(median, "measured", unit="steps", how=how), Number(longest, "measured", unit="steps", how=how), how)


def gradient_reach(response: Callable[[Tensor], Tensor], x: Tensor, *, probes: int = 8, generator: torch.Generator | None = None) -> Reach:
    """g(τ) = |∂y_t / ∂x_{t-τ}| for any layer or model: how far back does its last output look?

    response   x [B, T, D] -> y [B, T, ...], causal and differentiable, e.g. `lambda x: layer(x)[0]`.
    x          the data it is measured on.
    probes     random directions of the last output; more make g smoother.
    generator  of the probes; a fixed seed when None.

    Paper    Bengio, Simard & Frasconi 1994, IEEE Trans. Neural Netw. 5:157.
    Raises   ValueError unless x is [B, T >= 2, D] and finite, the gradient too, and some input is heard; TypeError unless x and what
             response returns are real tensors.
    """
    expect_finite("x", x, "Measure on a stretch without gaps.")
    if x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(f"x is {tuple(x.shape)}, expected [batch, time, channels] with at least two times.")
    expect_count("probes", probes)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    x = x.detach().requires_grad_(True)
    y = response(x)
    expect_tensor("what response returned", y)
    if y.shape[:2] != x.shape[:2]:
        raise ValueError(f"response returned {tuple(y.shape)}, expected [batch, time, ...] = [{x.shape[0]}, {x.shape[1]}, ...].")
    if not y.requires_grad:
        raise ValueError("response returned no gradient: it is detached, or made under no_grad. Return what autograd can follow.")
    last = y[:, -1]
    square = torch.zeros(x.shape[1], dtype=torch.float64)
    for probe in range(probes):
        w = torch.randn(last.shape, generator=generator, dtype=torch.float64).to(last)
        (gradient,) = torch.autograd.grad(last, x, w, retain_graph=probe < probes - 1, allow_unused=True)
        if gradient is None:
            break
        square += gradient.detach().double().square().sum(-1).mean(0).cpu() / probes
    influence = square.sqrt().flip(0)
    if not bool(torch.isfinite(influence).all()):
        raise ValueError("the gradient of the last output is not finite: the layer diverges on this sequence.")
    if float(influence.max()) == 0:
        raise ValueError("the last output does not depend on any input.")
    how = f"gradient of the last output over {x.shape[1]:,} steps, {x.shape[0]} sequence{'s' * (len(x) > 1)}, {probes} probes"
    half, faded = (_stays_below(influence, share, how) for share in (0.5, 0.01))
    return Reach(torch.arange(x.shape[1]), influence, half, faded)


def _stays_below(influence: Tensor, share: float, how: str) -> Number:
    above = (influence >= share * influence.max()).nonzero()[:, 0]
    lag = int(above[-1]) + 1
    if lag == len(influence):  # it never faded within the sequence
        return Number(lag, "measured", low=lag, unit="steps", how=how)
    return Number(lag, "measured", unit="steps", how=how)


def _rates(transition: Transition, every: int) -> tuple[Tensor, str]:
    """Mean log growth per step of each mode, flattened, and how it was found."""
    times = max(part.shape[1] for part in vars(transition).values() if isinstance(part, Tensor))
    if times == 0:
        return torch.empty(0), ""
    if isinstance(transition, Diagonal | Scalar) or times == 1:
        logs = transition.spectrum().abs().double().log().cpu()  # a mode that is cleared once is gone: -inf stays -inf
        how = "eigenvalues of a transition that is the same at all steps" if times == 1 else f"time average of log|λ| over {times:,} steps"
        return logs.mean(1).flatten(), how
    steps = times // every * every
    if steps == 0:
        raise ValueError(f"the transition has {times} steps, expected at least every = {every}.")
    first = transition.at(0).dense()
    frame = torch.eye(transition.size, dtype=first.dtype, device=first.device).expand(first.shape)
    total = torch.zeros(first.shape[:-1], dtype=torch.float64)
    for t in range(steps):
        frame = transition.at(t).apply_to_columns(frame)
        if (t + 1) % every == 0:
            rows, growth = orthonormalise(frame.mT)
            frame, total = rows.mT, total + growth.cpu()
    return (total / steps).flatten(), f"Lyapunov exponents of the product of {steps:,} transitions along the data"
