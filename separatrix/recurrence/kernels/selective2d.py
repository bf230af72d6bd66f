"""The scan of Chimera, forward and backward, without a tensor of time x variates x channels x state.

    h1[t, v] = k1 h1[t-1, v] + e1 (A12 h2[t-1, v] + B1 u)        k = exp(δ A),  e = (k - 1) / A,  A = A11 or A22          (1)
    h2[t, v] = k2 h2[t, v-1] + e2 (A21 h1[t, v-1] + B2 u)        o = sum_n C1 h1 + C2 h2

and with the adjoints g of a cell (what C, the cell below and the cell to the right ask of it) and m the bracket of (1):

    to the cell above   (k1 g1, e1 A12 g1)                       to the cell on the left   (e2 A21 g2, k2 g2)             (2)
    dδ = sum_n k g (A h + m),    dA = δ k g h + e' g m,    e' = de/dA = (δ k - e) / A,      h the own state before        (3)
    dA12 = e1 g1 h2,  dB1 = sum_d e1 g1 u,  dC1 = sum_d do h1,  du = sum_n e1 g1 B1 + e2 g2 B2, likewise the second halves

e and e' lose their digits where δ A is small: there e is a polynomial without a constant, and e' a series.

Channels lie along the lanes; the line before, [V, 2, N] lanes, is overwritten cell by cell. The forward leaves the line before every
CHUNK-th behind; the backward takes the chunks from last to first, recomputes the states of one and walks back.

Arrays   flat float32.  u, y, dy, du [B,T,V,D];  delta, ddelta [B,T,V,2,D];  A, rates, inverse [2,2,N,D]: A, A log2(e), 1 / A;
         B, C [B,T,V,2,N];  reset [B,T] uint8;  start, final, dfinal, dstart [B,V,2,N,D];
         checkpoints [B, ceil(T / CHUNK) + 1, V,2,N,D], the last line last, None when no gradient will be asked;
         partial sums, to be summed over their first axis: dA [B,2,2,N,D], dB, dC [blocks,B,T,V,2,N].
Units    (batch, block of LANES channels).
Cost     about 40 vector operations a state and cell forward, 40 + 90 backward.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import EXP2, exp2_of
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import (
    WIDTH,
    ZERO,
    fill,
    get,
    load,
    load_first,
    magnitude,
    scratch,
    splat,
    store,
    store_first,
    where_negative,
)
from separatrix.recurrence.kernels.parallel import shared

LANES = WIDTH // 2
CHUNK = 16
HALF = np.float32(0.5)
SERIES = tuple(1.0 / (k + 2) / np.prod(np.arange(1.0, k + 1)) for k in range(8, -1, -1))  # of e' / δ²: 1 / (k! (k + 2))
RATE, INVERSE, OWN, OTHER = 0, 1, 2, 3  # what a state needs of A, for time and for variates


@compiled
def _hold(step, rate, inverse):
    """k and e."""
    kept, r = exp2_of(step, rate), step * rate
    p = splat(r, EXP2[0])
    for c in EXP2[1:-1]:
        p = p * r + c
    return kept, where_negative(magnitude(r) - HALF, p * r, kept - np.float32(1)) * inverse


@compiled
def _slope(step, own, inverse, kept, held):
    """e'"""
    z = step * own
    p = splat(z, SERIES[0])
    for c in SERIES[1:]:
        p = p * z + c
    return where_negative(magnitude(z) - HALF, p * step * step, (step * kept - held) * inverse)


@compiled
def _tables(tables, A, rates, inverse, N, D, d, lanes):
    """[time or variates][RATE, INVERSE, OWN, OTHER][n]"""
    zero = fill(LANES, ZERO)
    for i in range(2):
        own, other = (3 * i * N) * D + d, ((1 + i) * N) * D + d  # A11 and A12, A22 and A21
        for n in range(N):
            at = (4 * i * N + n) * LANES
            store(tables, at + RATE * N * LANES, load_first(zero, rates, own + n * D, lanes))
            store(tables, at + INVERSE * N * LANES, load_first(zero, inverse, own + n * D, lanes))
            store(tables, at + OWN * N * LANES, load_first(zero, A, own + n * D, lanes))
            store(tables, at + OTHER * N * LANES, load_first(zero, A, other + n * D, lanes))


@compiled
def _line(tables, u, delta, B, C, y, row, V, D, N, d, lanes, before, above, now, at):
    """One line of (1): states of `before` from `above` on, written to `now` from `at` on; a slot of zeros follows the V of `now`."""
    zero = fill(LANES, ZERO)
    half, size = N * LANES, 2 * N * LANES
    for v in range(V):
        cell = row * V + v
        step1, step2 = load_first(zero, delta, cell * 2 * D + d, lanes), load_first(zero, delta, cell * 2 * D + D + d, lanes)
        drive, out = load_first(zero, u, cell * D + d, lanes), zero
        up, left, here = above + v * size, at + (V if v == 0 else v - 1) * size, at + v * size
        for n in range(N):
            k, i = n * LANES, cell * 2 * N + n
            kept, held = _hold(step1, load(zero, tables, k), load(zero, tables, half + k))
            other = load(zero, tables, 3 * half + k) * load(zero, before, up + half + k) + get(B, i) * drive
            h1 = kept * load(zero, before, up + k) + held * other
            kept, held = _hold(step2, load(zero, tables, 4 * half + k), load(zero, tables, 5 * half + k))
            other = load(zero, tables, 7 * half + k) * load(zero, now, left + k) + get(B, i + N) * drive
            h2 = kept * load(zero, now, left + half + k) + held * other
            store(now, here + k, h1)
            store(now, here + half + k, h2)
            out = out + get(C, i) * h1 + get(C, i + N) * h2
        if y is not None:
            store_first(y, cell * D + d, out, lanes)


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, u, delta, A, rates, inverse, B, C, reset, start, y, final, checkpoints):
    """(1).   shape (T, V, D, N)"""
    T, V, D, N = shape
    blocks, chunks, size = (D + LANES - 1) // LANES, (T + CHUNK - 1) // CHUNK, 2 * N * LANES
    zero = fill(LANES, ZERO)
    line, tables = scratch((V + 1) * size), scratch(4 * size)
    for unit in range(first, last):
        b, d = unit // blocks, unit % blocks * LANES
        lanes = min(LANES, D - d)
        _tables(tables, A, rates, inverse, N, D, d, lanes)
        for i in range(V * 2 * N):
            store(line, i * LANES, load_first(zero, start, (b * V * 2 * N + i) * D + d, lanes))
        for i in range(V * 2 * N, (V + 1) * 2 * N):
            store(line, i * LANES, zero)
        for t in range(T):
            if checkpoints is not None and t % CHUNK == 0:
                for i in range(V * 2 * N):
                    store_first(checkpoints, ((b * (chunks + 1) + t // CHUNK) * V * 2 * N + i) * D + d, load(zero, line, i * LANES), lanes)
            if reset[b * T + t]:
                for i in range(V * 2 * N):
                    store(line, i * LANES, zero)
            _line(tables, u, delta, B, C, y, b * T + t, V, D, N, d, lanes, line, 0, line, 0)
        for i in range(V * 2 * N):
            store_first(final, (b * V * 2 * N + i) * D + d, load(zero, line, i * LANES), lanes)
            if checkpoints is not None:
                store_first(checkpoints, ((b * (chunks + 1) + chunks) * V * 2 * N + i) * D + d, load(zero, line, i * LANES), lanes)


@shared
@njit(cache=True, nogil=True)
def backward(
    first, last, shape, u, delta, A, rates, inverse, B, C, reset, checkpoints, dy, dfinal, du, ddelta, dA, dB, dC, dstart
):  # fmt: skip
    """(2) and (3).   shape (B, T, V, D, N)"""
    batch, T, V, D, N = shape
    blocks, chunks, half, size = (D + LANES - 1) // LANES, (T + CHUNK - 1) // CHUNK, N * LANES, 2 * N * LANES
    zero = fill(LANES, ZERO)
    width = (V + 1) * size
    history = scratch((CHUNK + 2) * width)  # the line before the chunk, its lines, and a line of zeros; each ends in a slot of zeros
    tables, sums, down, right = scratch(4 * size), scratch(2 * size), scratch(V * size), scratch(size)
    for i in range((CHUNK + 2) * (V + 1) * 2 * N):
        store(history, i * LANES, zero)
    for unit in range(first, last):
        b, d = unit // blocks, unit % blocks * LANES
        lanes = min(LANES, D - d)
        _tables(tables, A, rates, inverse, N, D, d, lanes)
        for i in range(4 * N):
            store(sums, i * LANES, zero)
        for i in range(V * 2 * N):
            store(down, i * LANES, load_first(zero, dfinal, (b * V * 2 * N + i) * D + d, lanes))
        for chunk in range(chunks - 1, -1, -1):
            t0 = chunk * CHUNK
            steps = min(CHUNK, T - t0)
            for i in range(V * 2 * N):
                store(history, i * LANES, load_first(zero, checkpoints, ((b * (chunks + 1) + chunk) * V * 2 * N + i) * D + d, lanes))
            for i in range(steps):
                row = b * T + t0 + i
                before = (CHUNK + 1 if reset[row] else i) * width
                _line(tables, u, delta, B, C, None, row, V, D, N, d, lanes, history, before, history, (i + 1) * width)
            for i in range(steps - 1, -1, -1):
                row = b * T + t0 + i
                before, now = (CHUNK + 1 if reset[row] else i) * width, (i + 1) * width
                for n in range(2 * N):
                    store(right, n * LANES, zero)
                for v in range(V - 1, -1, -1):
                    cell = row * V + v
                    step1 = load_first(zero, delta, cell * 2 * D + d, lanes)
                    step2 = load_first(zero, delta, cell * 2 * D + D + d, lanes)
                    drive, dout = load_first(zero, u, cell * D + d, lanes), load_first(zero, dy, cell * D + d, lanes)
                    up, left, here, below = before + v * size, now + (V if v == 0 else v - 1) * size, now + v * size, v * size
                    dstep1, dstep2, ddrive = zero, zero, zero
                    partial = ((unit % blocks) * batch * T * V + cell) * 2 * N
                    for n in range(N):
                        k, j = n * LANES, cell * 2 * N + n
                        g1 = get(C, j) * dout + load(zero, down, below + k) + load(zero, right, k)
                        g2 = get(C, j + N) * dout + load(zero, down, below + half + k) + load(zero, right, half + k)
                        dC[partial + n] = total(dout * load(zero, history, here + k))
                        dC[partial + N + n] = total(dout * load(zero, history, here + half + k))

                        own, other = load(zero, tables, 2 * half + k), load(zero, tables, 3 * half + k)
                        inverse_, one, two = load(zero, tables, half + k), load(zero, history, up + k), load(zero, history, up + half + k)
                        kept, held = _hold(step1, load(zero, tables, k), inverse_)
                        m, given, passed = other * two + get(B, j) * drive, g1 * held, g1 * kept
                        dstep1 = dstep1 + passed * (own * one + m)
                        ddrive = ddrive + given * get(B, j)
                        dB[partial + n] = total(given * drive)
                        down1 = passed * step1 * one + g1 * m * _slope(step1, own, inverse_, kept, held)
                        store(sums, k, load(zero, sums, k) + down1)
                        store(sums, half + k, load(zero, sums, half + k) + given * two)
                        store(down, below + k, zero if reset[row] else passed)
                        store(down, below + half + k, zero if reset[row] else given * other)

                        own, other = load(zero, tables, 6 * half + k), load(zero, tables, 7 * half + k)
                        inverse_, one, two = (
                            load(zero, tables, 5 * half + k),
                            load(zero, history, left + half + k),
                            load(zero, history, left + k),
                        )
                        kept, held = _hold(step2, load(zero, tables, 4 * half + k), inverse_)
                        m, given, passed = other * two + get(B, j + N) * drive, g2 * held, g2 * kept
                        dstep2 = dstep2 + passed * (own * one + m)
                        ddrive = ddrive + given * get(B, j + N)
                        dB[partial + N + n] = total(given * drive)
                        right2 = passed * step2 * one + g2 * m * _slope(step2, own, inverse_, kept, held)
                        store(sums, 3 * half + k, load(zero, sums, 3 * half + k) + right2)
                        store(sums, 2 * half + k, load(zero, sums, 2 * half + k) + given * two)
                        store(right, k, given * other)
                        store(right, half + k, passed)
                    store_first(du, cell * D + d, ddrive, lanes)
                    store_first(ddelta, cell * 2 * D + d, dstep1, lanes)
                    store_first(ddelta, cell * 2 * D + D + d, dstep2, lanes)
        for i in range(V * 2 * N):
            store_first(dstart, (b * V * 2 * N + i) * D + d, load(zero, down, i * LANES), lanes)
        for i in range(4 * N):
            store_first(dA, (b * 4 * N + i) * D + d, load(zero, sums, i * LANES), lanes)
