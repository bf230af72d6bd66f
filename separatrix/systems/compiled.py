"""Small systems compiled: a rule written once, run in Numba, with its exact tangent by a complex step.

    DΦ(s) v = Im Φ(s + i h v) / h,      h = 1e-30                                                              (1)

For a rule made of arithmetic (sums, products, quotients, integer powers), the products of imaginary parts in (1) are of size
h² = 1e-60 and vanish against the real part, and nothing is subtracted: (1) is the derivative to the last digit, not an
approximation. So the right-hand side is the only thing anyone writes; its Runge-Kutta step and the tangent of that step follow.

Paper    Squire & Trapp 1998, Using complex variables to estimate derivatives of real functions, SIAM Review 40(1):110-112;
         Benettin et al. 1980, Meccanica 15:9-20 (orthonormalise as you go).
Departs  Gram-Schmidt is run twice on every row ("twice is enough"), so that strongly contracted directions stay orthogonal.
Cost     O(k n) right-hand sides a step for k tangent vectors: about 0.2 µs a step for Lorenz and its three. The loops are
         compiled once and cached on disk; what belongs to one system (its step) is compiled in each process, some 0.3 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import literal_unroll, types
from numba.core.errors import NumbaError
from numba.np.unsafe.ndarray import to_fixed_tuple

from separatrix.recurrence.kernels.kept import njit

Rule = Callable[..., Sequence[Any]]  # rule(components of the state, *parameters) -> components, of the derivative or of the next state

H = 1e-30  # the complex step

_reals = types.Array(types.float64, 1, "C")
_rows = {scalar: types.Array(scalar, 2, "C") for scalar in (types.float64, types.complex128)}
# advance(rows, workspace, parameters, dt): every row one step further, in place. One signature for every system, so that the loops
# below are compiled once for all of them.
_advance = {scalar: types.void(rows, rows, _reals, types.float64) for scalar, rows in _rows.items()}

WORKSPACE = 5  # rows of scratch one Runge-Kutta step needs


@lru_cache(maxsize=256)
def compile_flow(rhs: Rule, dimension: int, n_parameters: int, tangent: bool) -> Any:
    """The classical fourth-order Runge-Kutta step of s' = rhs(s), for states with a tangent (complex) or without."""
    return _compile(_runge_kutta, rhs, dimension, n_parameters, tangent)


@lru_cache(maxsize=256)
def compile_map(rule: Rule, dimension: int, n_parameters: int, tangent: bool) -> Any:
    """One application of s -> rule(s), likewise."""
    return _compile(_application, rule, dimension, n_parameters, tangent)


def _compile(build: Callable, rule: Rule, dimension: int, n_parameters: int, tangent: bool) -> Any:
    inner = numba.njit(rule)

    @numba.njit
    def evaluate(state, parameters, out):
        result = inner(to_fixed_tuple(state, dimension), *to_fixed_tuple(parameters, n_parameters))
        i = 0
        for x in literal_unroll(result):  # they may differ in type: the rate of a clock is 1.0
            out[i] = x
            i += 1  # noqa: SIM113  (Numba unrolls no enumerate)

    try:
        return numba.cfunc(_advance[types.complex128 if tangent else types.float64])(build(evaluate, dimension))
    except NumbaError as reason:
        name = getattr(rule, "__name__", "rule")
        raise TypeError(
            f"{name} cannot be compiled: it must be plain arithmetic on the components of the state and return {dimension} components. "
            f"Pass compiled=False to run it in torch. Numba says: {_gist(reason)}"
        ) from reason


def _gist(reason: NumbaError) -> str:
    """What went wrong: Numba says it first, then where it was at the time."""
    told = [line.strip(" >") for line in str(reason).splitlines() if line.strip() and not line.startswith("Failed in")]
    return " ".join(told[: 2 if told[0].endswith(":") else 1])


def _runge_kutta(evaluate: Callable, dimension: int) -> Callable:
    n = dimension

    def advance(rows, k, parameters, dt):
        half, sixth = 0.5 * dt, dt / 6.0
        mid = k[4]
        for row in rows:
            evaluate(row, parameters, k[0])
            for i in range(n):
                mid[i] = row[i] + half * k[0, i]
            evaluate(mid, parameters, k[1])
            for i in range(n):
                mid[i] = row[i] + half * k[1, i]
            evaluate(mid, parameters, k[2])
            for i in range(n):
                mid[i] = row[i] + dt * k[2, i]
            evaluate(mid, parameters, k[3])
            for i in range(n):
                row[i] += sixth * (k[0, i] + 2.0 * (k[1, i] + k[2, i]) + k[3, i])

    return advance


def _application(evaluate: Callable, dimension: int) -> Callable:
    def advance(rows, k, parameters, dt):
        for row in rows:
            evaluate(row, parameters, k[0])
            for i in range(dimension):
                row[i] = k[0, i]

    return advance


@njit(cache=True, nogil=True)
def run_rows(advance, rows, parameters, dt, every, out):
    """Run every row of rows [B, n] for M * every steps and keep each `every`-th state in out [B, M, n]."""
    work = np.empty((WORKSPACE, rows.shape[1]))
    for b in range(rows.shape[0]):
        row = rows[b : b + 1]
        for m in range(out.shape[1]):
            for _ in range(every):
                advance(row, work, parameters, dt)
            out[b, m] = row[0]


@njit(cache=True, nogil=True)
def push_rows(advance, state, frame, parameters, dt, every, log_growth):
    """Carry frame [k, n] along state [n], in place, filling log_growth [M, k].

    Returns the interval (0-based) in which the state or a tangent stopped being finite, or -1.
    """
    k, n = frame.shape
    rows, work = np.empty((k, n), np.complex128), np.empty((WORKSPACE, n), np.complex128)
    for m in range(log_growth.shape[0]):
        for j in range(k):
            for i in range(n):
                rows[j, i] = complex(state[i], H * frame[j, i])
        for _ in range(every):
            advance(rows, work, parameters, dt)
        for i in range(n):
            state[i] = rows[0, i].real
            if not math.isfinite(state[i]):
                return m
        for j in range(k):
            for i in range(n):
                frame[j, i] = rows[j, i].imag / H
                if not math.isfinite(frame[j, i]):
                    return m
        for j in range(k):
            whole = math.sqrt(_dot(frame[j], frame[j]))
            _project(frame, j)
            own = math.sqrt(_dot(frame[j], frame[j]))
            if own > n * 2.3e-16 * whole:
                log_growth[m, j] = math.log(own)
            else:  # what is left of the row is rounding: say so, and go on with any direction orthogonal to the rows above
                log_growth[m, j] = -math.inf
                own = 0.0
                for axis in range(n):
                    if own < 0.5 / math.sqrt(n):
                        frame[j] = 0.0
                        frame[j, axis] = 1.0
                        _project(frame, j)
                        own = math.sqrt(_dot(frame[j], frame[j]))
            for i in range(n):
                frame[j, i] /= own
    return -1


@njit(cache=True, nogil=True)
def step_rows(advance, rows, work, parameters, dt):
    """One step of complex rows [k, n], in place."""
    advance(rows, work, parameters, dt)


@njit(cache=True, inline="always")
def _dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(cache=True)
def _project(frame, j):
    for _ in range(2):
        for l in range(j):
            part = _dot(frame[j], frame[l])
            for i in range(frame.shape[1]):
                frame[j, i] -= part * frame[l, i]
