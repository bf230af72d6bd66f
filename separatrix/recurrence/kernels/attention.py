"""One query over all that was kept: a step of causal softmax attention with rotary positions.

    c_s = q_t . R(s - t) k_s = (R(t - s) q_t) . k_s,   p_s = exp(scale (c_s - max c)),   y_t = sum_s p_s v_s / sum_s p_s,   s = 0 .. S   (1)

The query is turned and not the keys, by a table of complex numbers whose last row is that of now. The step's own key and value are the
last ones. Each key and value is copied to the new state as it is read.

Arrays   flat float32.  qkv [B,3,H,K]; keys, values [B,S,H,K]; alive [B,S], 0 for what is hidden; turns [any,K/2] (cosine, sine), or empty
         for no positions; y [B,H,K]; new_keys, new_values [B,S + 1 - forget,H,K] and new_alive [B,S + 1 - forget], without the oldest.
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
def forward(first, last, shape, qkv, keys, values, alive, turns, forget, y, new_keys, new_values, new_alive):
    """(1).   shape (S, H, K)"""
    S, H, K = shape
    turning, zero = turns.size > 0, fill(WIDTH, ZERO)
    own, across, weights, scale = scratch(K), scratch(K), scratch(S + 1 + WIDTH), np.float32(1 / math.sqrt(K))
    for unit in range(first, last):
        b, h = unit // H, unit % H
        kept = S + 1 - forget
        q = (3 * b * H + h) * K
        k, v = q + H * K, q + 2 * H * K
        old, new = (b * S * H + h) * K, (b * kept * H + h) * K
        for d in range(K):
            own[d] = qkv[q + d] * scale
            across[d] = (qkv[q + d + 1] if d % 2 == 0 else -qkv[q + d - 1]) * scale if turning else ZERO
        for s in range(S + 1):
            source, at = (keys, old + s * H * K) if s < S else (qkv, k)
            sums = zero
            for d in range(0, K, WIDTH):
                n = K - d
                key, query = load_first(zero, source, at + d, n), load_first(zero, own, d, n)
                if turning:
                    turn = load_first(zero, turns, turns.size - (S - s + 1) * K + d, n)
                    query = query * real_twice(turn) + load_first(zero, across, d, n) * imag_twice(turn)
                sums = sums + query * key
                if s >= forget:
                    store_first(new_keys, new + (s - forget) * H * K + d, key, n)
            weights[s] = total(sums) if s == S or get(alive, b * S + s) > 0.5 else -math.inf
        share = softmax(weights, S + 1)
        for d in range(0, K, WIDTH):
            n, sums = K - d, zero
            for s in range(S + 1):
                source, at = (values, old + s * H * K) if s < S else (qkv, v)
                value, weight = load_first(zero, source, at + d, n), get(weights, s)
                if weight != 0:  # what is hidden may hold anything
                    sums = sums + value * weight
                if s >= forget:
                    store_first(new_values, new + (s - forget) * H * K + d, value, n)
            store_first(y, unit * K + d, sums * share, n)
        if h == 0:
            for s in range(forget, S + 1):
                new_alive[b * kept + s - forget] = alive[b * S + s] if s < S else np.float32(1)


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
