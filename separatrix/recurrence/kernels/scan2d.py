"""Two dimensions: a state along time and a state along variates, each fed by both.

    h1[t, v] = a11 h1[t-1, v] + a12 h2[t-1, v] + x1[t, v]        h2[t, v] = a21 h1[t, v-1] + a22 h2[t, v-1] + x2[t, v]        (1)
    g1[t, v] = dy1[t, v] + a11[t+1, v] g1[t+1, v] + a21[t, v+1] g2[t, v+1]                                             (2)
    g2[t, v] = dy2[t, v] + a12[t+1, v] g1[t+1, v] + a22[t, v+1] g2[t, v+1]
    dx = g,   da11 = g1 h1[t-1, v],   da12 = g1 h2[t-1, v],   da21 = g2 h1[t, v-1],   da22 = g2 h2[t, v-1]

As in `diagonal.py` rows of channels are walked in memory order: what a cell needs of its neighbours was written one cell and one line ago.

Arrays   flat, all float32 or all float64.   x, h, dy, dx [B,T,V,2,D];  start, final, dfinal, dstart [B,V,2,D];  edge, dedge [B,T,2,D];
         reset [B,T] uint8, nothing comes from the line before.   a of cell (b, t, v) lies at b a_batch + t a_time + v a_variate as [2,2,D]:
         strides of 0 repeat it.   da [B, T or 1, V or 1, 2,2,D] likewise, summed where a is shared; None when it is not needed, and then h,
         start and edge are not read.
Units    (batch, block of `block` channels).
"""

from __future__ import annotations

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import count, load_first, rest, store_first
from separatrix.recurrence.kernels.parallel import shared


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, block, a_batch, a_time, a_variate, a, x, reset, start, edge, h, final):
    """(1).   shape (T, V, D)"""
    T, V, D = shape
    blocks = (D + block - 1) // block
    zero = rest(x)
    lanes = count(zero)
    for unit in range(first, last):
        b, lowest = unit // blocks, unit % blocks * block
        highest = min(lowest + block, D)
        for t in range(T):
            row = b * T + t
            for v in range(V):
                cell = (row * V + v) * 2 * D
                above, up = (start, (b * V + v) * 2 * D) if t == 0 else (h, cell - V * 2 * D)
                beside, left = (edge, row * 2 * D) if v == 0 else (h, cell - 2 * D)
                at = b * a_batch + t * a_time + v * a_variate
                for d in range(lowest, highest, lanes):
                    n = highest - d
                    h1, h2 = load_first(zero, x, cell + d, n), load_first(zero, x, cell + D + d, n)
                    if not reset[row]:
                        h1 = load_first(zero, a, at + d, n) * load_first(zero, above, up + d, n) + h1
                        h1 = load_first(zero, a, at + D + d, n) * load_first(zero, above, up + D + d, n) + h1
                    h2 = load_first(zero, a, at + 2 * D + d, n) * load_first(zero, beside, left + d, n) + h2
                    h2 = load_first(zero, a, at + 3 * D + d, n) * load_first(zero, beside, left + D + d, n) + h2
                    store_first(h, cell + d, h1, n)
                    store_first(h, cell + D + d, h2, n)
        for v in range(2 * V):
            for d in range(lowest, highest, lanes):
                i, n = (b * V * 2 + v) * D + d, highest - d
                store_first(final, i, load_first(zero, h, ((b * T + T - 1) * V * 2 + v) * D + d, n), n)


@shared
@njit(cache=True, nogil=True)
def backward(
    first, last, shape, block, a_batch, a_time, a_variate, a, reset, start, edge, h, dy, dfinal, dx, da, da_time, da_variate, dstart, dedge
):  # fmt: skip
    """(2).   da of cell (b, t, v) lies at b * T' V' 4 D + t da_time + v da_variate, T' = T or 1, V' = V or 1."""
    T, V, D = shape
    blocks = (D + block - 1) // block
    zero = rest(dy)
    lanes = count(zero)
    line = V * 2 * D
    for unit in range(first, last):
        b, lowest = unit // blocks, unit % blocks * block
        highest = min(lowest + block, D)
        for t in range(T - 1, -1, -1):
            row = b * T + t
            for v in range(V - 1, -1, -1):
                cell = (row * V + v) * 2 * D
                below = b * a_batch + (t + 1) * a_time + v * a_variate
                right = b * a_batch + t * a_time + (v + 1) * a_variate
                from_below = t + 1 < T and not reset[row + 1]
                for d in range(lowest, highest, lanes):
                    n, i = highest - d, cell + d
                    g1, g2 = load_first(zero, dy, i, n), load_first(zero, dy, i + D, n)
                    if t == T - 1:
                        g1 = g1 + load_first(zero, dfinal, (b * V + v) * 2 * D + d, n)
                        g2 = g2 + load_first(zero, dfinal, (b * V + v) * 2 * D + D + d, n)
                    if from_below:
                        g = load_first(zero, dx, i + line, n)
                        g1 = load_first(zero, a, below + d, n) * g + g1
                        g2 = load_first(zero, a, below + D + d, n) * g + g2
                    if v + 1 < V:
                        g = load_first(zero, dx, i + 3 * D, n)
                        g1 = load_first(zero, a, right + 2 * D + d, n) * g + g1
                        g2 = load_first(zero, a, right + 3 * D + d, n) * g + g2
                    store_first(dx, i, g1, n)
                    store_first(dx, i + D, g2, n)
                if da is not None:
                    above, up = (start, (b * V + v) * 2 * D) if t == 0 else (h, cell - line)
                    beside, left = (edge, row * 2 * D) if v == 0 else (h, cell - 2 * D)
                    at = b * ((T if da_time else 1) * (V if da_variate else 1) * 4 * D) + t * da_time + v * da_variate
                    fresh = (t == T - 1 or da_time != 0) and (v == V - 1 or da_variate != 0)
                    for d in range(lowest, highest, lanes):
                        n = highest - d
                        g1, g2 = load_first(zero, dx, cell + d, n), load_first(zero, dx, cell + D + d, n)
                        mine, other = zero, zero
                        if not reset[row]:
                            mine, other = g1 * load_first(zero, above, up + d, n), g1 * load_first(zero, above, up + D + d, n)
                        _add(da, at + d, mine, n, fresh)
                        _add(da, at + D + d, other, n, fresh)
                        _add(da, at + 2 * D + d, g2 * load_first(zero, beside, left + d, n), n, fresh)
                        _add(da, at + 3 * D + d, g2 * load_first(zero, beside, left + D + d, n), n, fresh)
        for v in range(V):
            at, cell = b * a_batch + v * a_variate, (b * T * V + v) * 2 * D
            for d in range(lowest, highest, lanes):
                n, i = highest - d, (b * V + v) * 2 * D + d
                mine, other = zero, zero
                if not reset[b * T]:
                    g = load_first(zero, dx, cell + d, n)
                    mine, other = load_first(zero, a, at + d, n) * g, load_first(zero, a, at + D + d, n) * g
                store_first(dstart, i, mine, n)
                store_first(dstart, i + D, other, n)
        for t in range(T):
            at, cell = b * a_batch + t * a_time, (b * T + t) * line
            for d in range(lowest, highest, lanes):
                n, i = highest - d, (b * T + t) * 2 * D + d
                g = load_first(zero, dx, cell + D + d, n)
                store_first(dedge, i, load_first(zero, a, at + 2 * D + d, n) * g, n)
                store_first(dedge, i + D, load_first(zero, a, at + 3 * D + d, n) * g, n)


@compiled
def _add(array, i, value, n, fresh):
    """The first of a sum overwrites what was there."""
    if not fresh:
        value = value + load_first(value, array, i, n)
    store_first(array, i, value, n)
