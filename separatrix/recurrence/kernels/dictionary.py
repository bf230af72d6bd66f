"""Transitions mixed from a dictionary: each step's matrix is made, used and forgotten.

    M_t = sum_k w_tk D_k,    n_j = (sum_i |M_ij|^p)^(1/p),    A_ij = M_ij / n_j                                     (1)
    h_t = A_t h_{t-1} + b_t                                                                                       (2)
    g_t = dy_t + A_{t+1}ᵀ g_{t+1}                          db_t = g_t,   dh_0 = A_1ᵀ g_1                           (3)
    dM_ij = (g_i h_j - h_j (Aᵀ g)_j sign(A_ij) |A_ij|^(p-1)) / n_j,    h the state before                           (4)
    dw_tk = sum_ij dM_ij D_k,ij,    dD_k = sum_t w_tk dM_t

for a loss with gradient dy_t at h_t. STRETCH steps are mixed together, so that the dictionary passes by once for all of them; the backward
mixes them again, and keeps dM in the place of M until it has passed the dictionary once more.

A column is measured in units of its largest number, whose powers neither vanish nor overflow; a column of zeros stays zero.

Arrays   flat float32.  w, dw [B,T,K];  D [K,N,N], dD [B,K,N,N], zero when the kernel begins;  h, b, dy, db [B,T,N];
         start, final, dfinal, dstart [B,N];  reset [B,T] uint8.
Units    batch rows.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.dense import copy, line, step
from separatrix.recurrence.kernels.exponential import power
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import (
    ZERO,
    fill,
    get,
    load,
    load_first,
    magnitude,
    scratch,
    store,
    store_first,
    where_equal,
    where_greater,
    where_negative,
)
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import LANES

STRETCH = 4  # steps mixed together
CACHED = 1024  # numbers of each of their matrices that stay in the L1 cache while the entries pass by
ONE = np.float32(1)


@compiled
def mix(K, N, D, w, at, n, M):
    """M [STRETCH, N, N] of the n steps whose weights begin at w[at:]; beyond them the last one again."""
    zero, size = fill(LANES, ZERO), N * N
    w1, w2, w3 = at + min(1, n - 1) * K, at + min(2, n - 1) * K, at + min(3, n - 1) * K
    for i in range(0, size, 2 * LANES):
        j = i + LANES
        a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
        for k in range(K):
            x, y = load_first(zero, D, k * size + i, size - i), load_first(zero, D, k * size + j, size - j)
            u0, u1, u2, u3 = get(w, at + k), get(w, w1 + k), get(w, w2 + k), get(w, w3 + k)
            a0, a1, a2, a3 = x * u0 + a0, x * u1 + a1, x * u2 + a2, x * u3 + a3
            b0, b1, b2, b3 = y * u0 + b0, y * u1 + b1, y * u2 + b2, y * u3 + b3
        store_first(M, i, a0, size - i)
        store_first(M, size + i, a1, size - i)
        store_first(M, 2 * size + i, a2, size - i)
        store_first(M, 3 * size + i, a3, size - i)
        store_first(M, j, b0, size - j)
        store_first(M, size + j, b1, size - j)
        store_first(M, 2 * size + j, b2, size - j)
        store_first(M, 3 * size + j, b3, size - j)


@compiled
def inverse_lengths(N, M, at, p, inverse):
    """1 / n_j of the matrix M[at:], 0 where n_j is 0; inverse has room for whole lanes."""
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    for d in range(0, N, LANES):
        largest = zero
        for i in range(N):
            x = magnitude(load_first(zero, M, at + i * N + d, N - d))
            largest = where_greater(x, largest, x, largest)
        unit = where_greater(largest, zero, one / largest, zero)
        sums = zero
        for i in range(N):
            x = load_first(zero, M, at + i * N + d, N - d)
            sums = sums + power(magnitude(x) * unit, p) + x * ZERO  # a NaN or an infinity stays one
        length = power(sums, ONE / p) + sums * ZERO
        store(inverse, d, where_equal(largest, zero, sums * ZERO, unit / length))


@compiled
def scaled(N, x, at, inverse, into):
    """What (2) multiplies M with: the state, every number over the length of its column."""
    zero = fill(LANES, ZERO)
    for d in range(0, N, LANES):
        store(into, d, load_first(zero, x, at + d, N - d) * load(zero, inverse, d))


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, p, w, D, b, reset, start, h, final):
    """Equations (1) and (2).   shape (T, K, N)"""
    T, K, N = shape
    zero = line(b)
    M, inverse, x = scratch(STRETCH * N * N), scratch(N + LANES), scratch(N + LANES)
    for unit in range(first, last):
        before, at = start, unit * N
        for t in range(0, T, STRETCH):
            n = min(STRETCH, T - t)
            mix(K, N, D, w, (unit * T + t) * K, n, M)
            for s in range(n):
                row = unit * T + t + s
                if reset[row]:
                    copy(h, row * N, b, row * N, N)
                else:
                    inverse_lengths(N, M, s * N * N, p, inverse)
                    scaled(N, before, at, inverse, x)
                    step(zero, M, s * N * N, N, False, x, 0, b, row * N, h, row * N)
                before, at = h, row * N
        copy(final, unit * N, before, at, N)


@compiled
def mixed_gradient(N, M, at, p, inverse, g, i, h, j, along):
    """dM of (4) in the place of M[at:], from g[i:] and the state before, h[j:]; along becomes Aᵀ g."""
    zero = fill(LANES, ZERO)
    for d in range(0, N, LANES):
        n = N - d
        unit, state, sums = load(zero, inverse, d), load_first(zero, h, j + d, n), zero
        for r in range(N):
            sums = sums + load_first(zero, M, at + r * N + d, n) * get(g, i + r)
        sums = sums * unit
        store(along, d, sums)
        for r in range(N):
            m = at + r * N + d
            A = load_first(zero, M, m, n) * unit
            turn = power(magnitude(A), p - ONE) * sums
            turn = where_equal(A, zero, zero, where_negative(A, zero - turn, turn))
            store_first(M, m, (get(g, i + r) - turn) * state * unit, n)


@compiled
def meet(K, N, D, w, at, n, dM, dw, dD, into):
    """The n steps' shares of dw and dD, from all of their dM [STRETCH, N, N]."""
    zero, size = fill(LANES, ZERO), N * N
    w1, w2, w3 = at + min(1, n - 1) * K, at + min(2, n - 1) * K, at + min(3, n - 1) * K
    for top in range(0, size, CACHED):
        end = min(size, top + CACHED)
        for k in range(K):
            u0, u1, u2, u3 = get(w, at + k), get(w, w1 + k), get(w, w2 + k), get(w, w3 + k)
            a0, a1, a2, a3 = zero, zero, zero, zero
            for i in range(top, end, LANES):
                m, o = size - i, into + k * size + i
                x = load_first(zero, D, k * size + i, m)
                d0, d1 = load_first(zero, dM, i, m), load_first(zero, dM, size + i, m)
                d2, d3 = load_first(zero, dM, 2 * size + i, m), load_first(zero, dM, 3 * size + i, m)
                a0, a1, a2, a3 = x * d0 + a0, x * d1 + a1, x * d2 + a2, x * d3 + a3
                store_first(dD, o, d0 * u0 + (d1 * u1 + (d2 * u2 + (d3 * u3 + load_first(zero, dD, o, m)))), m)
            dw[at + k] += total(a0)
            if n > 1:
                dw[w1 + k] += total(a1)
            if n > 2:
                dw[w2 + k] += total(a2)
            if n > 3:
                dw[w3 + k] += total(a3)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, p, w, D, reset, start, h, dy, dfinal, db, dw, dD, dstart):
    """Equations (3) and (4).   shape (T, K, N), T >= 1; dw is zero when the kernel begins."""
    T, K, N = shape
    zero = fill(LANES, ZERO)
    M, inverse, along = scratch(STRETCH * N * N), scratch(N + LANES), scratch(N + LANES)
    for unit in range(first, last):
        for d in range(0, N, LANES):
            store(along, d, load_first(zero, dfinal, unit * N + d, N - d))
        for t in range((T - 1) // STRETCH * STRETCH, -1, -STRETCH):
            n = min(STRETCH, T - t)
            mix(K, N, D, w, (unit * T + t) * K, n, M)
            M[n * N * N :] = 0
            for s in range(n - 1, -1, -1):
                row, at = unit * T + t + s, s * N * N
                for d in range(0, N, LANES):
                    i = row * N + d
                    store_first(db, i, load_first(zero, dy, i, N - d) + load(zero, along, d), N - d)
                if reset[row]:
                    M[at : at + N * N] = 0
                    along[:] = 0
                else:
                    before, j = (start, unit * N) if t + s == 0 else (h, (row - 1) * N)
                    inverse_lengths(N, M, at, p, inverse)
                    mixed_gradient(N, M, at, p, inverse, db, row * N, before, j, along)
            meet(K, N, D, w, (unit * T + t) * K, n, M, dw, dD, unit * K * N * N)
        copy(dstart, unit * N, along, 0, N)
