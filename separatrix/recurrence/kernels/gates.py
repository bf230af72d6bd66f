"""The functions that gate a scan, on float32 lanes.

    sigmoid(x)  = 1 / (1 + e) for x >= 0, e / (1 + e) below           e = exp(-|x|)                                 (1)
    softplus(x) = max(x, 0) + log(1 + e)                              its derivative is the sigmoid                 (2)
    tanh(x)     = sign(x) (1 - e²) / (1 + e²), below 0.35 its series                                              (3)

e is at most 1, so nothing overflows, and all keep their relative precision (about 3e-7) where they vanish.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import LOG2E, exp2_of
from separatrix.recurrence.kernels.lanes import ZERO, magnitude, splat, where_negative

# log(1 + e) / e on [0, 1], exact at 0: minimax by linear programming, relative error 3.3e-8 before rounding.
LOG1P = (5.36467135e-3, -3.00652087e-2, 7.92036429e-2, -1.37537315e-1, 1.91536248e-1, -2.48571575e-1, 3.3321321e-1, -4.99996483e-1, 1.0)


@compiled
def sigmoid(x):
    one = splat(x, 1.0)
    e = exp2_of(magnitude(x), splat(x, -LOG2E))
    return where_negative(x, e, one) / (e + one)


@compiled
def softplus(x):
    """(softplus, sigmoid)"""
    one, zero = splat(x, 1.0), splat(x, ZERO)
    e = exp2_of(magnitude(x), splat(x, -LOG2E))
    p = splat(x, LOG1P[0])
    for c in LOG1P[1:]:
        p = p * e + c
    return where_negative(x, zero, x) + p * e, where_negative(x, e, one) / (e + one)


# tanh(x) / x - 1 over x², in powers of x²: the Taylor series, cut where |x| < 0.35 leaves a relative error of 1e-8.
TANH = (-8.8632355e-3, 2.1869488e-2, -5.3968254e-2, 1.3333333e-1, -3.3333333e-1)
SMALL = np.float32(0.35)


@compiled
def tanh(x):
    one, size, square = splat(x, 1.0), magnitude(x), x * x
    p = splat(x, TANH[0])
    for c in TANH[1:]:
        p = p * square + c
    e = exp2_of(size, splat(x, -2 * LOG2E))
    far = (one - e) / (one + e)
    return where_negative(size - SMALL, x + x * square * p, where_negative(x, splat(x, ZERO) - far, far))
