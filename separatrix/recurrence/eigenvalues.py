"""The eigenvalues of HiPPO matrices, also where an eigenvalue routine returns noise.

    legs   -(n+1) / timescale                                 triangular
    lagt   -(1+β) / (2 timescale), N times                    triangular
    legt   z / window,   sum_{j≠i} 2/(z_i - z_j) = 1 + (2N-1)/z_i                                                  (1)
    fout   taken from the matrix, whose eigenvectors are in good condition

LegT read at the end of its window is the [N-1/N] Padé approximation of e^-z, so its eigenvalues are the zeros of the denominator, a
confluent hypergeometric polynomial w with z w'' = (z + 2N-1) w' - N w. At a zero w''/w' = 1 + (2N-1)/z, which is (1): charges at rest, one
well conditioned equation a zero. The matrix is so far from normal that rounding its entries to float64 moves the eigenvalues by 4e-9 at
N = 16 and by 57 at N = 64: even an exact method cannot find them from it.

Paper    Voelker et al. 2019, "Legendre Memory Units" (Padé); Stieltjes 1885 (zeros as charges).
Cost     O(N⁴): (1) by Newton's method for 1, 2, ..., N charges, each from the one before; 0.1 s at N = 64.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.basis import options_of
from separatrix.recurrence.hippo import Measure, fout, lagt, legs


def hippo_eigenvalues(measure: Callable[..., Measure], n: int) -> Tensor:
    """Those of the full A [N, N], by imaginary part and then by real part.   `measure` as in `basis`   -> [N] complex128"""
    kind, options = options_of(measure)
    if kind is legs:
        values = -np.arange(n, 0, -1) / options.get("timescale", 1.0)
    elif kind is lagt:
        values = np.full(n, -(1 + options.get("beta", 0.0)) / 2 / options.get("timescale", 1.0))
    elif kind is fout:
        values = torch.linalg.eigvals(measure(n).A).numpy()
    else:
        values = _charges(n) / options.get("window", 2.0)
    values = values.astype(np.complex128)
    return torch.from_numpy(values[np.lexsort((values.real, values.imag))])


@lru_cache(maxsize=16)
def _charges(n: int) -> np.ndarray:
    """The solution of (1), by imaginary part."""
    z = np.array([-1.0 + 0j])
    while len(z) < n:
        z = _at_rest(_one_more(z))
    return z


def _one_more(z: np.ndarray) -> np.ndarray:
    """A first guess for one charge more, which stand on almost the same curve, a little larger: interpolated along it."""
    if len(z) == 1:
        return np.array([-2 - 1.4j, -2 + 1.4j])
    count = len(z) + 1
    have, want = (np.arange(len(z)) + 0.5) / len(z), (np.arange(count) + 0.5) / count
    curve = np.interp(want, have, z.real) + 1j * np.interp(want, have, z.imag)
    curve[0], curve[-1] = (z[0] + (want[0] - have[0]) * (z[1] - z[0]) * len(z), z[-1] + (want[-1] - have[-1]) * (z[-1] - z[-2]) * len(z))
    return curve * (count / len(z))


def _at_rest(z: np.ndarray) -> np.ndarray:
    n = len(z)
    field, own = 2 * n - 1, np.arange(n)
    for _ in range(50):
        push = 1 / (z[:, None] - z[None, :] + np.eye(n))
        push[own, own] = 0
        force = 2 * push.sum(1) - 1 - field / z
        stiffness = 2 * push**2
        stiffness[own, own] = field / z**2 - stiffness.sum(1)
        step = np.linalg.solve(stiffness, force)
        z = z - step
        if np.abs(step).max() < 1e-13 * np.abs(z).max():
            z = z[np.argsort(z.imag)]
            return (z + z[::-1].conj()) / 2  # the conjugate of a solution is one
    raise ArithmeticError(f"{n} charges did not come to rest in 50 steps")
