"""The norm around a recurrence and the gate that follows it, forward and backward.

    n_c = r w_c x_c,   r = (mean_c x_c² + eps)^(-1/2)              y_c = n_c, or n_c z_c p with p = sigmoid(z_c)     (1)
    g = dy, or dy z p;   dz = dy n (p + z p (1 - p))
    dx = r (w g - r² x mean_c(w g x)),   dw = sum over rows of r x g                                                 (2)

Means are over groups of `size` channels. A row is read twice, the second time from the cache; r is worked out again in the backward, which
costs less than to keep it.

Arrays   flat float32.  x, z, y, dy, dx, dz [rows, groups, size], z and dz empty without a gate; weight [groups, size];
         dweight [units, groups, size], partial sums that are zero when the kernel begins.
Units    `block` rows.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.gates import sigmoid
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load_first, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import LANES

ONE = np.float32(1)


@compiled
def _scale(x, at, size, eps):
    """r of the group x[at : at + size]."""
    zero = fill(LANES, ZERO)
    squares = zero
    for d in range(0, size, LANES):
        value = load_first(zero, x, at + d, size - d)
        squares = squares + value * value
    mean = total(squares) / size
    if mean == np.inf:  # squares of numbers beyond 1e19, or of an infinity
        mean = 0.0
        for d in range(size):
            mean += np.float64(x[at + d]) ** 2 / size
    return np.float32(1 / sqrt(mean + eps))


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, block, x, weight, z, eps, y):
    """Equation (1).   shape (rows, groups, size)"""
    rows, groups, size = shape
    gated, zero = z.size > 0, fill(LANES, ZERO)
    for row in range(first * block, min(rows, last * block)):
        for group in range(groups):
            at = (row * groups + group) * size
            scale = _scale(x, at, size, eps)
            for d in range(0, size, LANES):
                n = size - d
                value = load_first(zero, x, at + d, n) * load_first(zero, weight, group * size + d, n) * scale
                if gated:
                    gate = load_first(zero, z, at + d, n)
                    value = value * gate * sigmoid(gate)
                store_first(y, at + d, value, n)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, block, x, weight, z, eps, dy, dx, dz, dweight):
    """Equations (2).   shape (rows, groups, size)"""
    rows, groups, size = shape
    gated, zero, one = z.size > 0, fill(LANES, ZERO), fill(LANES, ONE)
    for unit in range(first, last):
        for row in range(unit * block, min(rows, unit * block + block)):
            for group in range(groups):
                at, own = (row * groups + group) * size, (unit * groups + group) * size
                scale = _scale(x, at, size, eps)
                along = zero
                for d in range(0, size, LANES):
                    n = size - d
                    normed, w = load_first(zero, x, at + d, n) * scale, load_first(zero, weight, group * size + d, n)
                    grad = load_first(zero, dy, at + d, n)
                    if gated:
                        gate = load_first(zero, z, at + d, n)
                        p = sigmoid(gate)
                        store_first(dz, at + d, grad * normed * w * (p + gate * p * (one - p)), n)
                        grad = grad * gate * p
                    store_first(dx, at + d, grad, n)  # until the mean is known
                    store_first(dweight, own + d, load_first(zero, dweight, own + d, n) + grad * normed, n)
                    along = along + w * grad * normed
                back = scale * total(along) / np.float32(size)
                for d in range(0, size, LANES):
                    n = size - d
                    value, w = load_first(zero, x, at + d, n), load_first(zero, weight, group * size + d, n)
                    store_first(dx, at + d, (w * load_first(zero, dx, at + d, n) - value * back) * scale, n)
