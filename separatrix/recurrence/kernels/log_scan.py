"""A diagonal scan on logarithms.

    log h_t = log(exp(log a_t + log h_{t-1}) + exp(log x_t)) = high + log(1 + e),   e = exp(low - high)             (1)

The gradient of a log-sum-exp is shared among its terms: p = exp(log a_t + log h_{t-1} - log h_t) goes to the state and to a, the rest to x,

    g_t = dy_t + da_{t+1},   da_t = p_t g_t,   dx_t = (1 - p_t) g_t,   d log h_0 = da_1                             (2)

and both shares are made of e, so neither is a difference. Of two zeros, logs of -inf, each gets half.

Arrays   as in `diagonal`, flat, float32: a, x, h, dy, da, dx [B,T,D];  start, final, dfinal, dstart [B,D];  reset [B,T] uint8.
Units    (batch, block of `block` channels).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import LOG2E, exp2_of
from separatrix.recurrence.kernels.gates import LOG1P
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import count, load_first, magnitude, rest, splat, store_first, where_negative
from separatrix.recurrence.kernels.parallel import shared

# Stands for infinity where two of them meet in a difference.
FAR = np.float32(1e38)


@compiled
def gap(x, y):
    """x - y, of two infinities 0."""
    far = splat(x, -FAR)
    return where_negative(x + FAR, far, x) - where_negative(y + FAR, far, y)


@compiled
def log_add(x, y):
    """log(exp x + exp y)"""
    d = gap(x, y)
    e = exp2_of(magnitude(d), splat(x, -LOG2E))
    p = splat(x, LOG1P[0])
    for c in LOG1P[1:]:
        p = p * e + c
    return where_negative(d, y, x) + p * e


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, block, a, x, reset, start, h, final):
    """(1).   shape (T, D)"""
    T, D = shape
    blocks, zero = (D + block - 1) // block, rest(x)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, D)
        before, at = start, b * D
        for t in range(T):
            row = b * T + t
            for d in range(left, right, count(zero)):
                n, i = right - d, row * D + d
                state = load_first(zero, x, i, n)
                if not reset[row]:
                    state = log_add(load_first(zero, a, i, n) + load_first(zero, before, at + d, n), state)
                store_first(h, i, state, n)
            before, at = h, row * D
        for d in range(left, right, count(zero)):
            store_first(final, b * D + d, load_first(zero, before, at + d, right - d), right - d)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, block, a, x, reset, start, h, dy, dfinal, da, dx, dstart):
    """(2); T is at least 1."""
    T, D = shape
    blocks, zero = (D + block - 1) // block, rest(x)
    one, lanes = splat(zero, 1.0), count(zero)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, D)
        end = left + (right - left - 1) // lanes * lanes
        for t in range(T - 1, -1, -1):
            row = b * T + t
            for d in range(end, left - 1, -lanes):  # memory from back to front, as the diagonal backward does
                n, i = right - d, row * D + d
                g, later = load_first(zero, dy, i, n), load_first(zero, dfinal, b * D + d, n)
                g = g + (later if t == T - 1 else load_first(zero, da, i + D, n))
                if reset[row]:
                    store_first(da, i, zero, n)
                    store_first(dx, i, g, n)
                    continue
                before = load_first(zero, start, b * D + d, n) if t == 0 else load_first(zero, h, i - D, n)
                apart = gap(load_first(zero, a, i, n) + before, load_first(zero, x, i, n))
                e = exp2_of(magnitude(apart), splat(zero, -LOG2E))
                share = g / (one + e)
                store_first(da, i, where_negative(apart, e, one) * share, n)
                store_first(dx, i, where_negative(apart, one, e) * share, n)
        for d in range(left, right, lanes):
            store_first(dstart, b * D + d, load_first(zero, da, b * T * D + d, right - d), right - d)
