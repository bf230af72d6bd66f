"""(P_t + Λ_t) x_t = q_t at every step, by elimination: every lane has a matrix of its own, that of a step or, for a single step, of a head.

    P_t = a_t P_{t-1} + β_t k_t k_tᵀ          a = exp(log_decay): 1, or one number a head                           (1)
    A = P_t + Λ_t = L D Lᵀ,                   L z = q,      Lᵀ x = D⁻¹ z                                            (2)

Steps come in blocks, one a lane in (2), cut where a reset clears P. (1) walks through them with the columns of a row of P in the lanes, up
to the diagonal, and what it finds is transposed in registers. From there on all is arithmetic of lanes with lanes: no sums across, no
square root, no ragged edge.
q is one more row of A, so that eliminating the matrix solves for z too. Rows go in fours, which stay in the L1 cache as L D while L, in
L2, passes by once; tiles of 4 rows and 2 columns stay in registers. Nothing is pivoted: A is positive definite.

Cost     K³/6 multiply-adds a step for the factors, 2 K² for the rest; L takes K² WIDTH / 2 bytes of the L2 cache.
         A unit of work is one (batch, head), for a single step as many of them as a register has lanes.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.chunk import together
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, load, load_first, scratch, splat, store, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import after_each, store_rows, tile
from separatrix.recurrence.kernels.transpose import transpose, transposed

STEPS = WIDTH // 4  # lanes of one register


@compiled
def enter(n, K, M, k, row, heads, beta, log_decay, keys, decay, written):
    """The n steps whose beta is at row, row + heads, ...: keys [steps, M], a_t [steps], β_t k_t [., steps], 1 and 0 beyond."""
    weights = fill(STEPS, ZERO)
    for s in range(STEPS):
        decay[s] = 1
        for i in range(0, M, STEPS):
            store(keys, s * M + i, load_first(weights, k, (row + s * heads) * K + i, K - i) if s < n else weights)
    for s in range(n):
        if log_decay is not None:
            decay[s] = np.exp(log_decay[row + s * heads])
        written[s] = beta[row + s * heads]
    weights = load_first(weights, written, 0, n)
    transpose(keys, 0, M, STEPS, M, written, 0, STEPS)
    for i in range(M):
        store(written, i * STEPS, load(weights, written, i * STEPS) * weights)


@compiled
def build(i, N, M, P, keys, decay, written, A):
    """Rows i to i + 3 of P after each of the steps, up to the diagonal or a little beyond: A [4, N] of lanes. P itself goes on."""
    one = fill(STEPS, ZERO)
    for r in range(4):
        for j in range(0, i + 4, STEPS):
            at = (i + r) * M + j
            rows = after_each(tile(STEPS, one), load(one, P, at), decay, keys, j, M, written, (i + r) * STEPS)
            store(P, at, rows[STEPS - 1])
            store_rows(A, (r * N + j) * STEPS, STEPS, transposed(rows))


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
def whiten(q, at, stride, n, K, N, A, L, inverse, x):
    """The n solutions x[at:] for q[at:], a lane each and so many numbers apart, once all rows are eliminated."""
    A[:] = 0
    transpose(q, at, stride, n, K, A, 0, STEPS)
    eliminate(N, N, A, L, inverse)
    substitute(N, L)
    transpose(L, N * N * STEPS, STEPS, K, n, x, at, stride)


@shared
@njit(cache=True, nogil=True)
def solve(first, last, shape, q, k, beta, log_decay, ridge, levels, reset, start, x, final):
    """Units (batch, head).  Flat float32 arrays: q, k, x [B,T,H,K]; beta, log_decay [B,T,H]; the ridge [H,K], or levels [B,T,H];
    start, final [B,H,K,K]; reset [B,T] uint8."""
    T, H, K = shape
    N, M = (K + 3) // 4 * 4, (K + WIDTH - 1) // WIDTH * WIDTH
    zero, one = fill(WIDTH, ZERO), fill(STEPS, ZERO)
    A, L, inverse = scratch((4 * N + STEPS) * STEPS), scratch((N + 4) * N * STEPS), scratch(N * STEPS)
    P, keys, written = np.zeros((N + 4) * M, np.float32), scratch(STEPS * M), scratch(M * STEPS)
    decay, level = np.zeros(STEPS, np.float32), np.ones(STEPS, np.float32)
    for unit in range(first, last):
        b, h = unit // H, unit % H
        P[K * M :] = 0  # a NaN among the keys of the unit before has spread there
        for i in range(K):
            for j in range(0, K, WIDTH):
                store(P, i * M + j, load_first(zero, start, (unit * K + i) * K + j, K - j))
        t = 0
        while t < T:
            n, row = together(reset, b * T + t, min(STEPS, T - t)), (b * T + t) * H + h
            if reset[b * T + t]:
                P[:] = ZERO
            enter(n, K, M, k, row, H, beta, log_decay, keys, decay, written)
            if levels is not None:
                for s in range(n):
                    level[s] = levels[row + s * H]
            for i in range(0, N, 4):
                build(i, N, M, P, keys, decay, written, A)
                for r in range(4):
                    at, more = (r * N + i + r) * STEPS, load(one, level, 0)
                    if ridge is not None:
                        more = splat(one, ridge[h * K + i + r] if i + r < K else np.float32(1))
                    store(A, at, load(one, A, at) + more)
                eliminate(i, N, A, L, inverse)
            whiten(q, row * K, H * K, n, K, N, A, L, inverse, x)
            t += n
        for i in range(K):
            for j in range(K):
                final[(unit * K + i) * K + j] = P[max(i, j) * M + min(i, j)]


@compiled
def step(unit, K, k, weight, decay, start, final):
    """(1) once, for the rows of one (batch, head); symmetric to the last bit. None for start where a reset clears it."""
    zero = fill(WIDTH, ZERO)
    for i in range(K):
        for j in range(0, K, WIDTH):
            at, n = (unit * K + i) * K + j, K - j
            P = load_first(zero, k, unit * K + j, n) * k[unit * K + i] * weight
            if start is not None:
                P = load_first(zero, start, at, n) * decay + P
            store_first(final, at, P, n)


@shared
@njit(cache=True, nogil=True)
def solve_one(first, last, shape, q, k, beta, log_decay, ridge, levels, reset, start, x, final):
    """As `solve` for T = 1, shape (B H, H, K); units of STEPS (batch, head)."""
    heads, H, K = shape
    N = (K + 3) // 4 * 4
    one = fill(STEPS, ZERO)
    A, L, inverse = scratch((4 * N + STEPS) * STEPS), scratch((N + 4) * N * STEPS), scratch(N * STEPS)
    level = np.ones(STEPS, np.float32)
    for unit in range(first, last):
        begin = unit * STEPS
        n = min(STEPS, heads - begin)
        for s in range(n):
            each = begin + s
            decay = np.exp(log_decay[each]) if log_decay is not None else np.float32(1)
            if reset[each // H]:
                step(each, K, k, beta[each], decay, None, final)
            else:
                step(each, K, k, beta[each], decay, start, final)
            if levels is not None:
                level[s] = levels[each]
        level[n:] = 1
        for i in range(0, N, 4):
            A[:] = 0
            for r in range(4):
                if i + r < K:
                    transpose(final, (begin * K + i + r) * K, K * K, n, min(i + 4, K), A, r * N * STEPS, STEPS)
                if ridge is not None:
                    for s in range(n):
                        level[s] = ridge[(begin + s) % H * K + i + r] if i + r < K else np.float32(1)
                at = (r * N + i + r) * STEPS
                store(A, at, load(one, A, at) + load(one, level, 0))
            eliminate(i, N, A, L, inverse)
        whiten(q, begin * K, K, n, K, N, A, L, inverse, x)
