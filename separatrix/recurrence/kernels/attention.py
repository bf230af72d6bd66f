"""One query over all that was kept: a step of causal softmax attention with rotary positions.

    c_s = q_t . R(s - t) k_s = (R(t - s) q_t) . k_s,   p_s = exp(scale (c_s - max c)),   y_t = sum_s p_s v_s / sum_s p_s,   s = 0 .. S   (1)

The query is turned and not the keys, by a table of complex numbers whose last row is that of now. The step's own key and value are put
behind those that are there, where there is room for them: nothing else is written but y.

Arrays   flat float32.  qkv [B,3,H,K]; keys, values [B,size,H,K] and alive [B,size], 0 for what is hidden, of which steps first .. first + S
         count, the last one being this; turns [any,K/2] (cosine, sine), or empty for no positions; y [B,H,K].
Units    (batch, head).
"""

from __future__ import annotations

import math

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.pairs import imag_twice, real_twice
from separatrix.recurrence.kernels.parallel import shared


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, qkv, turns, keys, values, alive, y):
    """(1).   shape (S, H, K, size, first)"""
    S, H, K, size, begin = shape
    turning, zero = turns.size > 0, fill(WIDTH, ZERO)
    own, across, weights, scale = scratch(K), scratch(K), scratch(S + 1 + WIDTH), np.float32(1 / math.sqrt(K))
    for unit in range(first, last):
        b, h = unit // H, unit % H
        q, old, row = (3 * b * H + h) * K, ((b * size + begin) * H + h) * K, b * size + begin
        new = old + S * H * K
        for d in range(K):
            own[d] = qkv[q + d] * scale
            across[d] = (qkv[q + d + 1] if d % 2 == 0 else -qkv[q + d - 1]) * scale if turning else ZERO
            keys[new + d] = qkv[q + H * K + d]
            values[new + d] = qkv[q + 2 * H * K + d]
        if h == 0:
            alive[row + S] = 1
        for s in range(S + 1):
            sums, at = zero, old + s * H * K
            for d in range(0, K, WIDTH):
                n = K - d
                query = load_first(zero, own, d, n)
                if turning:
                    turn = load_first(zero, turns, turns.size - (S - s + 1) * K + d, n)
                    query = query * real_twice(turn) + load_first(zero, across, d, n) * imag_twice(turn)
                sums = sums + query * load_first(zero, keys, at + d, n)
            # Of its own step no head asks: another may be about to write that.
            weights[s] = total(sums) if s == S or get(alive, row + s) > 0.5 else -math.inf
        share = softmax(weights, S + 1)
        for d in range(0, K, WIDTH):
            n, sums = K - d, zero
            for s in range(S + 1):
                weight = get(weights, s)
                if weight != 0:  # what is hidden may hold anything
                    sums = sums + load_first(zero, values, old + s * H * K + d, n) * weight
            store_first(y, unit * K + d, sums * share, n)


@compiled
def softmax(x, n):
    """x[:n] <- exp(x - max x), whatever else lies in its whole lanes; returns one over their sum."""
    top = x[0]
    for i in range(1, n):
        top = max(top, x[i])
    sums = fill(WIDTH, ZERO)
    for i in range(0, n, WIDTH):
        store(x, i, exp(load(sums, x, i) - top))
        sums = sums + load_first(sums, x, i, n - i)
    return np.float32(1) / total(sums)
