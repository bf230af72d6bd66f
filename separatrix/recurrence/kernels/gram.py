"""(P_t + Λ_t) x_t = q_t at every step, by elimination: every lane has a matrix of its own.

    P_t = a_t P_{t-1} + β_t k_t k_tᵀ          a = exp(log_decay): 1, or one number a head

Steps come in blocks, one a lane. P is the matrix before the block, d what is left of it at a lane's step, w_s what is left there of step s:

    A = d P + Σ_s w_s k_s k_sᵀ + Λ,      A = L D Lᵀ,      L z = q,      Lᵀ x = D⁻¹ z

All of it is arithmetic of lanes with lanes: no sums across, no square root, no ragged edge. q is one more row of A, so that eliminating
the matrix solves for z too. Rows go in fours, which stay in the L1 cache as L D while L, in L2, passes by once; tiles of 4 rows and 2
columns stay in registers. Nothing is pivoted: A is positive definite.

Cost     K³/6 multiply-adds a step for the factors, K² (WIDTH/8 + 3) for the rest; L takes K² WIDTH/2 bytes of the L2 cache.
         A unit of work is one (batch, head).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, load_first, scratch, splat, store, store_first
from separatrix.recurrence.kernels.parallel import spawn

STEPS = WIDTH // 4  # lanes of one register


@compiled
def remains(n, row, stride, batch, beta, log_decay, reset, d, w):
    """d[lane] of P and w[s, lane] of step s, for the n steps whose beta is at row, row + stride, ...; 0 on the lanes beyond."""
    d[:] = 0
    w[:] = 0
    for lane in range(n):
        a = np.float32(1)
        if reset[batch + lane]:
            a = ZERO
        elif log_decay is not None:
            a = np.float32(np.exp(log_decay[row + lane * stride]))
        d[lane] = a * (d[lane - 1] if lane > 0 else np.float32(1))
        for s in range(lane):
            w[s * STEPS + lane] = a * w[s * STEPS + lane - 1]
        w[lane * STEPS + lane] = beta[row + lane * stride]


@compiled
def build(i, n, N, M, P, d, keys, U, A):
    """Rows i to i + 3 of d P + Σ_s U_s k_sᵀ, up to the diagonal.   P, keys [., M]; U [n, N], A [4, N] of lanes"""
    one = fill(STEPS, ZERO)
    left = load(one, d, 0)
    for j in range(0, i + 4, 2):
        at = i * M + j
        a00, a01 = left * get(P, at), left * get(P, at + 1)
        a10, a11 = left * get(P, at + M), left * get(P, at + M + 1)
        a20, a21 = left * get(P, at + 2 * M), left * get(P, at + 2 * M + 1)
        a30, a31 = left * get(P, at + 3 * M), left * get(P, at + 3 * M + 1)
        for s in range(n):
            u = (s * N + i) * STEPS
            k0, k1 = get(keys, s * M + j), get(keys, s * M + j + 1)
            u0, u1 = load(one, U, u), load(one, U, u + STEPS)
            u2, u3 = load(one, U, u + 2 * STEPS), load(one, U, u + 3 * STEPS)
            a00, a01, a10, a11 = a00 + u0 * k0, a01 + u0 * k1, a10 + u1 * k0, a11 + u1 * k1
            a20, a21, a30, a31 = a20 + u2 * k0, a21 + u2 * k1, a30 + u3 * k0, a31 + u3 * k1
        put(A, j * STEPS, N * STEPS, a00, a01, a10, a11, a20, a21, a30, a31)


@compiled
def put(A, at, row, a00, a01, a10, a11, a20, a21, a30, a31):
    """A tile of 4 rows and 2 columns."""
    store(A, at, a00)
    store(A, at + STEPS, a01)
    store(A, at + row, a10)
    store(A, at + row + STEPS, a11)
    store(A, at + 2 * row, a20)
    store(A, at + 2 * row + STEPS, a21)
    store(A, at + 3 * row, a30)
    store(A, at + 3 * row + STEPS, a31)


@compiled
def eliminate(i, N, A, L, inverse):
    """Rows i to i + 3 of A = L D Lᵀ, given those above: A [4, N] becomes L D, then L [., N] and 1 / D [N] are written."""
    one = fill(STEPS, ZERO)
    unit = fill(STEPS, np.float32(1))
    row = N * STEPS
    for j in range(0, min(i + 4, N), 2):
        at, left = j * STEPS, j * row
        a00, a01 = load(one, A, at), load(one, A, at + STEPS)
        a10, a11 = load(one, A, at + row), load(one, A, at + row + STEPS)
        a20, a21 = load(one, A, at + 2 * row), load(one, A, at + 2 * row + STEPS)
        a30, a31 = load(one, A, at + 3 * row), load(one, A, at + 3 * row + STEPS)
        for m in range(0, at, STEPS):
            l0, l1 = load(one, L, left + m), load(one, L, left + row + m)
            m0, m1 = load(one, A, m), load(one, A, m + row)
            m2, m3 = load(one, A, m + 2 * row), load(one, A, m + 3 * row)
            a00, a01, a10, a11 = a00 - m0 * l0, a01 - m0 * l1, a10 - m1 * l0, a11 - m1 * l1
            a20, a21, a30, a31 = a20 - m2 * l0, a21 - m2 * l1, a30 - m3 * l0, a31 - m3 * l1
        if j < i:
            first, below, second = load(one, inverse, at), load(one, L, left + row + at), load(one, inverse, at + STEPS)
        elif j == i:
            first = unit / a00
            below = a10 * first
            second = unit / (a11 - a10 * below)
        else:
            first = unit / a20
            below = a30 * first
            second = unit / (a31 - a30 * below)
        a01, a11, a21, a31 = a01 - a00 * below, a11 - a10 * below, a21 - a20 * below, a31 - a30 * below
        store(inverse, at, first)
        store(inverse, at + STEPS, second)
        put(A, at, row, a00, a01, a10, a11, a20, a21, a30, a31)
        put(
            L, i * row + at, row, a00 * first, a01 * second, a10 * first, a11 * second, a20 * first, a21 * second, a30 * first, a31 * second
        )


@compiled
def substitute(N, L):
    """Lᵀ x = D⁻¹ z, in place in row N of L."""
    one = fill(STEPS, ZERO)
    x = N * N * STEPS
    for i in range(N - 1, 0, -1):
        found = load(one, L, x + i * STEPS)
        for j in range(0, i * STEPS, STEPS):
            store(L, x + j, load(one, L, x + j) - load(one, L, i * N * STEPS + j) * found)


@compiled
def advance(n, K, M, d, w, keys, P):
    """P over the n steps of a block."""
    zero = fill(WIDTH, ZERO)
    for i in range(K):
        for j in range(0, M, WIDTH):
            p = load(zero, P, i * M + j) * d[n - 1]
            for s in range(n):
                p = p + load(zero, keys, s * M + j) * (w[s * STEPS + n - 1] * keys[s * M + i])
            store(P, i * M + j, p)


@njit(cache=True, nogil=True)
def solve(first, last, shape, q, k, beta, log_decay, ridge, levels, reset, start, x, final):
    """Units (batch, head).  Flat float32 arrays: q, k, x [B,T,H,K]; beta, log_decay [B,T,H]; the ridge [H,K], or levels [B,T,H];
    start, final [B,H,K,K]; reset [B,T] uint8."""
    T, H, K = shape
    N, M = (K + 3) // 4 * 4, (K + WIDTH - 1) // WIDTH * WIDTH
    zero, one = fill(WIDTH, ZERO), fill(STEPS, ZERO)
    A, L, U, inverse = scratch(4 * N * STEPS), scratch((N + 4) * N * STEPS), scratch(STEPS * N * STEPS), scratch(N * STEPS)
    P, keys = np.zeros((N + 4) * M, np.float32), np.zeros(STEPS * M, np.float32)
    d, w, level = np.zeros(STEPS, np.float32), np.zeros(STEPS * STEPS, np.float32), np.ones(STEPS, np.float32)
    U[: STEPS * N * STEPS] = 0
    for unit in range(first, last):
        b, h = unit // H, unit % H
        for i in range(K):
            for j in range(0, K, WIDTH):
                store(P, i * M + j, load_first(zero, start, (unit * K + i) * K + j, K - j))
        for t in range(0, T, STEPS):
            n, row = min(STEPS, T - t), (b * T + t) * H + h
            remains(n, row, H, b * T + t, beta, log_decay, reset, d, w)
            for s in range(n):
                at, weight = (row + s * H) * K, load(one, w, s * STEPS)
                for i in range(K):
                    keys[s * M + i] = k[at + i]
                    store(U, (s * N + i) * STEPS, weight * k[at + i])
                if levels is not None:
                    level[s] = levels[row + s * H]
            for i in range(0, N, 4):
                build(i, n, N, M, P, d, keys, U, A)
                for r in range(4):
                    at, more = (r * N + i + r) * STEPS, load(one, level, 0)
                    if ridge is not None:
                        more = splat(one, ridge[h * K + i + r] if i + r < K else np.float32(1))
                    store(A, at, load(one, A, at) + more)
                eliminate(i, N, A, L, inverse)
            A[:] = 0
            for s in range(n):
                for i in range(K):
                    A[i * STEPS + s] = q[(row + s * H) * K + i]
            eliminate(N, N, A, L, inverse)
            substitute(N, L)
            for s in range(n):
                for i in range(K):
                    x[(row + s * H) * K + i] = L[(N * N + i) * STEPS + s]
            advance(n, K, M, d, w, keys, P)
        for i in range(K):
            for j in range(0, K, WIDTH):
                store_first(final, (unit * K + i) * K + j, load(zero, P, i * M + j), K - j)


@njit(cache=True, nogil=True)
def solve_shared(team, threads, first, last, args):
    spawn(solve, team, threads, first, last, args)
