"""A short causal convolution, one filter a channel, with the silu that follows it in every Mamba.

    o_t = b + sum_j w_j u_{t-j},   j = 0 .. R_t - 1                 y_t = o_t, or o_t sigmoid(o_t)                    (1)
    du_s = sum_j [j < R_{s+j}] w_j do_{s+j},   dw_j = sum_t do_t u_{t-j},   do = dy (p + o p (1 - p)),  p = sigmoid(o)  (2)

R_t, the reach, is K, or fewer where a reset lies between. The state is the inputs of the steps before the first, u_{-1} the last of them,
so a stretch of time depends on the K - 1 inputs before it alone: stretches are what threads share. A row of all channels is read as it
lies in memory, and the K rows that a step needs are still in the cache.

Arrays   flat float32.  u, y, dy, du [B,T,C];  taps [K,C], the oldest first: w_j is row K - 1 - j;  bias [C];  reset [B,T] uint8;
         start, final, dfinal, dstart [B,K-1,C];  partial sums, to be summed over their first axis, zero when the kernel begins:
         dtaps [units,K,C], dbias [units,C].  gated, a bool, asks for the silu.
Units    (batch, stretch of `steps` steps).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.gates import sigmoid
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared

LANES, ONE = WIDTH, np.float32(1)
ROWS = 32  # steps of a tile of the backward, whose do lies in the L1 cache


@compiled
def _reach(reset, b, t, T, K):
    """How many inputs, counted back from step t, its output depends on."""
    for j in range(min(K, t + 1)):
        if reset[b * T + t - j]:
            return j + 1
    return K


# Written into its callers: as a call of its own, references to four arrays would be counted at every step, and the registers saved.
@njit(nogil=True, inline="always")
def _convolved(zero, taps, bias, u, start, b, t, c, reach, T, C, K):
    out, n = load_first(zero, bias, c, C - c), C - c
    for j in range(min(reach, t + 1)):
        out = out + load_first(zero, taps, (K - 1 - j) * C + c, n) * load_first(zero, u, (b * T + t - j) * C + c, n)
    for j in range(t + 1, reach):
        out = out + load_first(zero, taps, (K - 1 - j) * C + c, n) * load_first(zero, start, (b * (K - 1) + K - 1 + t - j) * C + c, n)
    return out


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, steps, u, taps, bias, gated, reset, start, y, final):
    """Equation (1).   shape (T, C, K)"""
    T, C, K = shape
    stretches = (T + steps - 1) // steps
    zero = fill(LANES, ZERO)
    for unit in range(first, last):
        b, begin = unit // stretches, unit % stretches * steps
        end = min(begin + steps, T)
        for t in range(begin, end):
            reach = _reach(reset, b, t, T, K)
            for c in range(0, C, LANES):
                out = _convolved(zero, taps, bias, u, start, b, t, c, reach, T, C, K)
                if gated:
                    out = out * sigmoid(out)
                store_first(y, (b * T + t) * C + c, out, C - c)
        if end == T:
            reach = _reach(reset, b, T - 1, T, K)
            for j in range(K - 1):
                for c in range(0, C, LANES):
                    kept = zero
                    if j < min(reach, T):
                        kept = load_first(zero, u, (b * T + T - 1 - j) * C + c, C - c)
                    elif j < reach:
                        kept = load_first(zero, start, (b * (K - 1) + K - 2 + T - j) * C + c, C - c)
                    store_first(final, (b * (K - 1) + K - 2 - j) * C + c, kept, C - c)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, steps, u, taps, bias, gated, reset, start, dy, dfinal, du, dtaps, dbias, dstart):
    """Equations (2), a tile of ROWS steps and LANES channels at a time, with the do of the K - 1 steps after it."""
    T, C, K = shape
    stretches = (T + steps - 1) // steps
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    do, reach = scratch((ROWS + K) * LANES), np.empty(ROWS + K, np.int64)
    for unit in range(first, last):
        b, begin = unit // stretches, unit % stretches * steps
        for top in range(begin, min(begin + steps, T), ROWS):
            rows = min(ROWS, steps - (top - begin), T - top)
            after = min(rows + K - 1, T - top)
            for i in range(after):
                reach[i] = _reach(reset, b, top + i, T, K)
            for c in range(0, C, LANES):
                n = C - c
                offset = load_first(zero, dbias, unit * C + c, n)
                for i in range(after):
                    grad = load_first(zero, dy, (b * T + top + i) * C + c, n)
                    if gated:
                        out = _convolved(zero, taps, bias, u, start, b, top + i, c, reach[i], T, C, K)
                        p = sigmoid(out)
                        grad = grad * (p + out * p * (one - p))
                    store(do, i * LANES, grad)
                    if i < rows:
                        offset = offset + grad
                store_first(dbias, unit * C + c, offset, n)
                for j in range(K):
                    at = (unit * K + K - 1 - j) * C + c
                    tap = load_first(zero, dtaps, at, n)
                    for i in range(min(rows, max(0, j - top))):
                        if j < reach[i]:
                            heard = load_first(zero, start, (b * (K - 1) + K - 1 + top + i - j) * C + c, n)
                            tap = tap + load(zero, do, i * LANES) * heard
                    for i in range(max(0, j - top), rows):
                        if j < reach[i]:
                            tap = tap + load(zero, do, i * LANES) * load_first(zero, u, (b * T + top + i - j) * C + c, n)
                    store_first(dtaps, at, tap, n)
                for i in range(0 if top else 1 - K, rows):
                    grad = zero
                    if top + i > T - K and T - 1 - top - i < reach[T - 1 - top]:  # still part of the state after the last step
                        grad = load_first(zero, dfinal, (b * (K - 1) + top + i - T + K - 1) * C + c, n)
                    for j in range(max(0, -i), min(K, after - i)):
                        if j < reach[i + j]:
                            grad = grad + load_first(zero, taps, (K - 1 - j) * C + c, n) * load(zero, do, (i + j) * LANES)
                    if i < 0:
                        store_first(dstart, (b * (K - 1) + K - 1 + i) * C + c, grad, n)
                    else:
                        store_first(du, (b * T + top + i) * C + c, grad, n)
