"""Input-output gain: how much louder than its input can an output be?

    ‖G‖∞ = max_ω σ_max(C (e^{iω} I - A)^-1 B + D) = sup ‖y‖₂ / ‖u‖₂ from rest                                    (1)

    γ > ‖G‖∞  if and only if there is P ≥ 0 with
        [A, B; C, D]ᵀ [P, 0; 0, I] [A, B; C, D] - [P, 0; 0, γ² I] < 0                                             (2)

The maximum in (1) is climbed from below: a level γ is crossed at the frequencies where a symplectic pencil has eigenvalues on the unit
circle, the middles of the crossed bands give a higher level, until none is crossed. The upper end is then certified: P from a
Riccati equation is put into (2), and the inequality is checked as a matrix with room for rounding.

For a nonlinear system there is a witness instead: an input, and a small change of it whose effect was measured. It bounds the
incremental gain from below and says nothing from above.

Paper    Bruinsma & Steinbuch 1990, Syst. Control Lett. 14:287-293;
         Boyd, Balakrishnan & Kabamba 1989, Math. Control Signals Syst. 2:207-219.
Departs  the crossings are found in discrete time, without the bilinear map, which fails for eigenvalues of A near -1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_count
from separatrix.stability.number import Number, Verdict
from separatrix.systems.linear import LinearSystem
from separatrix.systems.system import System

CIRCLE = 1e-5  # how near to it an eigenvalue of the pencil counts as on it: where bands meet, rounding moves pairs by the root of epsilon


class Gain(NamedTuple):
    """The H-infinity norm of a linear system.

    It does not say anything about peaks (the largest |y_t|), nor about inputs of infinite energy, nor about a start that is not at rest.

    Paper    Bruinsma & Steinbuch 1990, Syst. Control Lett. 14:287-293; Boyd, Balakrishnan & Kabamba 1989.
    """

    norm: Number  # certified when P was found and checked, infinite when A is not stable
    frequency: float  # where the maximum is, radians per unit of dt
    verdict: Verdict  # SETTLED, or DIVERGED: A has an eigenvalue on or outside the unit circle
    P: Tensor | None  # [n, n], the witness of (2) at γ = norm.high
    frequencies: Tensor  # [F] radians per unit of dt, for drawing
    response: Tensor  # [F] σ_max at each


class MeasuredGain(NamedTuple):
    """A lower estimate of the incremental gain of any map, with its witness. It does not say that there is nothing larger."""

    gain: Number
    change: Tensor  # [T, m], the change of the input that was amplified most
    history: Tensor  # gain after each round


def h_infinity(system: LinearSystem, *, tolerance: float = 1e-10) -> Gain:
    """‖G‖∞ = max_ω σ_max(C (e^{iω} I - A)^-1 B + D), with a P that certifies its upper end by the bounded real inequality.

    tolerance   relative distance of the two ends between which the norm is caught, before the certificate is looked for.

    Paper    Bruinsma & Steinbuch 1990, Syst. Control Lett. 14:287-293; Boyd, Balakrishnan & Kabamba 1989.
    Raises   ValueError for a system without inputs or without outputs, and tolerance < 0; TypeError unless it is a LinearSystem.
    """
    if not isinstance(system, LinearSystem):
        raise TypeError(f"system is a {type(system).__name__}, expected a LinearSystem. Of any other, measured_gain climbs a gain.")
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance is {tolerance}, expected a relative distance of 0 or more.")
    A, B, C, D = (np.asarray(M.detach().cpu().double()) for M in (system.A, system.B, system.C, system.D))  # type: ignore[union-attr]
    n = len(A)
    frequencies = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-4, 0, 400, dtype=torch.float64) * torch.pi])
    eigenvalues = np.linalg.eigvals(A)
    if B.shape[1] == 0 or C.shape[0] == 0:
        raise ValueError(f"the system has {B.shape[1]} inputs and {C.shape[0]} outputs: a gain needs at least one of each.")
    if np.abs(eigenvalues).max() >= 1:
        radius = float(np.abs(eigenvalues).max())
        how = f"a computed eigenvalue of A has the modulus {radius:.6g}: its states are not shown to stay bounded, whatever C shows of them"
        norm = Number(np.inf, "measured", how=how)
        return Gain(norm, float(abs(np.angle(eigenvalues[np.abs(eigenvalues).argmax()]))) / system.dt, Verdict.DIVERGED, None,
                    frequencies / system.dt, torch.full_like(frequencies, torch.inf))  # fmt: skip

    def sigma(omega: float | np.ndarray) -> np.ndarray:
        z = np.exp(1j * np.atleast_1d(omega))[:, None, None]
        return np.linalg.svd(C @ np.linalg.solve(z * np.eye(n) - A, np.broadcast_to(B, (len(z), *B.shape))) + D, compute_uv=False)[:, 0]

    response = sigma(frequencies.numpy())
    angles = np.unique(np.concatenate([[0.0, np.pi], np.abs(np.angle(eigenvalues)), frequencies.numpy()[response.argsort()[-3:]]]))
    levels = sigma(angles)
    low, where = float(levels.max()), float(angles[levels.argmax()])
    b, c = _units(A, B, low)
    high = low * (1 + 2 * tolerance)
    for _ in range(60):
        if low == 0.0:
            break
        high = low * (1 + 2 * tolerance)
        crossed = _crossings(A, b * B, c * C, b * c * D, b * c * high)
        if len(crossed) == 0:
            break
        middles = np.concatenate([crossed, (crossed[1:] + crossed[:-1]) / 2, [crossed[0] / 2, (crossed[-1] + np.pi) / 2]])
        levels = sigma(middles)
        if levels.max() <= low:  # rounding moved eigenvalues onto the circle: the level is already at the maximum
            break
        low, where = float(levels.max()), float(middles[levels.argmax()])
    # What a solve with z I - A may be off by, relative to its result, is not shown to be reached.
    off = 8 * n * np.finfo(float).eps * float(np.linalg.cond(np.exp(1j * where) * np.eye(n) - A)) if n else 0.0
    norm, P = _certify(A, b * B, c * C, b * c * D, b * c * low, b * c * high, off)
    norm = norm.scaled(1 / (b * c), "")
    P = None if P is None else P / c**2
    return Gain(norm, where / system.dt, Verdict.SETTLED, P, frequencies / system.dt, torch.from_numpy(response))


def measured_gain(
    response: Callable[[Tensor], Tensor],
    u: Tensor,
    *,
    size: float = 1e-4,
    rounds: int = 20,
    generator: torch.Generator | None = None,
) -> MeasuredGain:
    """max over changes d of ‖f(u + d) - f(u)‖ / ‖d‖ with ‖d‖ = size ‖u‖, climbed from a random d along data u.

    response   u [T, m] -> y [T, p], differentiable; for a System see `response_of`.
    u          the input to stay near.
    size       of the change relative to u (to 1 when u is zero).
    rounds     each one response and one gradient: power iteration on the derivative.
    generator  of the first change; a fixed seed when None.

    Raises   ValueError for a u or a response that is not finite, rounds < 1, and a change that rounding swallows.
    """
    expect_count("rounds", rounds)
    if not bool(torch.isfinite(u).all()):
        raise ValueError("u holds NaN or infinite values.")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    radius = size * (float(u.norm()) or 1.0)
    change = torch.randn(u.shape, generator=generator, dtype=torch.float64).to(u)
    best, least, best_change, history = -1.0, 0.0, change, []
    with torch.no_grad():
        rest = response(u)
    for _ in range(rounds):
        moved = (u + change * (radius / change.norm())).detach().requires_grad_(True)
        change = moved.detach() - u  # as it was rounded: that is what the response sees
        if float(change.norm()) == 0.0:
            raise ValueError(f"size is {size:g}: no such change of u is left in {u.dtype}. Pass a larger one.")
        y = response(moved)
        effect = (y - rest).detach()
        gain = float(effect.norm() / change.norm())
        if not np.isfinite(gain):
            raise ValueError("the response is not finite near u: the system diverges. Shorten the sequence, or look at its free run.")
        history.append(gain)
        # what both responses were rounded by, in what they differ by
        rounding = 2 * torch.finfo(y.dtype).eps * float(rest.norm()) / float(change.norm())
        least = max(least, gain - rounding)
        if gain > best:
            best, best_change = gain, change
        if gain == 0.0:
            break
        (change,) = torch.autograd.grad(y, moved, effect / effect.norm())
        if float(change.norm()) == 0.0:
            break
    how = f"largest amplification found of a change of relative size {size:g}, {len(history)} rounds: the gain is at least this"
    return MeasuredGain(Number(best, "measured", low=least, how=how), best_change.detach(), torch.tensor(history, dtype=torch.float64))


def response_of(system: System, state: Tensor) -> Callable[[Tensor], Tensor]:
    """A driven system as a map of sequences: u [T, m] -> what is seen after each step [T, p], from `state`."""

    def response(u: Tensor) -> Tensor:
        s, seen = state, []
        for t in range(len(u)):
            s = system.step(s, u[t])
            seen.append(system.observe(s))
        return torch.stack(seen)

    return response


def _crossings(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, gamma: float) -> np.ndarray:
    """Frequencies in [0, π] at which a singular value of (1) equals gamma: eigenvalues on the circle of the pencil of γ² I - G*G."""
    n = len(A)
    R = gamma**2 * np.eye(B.shape[1]) - D.T @ D
    S = np.linalg.solve(R, D.T @ C)  # with u = S x + R^-1 Bᵀ λ removed, state and costate remain
    F = A + B @ S
    M = np.block([[F, np.zeros((n, n))], [-(C.T @ C + C.T @ D @ S), np.eye(n)]])
    N = np.block([[np.eye(n), -B @ np.linalg.solve(R, B.T)], [np.zeros((n, n)), F.T]])
    values = scipy.linalg.eigvals(M, N)
    values = values[np.isfinite(values)]
    on_circle = values[np.abs(np.abs(values) - 1) < CIRCLE]
    return np.unique(np.abs(np.angle(on_circle)))


def _units(A: np.ndarray, B: np.ndarray, gain: float) -> tuple[float, float]:
    """Factors for B and C with which inputs reach states, and states outputs, about one to one. Powers of two: nothing is rounded."""
    n, m = B.shape
    z = np.exp(1j * np.unique(np.r_[0.0, np.pi, np.abs(np.angle(np.linalg.eigvals(A)))]))[:, None, None]
    reached = float(np.linalg.svd(np.linalg.solve(z * np.eye(n) - A, np.broadcast_to(B, (len(z), n, m))), compute_uv=False).max())
    b, c = (2.0 ** -round(np.log2(size)) if size > 0 else 1.0 for size in (reached, gain / (reached or 1.0)))
    return b, c


def _certify(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, low: float, high: float, off: float
) -> tuple[Number, Tensor | None]:
    """The number, with the smallest upper end within a thousandth for which (2) could be checked; off: relative error of `low`."""
    m, least = B.shape[1], max(0.0, low * (1 - off))
    for slack in (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3):
        gamma = max(high, low * (1 + slack)) or slack
        # A little more cost than CᵀC makes the inequality strict, and raises the norm by less than the room there is.
        strict = 0.05 * (gamma**2 - low**2)
        try:
            cost = C.T @ C + strict * np.eye(len(A))
            P = scipy.linalg.solve_discrete_are(A, B, cost, D.T @ D - gamma**2 * np.eye(m), s=C.T @ D)
        except (np.linalg.LinAlgError, ValueError):
            continue
        P = (P + P.T) / 2
        G = np.block([[A, B], [C, D]])
        weight = scipy.linalg.block_diag(P, np.eye(len(C)))
        inequality = G.T @ weight @ G - scipy.linalg.block_diag(P, gamma**2 * np.eye(m))
        rounding = 16 * len(G) * np.finfo(float).eps * (np.linalg.norm(G) ** 2 * np.linalg.norm(weight) + gamma**2)
        if np.linalg.eigvalsh(inequality).max() < -rounding and np.linalg.eigvalsh(P).min() > -rounding:
            how = "attained at the named frequency from below, from above by a solution P of the bounded-real inequality that was checked"
            return Number(low, "certified", least, gamma, how=how), torch.from_numpy(P)
    how = "attained at the named frequency, up to the rounding of the solve; no certificate from above was found"
    return Number(low, "bound", low=least, how=how), None
