"""Lyapunov spectrum: the rates at which small differences grow, in each direction of the state space.

    Q_{t+1} R_{t+1} = DΦ(s_t) Q_t           λ_i = lim 1/(T dt) Σ_t log |R_t|_ii                                 (1)

The average in (1) is taken with a window that fades in and out smoothly (infinitely often differentiable) over a quarter of the run
at each end. For a chaotic system this changes nothing but a few percent of the error. Where the growth is (quasi-)periodic, as for
a linear system with complex eigenvalues or for a cycle, a flat average converges like 1/T, this one faster than any power of 1/T.

Paper    Benettin et al. 1980, Meccanica 15:9-20; Shimada & Nagashima 1979, Prog. Theor. Phys. 61:1605 (the algorithm);
         Das, Saiki, Sander & Yorke 2017, Nonlinearity 30:4111, arXiv:1601.06051 (the window);
         Kaplan & Yorke 1979, Lect. Notes Math. 730:204 (the dimension).
Departs  the window has a flat top: less variance for chaotic systems at the same order of convergence.
Cost     a step, k tangents and a QR of [n, k] per step; compiled systems take 0.2 µs a step at n = k = 3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor

from separatrix.stability.number import Number, Verdict
from separatrix.systems.linear import LinearSystem
from separatrix.systems.system import System, expect_run, expect_system, push_tangents

TAPER = 0.25  # share of the run over which the window rises, and over which it falls


class Spectrum(NamedTuple):
    """Lyapunov exponents, natural log per unit of dt, with what is needed to believe them.

    It does not say what happens to large differences, nor to the orbit of another initial state: it belongs to the attractor on
    which this run settled. -inf is a direction that contracts faster than floating point can follow between two orthonormalisations.

    Paper    Benettin et al. 1980, Meccanica 15:9-20; Kaplan & Yorke 1979, Lect. Notes Math. 730:204 (the dimension).
    """

    exponents: Tensor  # [k], largest first; NaN when the verdict is DIVERGED
    error: Tensor  # [k], standard error over blocks of the run; 0 where the exponents are exact to 1e-12
    verdict: Verdict  # SETTLED; DRIFTING: it still moves, see `average_growth`; DIVERGED: the state left the finite numbers
    failed: int | None  # the step at which it diverged
    history: Tensor  # [M, k], the plain average up to each time: how it converged
    times: Tensor  # [M], in units of dt, since the end of the transient
    steps: int  # that the averages were taken over
    dimension: int  # n, of the state space; the spectrum is complete when k = n
    how: str

    @property
    def largest(self) -> Number:
        """The largest exponent: positive for chaos, zero for a cycle of a flow, negative for a fixed point."""
        return self.number(0)

    def number(self, i: int) -> Number:
        """Exponent i with its 95 percent interval, per unit of dt."""
        if self.verdict is Verdict.DIVERGED:
            raise ValueError(f"the system diverged at step {self.failed}: it has no exponents. Look at its free run first.")
        value, error = float(self.exponents[i]), float(self.error[i])
        if not error > 0:
            return Number(value, "measured", unit="per unit of time", how=self.how)
        half = float(student.ppf(0.975, BLOCKS - 1)) * error
        return Number(value, "estimated", value - half, value + half, "per unit of time", self.how)

    @property
    def volume_rate(self) -> float:
        """Σ λ_i of a complete spectrum: the mean divergence of the flow, the mean log|det DΦ| of a map."""
        if len(self.exponents) < self.dimension:
            raise ValueError(f"{len(self.exponents)} of {self.dimension} exponents were computed: the sum needs all of them (k=None).")
        return float(self.exponents.sum())

    @property
    def kaplan_yorke(self) -> Number:
        """j + (λ_1 + ... + λ_j) / |λ_{j+1}|, j the last index with a nonnegative sum: the dimension of the attractor, as conjectured.

        A sum that is negative by less than the interval of its last exponent counts as zero: a cycle has one dimension, on whichever
        side of zero its first exponent came out.
        """
        sums = self.exponents.cumsum(0)
        if self.verdict is Verdict.DIVERGED:
            raise ValueError(f"the system diverged at step {self.failed}: it has no attractor to have a dimension.")
        finite = self.exponents[self.exponents.isfinite()]
        rounding = 1e-9 * float(finite.abs().max()) if len(finite) else 0.0
        allowed = float(student.ppf(0.975, BLOCKS - 1)) * self.error.nan_to_num(nan=0.0) + rounding
        j = int((sums >= -allowed).int().cumprod(0).sum())
        if j == len(sums):
            if j < self.dimension:
                raise ValueError(f"the sum of the {j} computed exponents is not negative yet: ask for more of the {self.dimension} (k).")
            return Number(float(j), "measured", unit="dimensions", how="no direction contracts enough: the whole state space")
        above, next = (max(0.0, float(sums[j - 1])) if j else 0.0), abs(float(self.exponents[j]))
        value, how = j + above / next, "Kaplan-Yorke formula from the exponents"
        errors = float(student.ppf(0.975, BLOCKS - 1)) * self.error[: j + 1].nan_to_num(nan=0.0)
        half = math.hypot(float(errors[:j].norm()) / next, above * float(errors[j]) / next**2)
        if not 0 < half < math.inf:
            return Number(value, "measured", unit="dimensions", how=how)
        return Number(value, "estimated", max(0.0, value - half), value + half, "dimensions", f"{how} and their errors, as if independent")


BLOCKS = 20  # pieces of the run whose spread gives the standard error


def lyapunov_spectrum(
    system: System,
    state: Tensor | None = None,
    *,
    steps: int | None = None,
    k: int | None = None,
    transient: int | None = None,
    every: int = 1,
    inputs: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Spectrum:
    """The k largest Lyapunov exponents of a system, free-running or driven by a sequence of inputs.

    system     anything with the methods of `System`; a LinearSystem is not simulated, its exponents are known exactly.
    state      [n], where the run starts; `system.start` when None.
    steps      that are averaged over, after the transient; 100,000 when None, or what the inputs last for.
    k          exponents wanted, all n when None.
    transient  steps that let the state reach its attractor and the frame its directions; a tenth when None, or what
               the steps leave of the inputs.
    every      steps between two orthonormalisations; larger is faster, too large loses the contracting directions.
    inputs     [T, m] with T >= transient + steps.
    generator  of the random initial frame; a fixed seed when None.

    Paper    Benettin et al. 1980, Meccanica 15:9-20; Das, Saiki, Sander & Yorke 2017, arXiv:1601.06051 (the window).
    Raises   ValueError for k, state, steps or inputs that do not fit; TypeError for what is no System.
    """
    expect_system(system)
    n = system.dimension
    k = n if k is None else k
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}, expected between 1 and the dimension of the state, {n}.")
    if isinstance(system, LinearSystem):
        return exact_spectrum(system, k)
    start = _starting_state(system, state)
    steps, transient = _lengths(steps, transient, every, inputs)
    expect_run(system, start, transient + steps, every, inputs)
    frame = _random_frame(k, start, generator)
    settled = push_tangents(system, start, frame, transient, every=every, inputs=inputs)
    if settled.failed is not None:
        return _diverged(settled.failed, k, n)
    rest = None if inputs is None else inputs[transient:]
    pushed = push_tangents(system, settled.state, settled.frame, steps, every=every, inputs=rest)
    if pushed.failed is not None:
        return _diverged(transient + pushed.failed, k, n)
    how = f"tangent dynamics over {steps:,} steps after a transient of {transient:,}, QR every {every}, error from {BLOCKS} blocks"
    return average_growth(pushed.log_growth, every * system.dt, every, n, how)


def exact_spectrum(system: LinearSystem, k: int | None = None) -> Spectrum:
    """The Lyapunov exponents of a linear system: log|λ_i(A)| / dt, whatever the state and the inputs are.    k of them, all when None

    Raises   ValueError unless k is None or from 1 to the system's dimension; TypeError unless system is a LinearSystem.
    """
    if not isinstance(system, LinearSystem):
        raise TypeError(f"system is a {type(system).__name__}, expected a LinearSystem. Of any other take lyapunov_spectrum.")
    if k is not None and not 1 <= k <= system.dimension:
        raise ValueError(f"k is {k}, expected between 1 and the system's dimension {system.dimension}.")
    count = system.dimension if k is None else k
    modulus = system.eigenvalues().abs()
    exponents, error = (modulus.log() / system.dt)[:count], (system.eigenvalue_errors() / modulus / system.dt)[:count]
    error = torch.where((error > 1e-12) & (modulus[:count] > 0), error, 0.0)  # below it they are exact for every purpose
    return Spectrum(exponents, error / float(student.ppf(0.975, BLOCKS - 1)), Verdict.SETTLED, None, exponents[None],
                    torch.zeros(1, dtype=torch.float64), 0, system.dimension,
                    "logs of the eigenvalue moduli of A; an interval is what rounding in them may have done")  # fmt: skip


def average_growth(log_growth: Tensor, interval: float, every: int, dimension: int, how: str) -> Spectrum:
    """Exponents from the logs of |R_ii|.    log_growth [M, k], each over `every` steps that took `interval` -> Spectrum

    DRIFTING when the two halves of the run disagree, or when an exponent moves one way, by more than its error, over the last half.
    """
    if len(log_growth) < BLOCKS:
        raise ValueError(f"{len(log_growth)} orthonormalisations are too few for {BLOCKS} blocks. Run longer, or lower `every`.")
    rate = log_growth / interval
    weight = window(len(rate))
    weight = weight / weight.sum()
    mean = torch.einsum("m,mk->k", weight, rate)  # -inf anywhere stays -inf: that direction was lost to rounding
    pieces = torch.arange(len(rate)) * BLOCKS // len(rate)
    share = torch.zeros(BLOCKS, dtype=rate.dtype).index_add_(0, pieces, weight)
    size = torch.bincount(pieces, minlength=BLOCKS).to(rate.dtype)
    block_mean = torch.zeros(BLOCKS, rate.shape[1], dtype=rate.dtype).index_add_(0, pieces, rate) / size[:, None]
    spread = block_mean - block_mean.mean(0)
    error = ((share[:, None] * spread).square().sum(0) * BLOCKS / (BLOCKS - 1)).sqrt()
    first, last = _settled_means(rate)
    half = BLOCKS // 2
    allowed = 4 * (block_mean[:half].var(0) / half + block_mean[half:].var(0) / half).sqrt()
    finite = mean.isfinite()
    scale = mean[finite].abs().max() if bool(finite.any()) else torch.tensor(0.0)
    drifting = bool(((first - last).abs()[finite] > allowed[finite] + 1e-9 * (1.0 / interval + scale)).any())
    # Growth like a power of time (a Jordan block) ends like 1/t: all blocks of the last half in one order, by chance once in a million.
    # On a cycle they may be too, when its period goes into a block almost evenly: then the windowed halves agree.
    moves = block_mean[half:].diff(dim=0)
    one_way = ((moves > 0).all(0) | (moves < 0).all(0)) & ((first - last).abs() > 0.1 * moves.sum(0).abs())
    drifting |= bool((one_way & (moves.sum(0).abs() > error + 1e-9 * (1.0 / interval + scale))).any())
    order = mean.argsort(descending=True, stable=True)
    ends = torch.linspace(1, len(rate), min(500, len(rate))).long()
    return Spectrum(
        exponents=mean[order],
        error=error[order],
        verdict=Verdict.DRIFTING if drifting else Verdict.SETTLED,
        failed=None,
        history=(rate.cumsum(0)[ends - 1] / ends[:, None])[:, order],
        times=ends * interval,
        steps=len(rate) * every,
        dimension=dimension,
        how=how,
    )


def _settled_means(rate: Tensor) -> tuple[Tensor, Tensor]:
    """The windowed mean of either half of the run: what an oscillation of the growth cannot tell apart, but a drift can."""
    middle = len(rate) // 2
    halves = (rate[:middle], rate[middle:])
    first, last = ((window(len(part)) @ part) / window(len(part)).sum() for part in halves)
    return first, last


def window(length: int) -> Tensor:
    """Smooth weights that rise from 0 over the first quarter and fall over the last.    -> [length] float64, all positive"""
    x = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    u = (torch.minimum(x, 1 - x) / TAPER).clamp(max=1.0)
    inside = u < 1
    v = torch.where(inside, u, torch.full_like(u, 0.5))
    # Never 0: in a long run the first weights would underflow, and 0 times a growth of -inf is NaN.
    return torch.where(inside, torch.sigmoid(1 / (1 - v) - 1 / v), torch.ones_like(u)).clamp(min=1e-300)


def _starting_state(system: System, state: Tensor | None) -> Tensor:
    if state is None:
        state = getattr(system, "start", None)
        if state is None:
            raise ValueError("state is None and this system names no state to start from. Pass state=[n].")
    if state.ndim != 1:
        raise ValueError(f"state is {tuple(state.shape)}, expected one state [n].")
    return state.detach()


def _lengths(steps: int | None, transient: int | None, every: int, inputs: Tensor | None) -> tuple[int, int]:
    if inputs is None:
        steps = 100_000 if steps is None else steps
        transient = steps // 10 if transient is None else transient
    elif steps is None:
        transient = len(inputs) // 10 if transient is None else transient
        steps = len(inputs) - transient
    elif transient is None:
        transient = len(inputs) - steps
    if every < 1 or transient < 0 or steps < BLOCKS * every:
        raise ValueError(
            f"steps is {steps}, transient {transient}, every {every}: expected transient >= 0 and at least {BLOCKS} * every steps."
        )
    return steps // every * every, transient // every * every


def _random_frame(k: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    frame = torch.randn(k, like.shape[-1], dtype=torch.float64, generator=generator)
    return torch.linalg.qr(frame.mT)[0].mT.contiguous().to(like)


def _diverged(step: int, k: int, n: int) -> Spectrum:
    none = torch.full((k,), torch.nan, dtype=torch.float64)
    return Spectrum(none, none, Verdict.DIVERGED, step, none.new_empty(0, k), none.new_empty(0), 0, n, f"diverged at step {step}")
