"""Recursive least squares: an inverse, the gains it gives, and a memory that learns along them.

    u_t = Q_{t-1} k_t,   s_t = a_t + β_t k_t·u_t,   e_t = c_t u_t,   c_t = β_t / s_t          a = exp(log_decay)     (1)
    Q_t = (Q_{t-1} - c_t u_t u_tᵀ) / a_t                                                      rest Q = Λ⁻¹
    r_t = v_t - W_{t-1}ᵀ k_t,   W_t = W_{t-1} + e_t r_tᵀ,   o_t = W_tᵀ q_t                                          (2)

Q is symmetric, so its rows are its columns: both reads along k are sums of rows, and are gathered while the step before writes them.

Arrays   flat float32.  q, k, u [B,T,H,K]; v, r, o [B,T,H,V]; beta, log_decay [B,T,H]; rest [H,K]; start, final [B,H,K,K], symmetric;
         memory, learnt [B,H,K,V]; reset [B,T] uint8.  u and r are what the backward needs, None where nobody asks.
Units    (batch, head).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, scratch, store
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import pack, padded, unpack

ONE = np.float32(1)


@compiled
def inner(x, y, n):
    """x·y of rows that are padded with zeros."""
    sums = fill(WIDTH, ZERO)
    for d in range(0, n, WIDTH):
        sums = sums + load(sums, x, d) * load(sums, y, d)
    return total(sums)


@compiled
def clear(x, n):
    zero = fill(WIDTH, ZERO)
    for i in range(0, n, WIDTH):
        store(x, i, zero)


@compiled
def to_rest(Q, rest, at, K, M):
    """Q = diag(rest)"""
    clear(Q, K * M)
    for i in range(K):
        Q[i * M + i] = rest[at + i]


@compiled
def combined(rows, K, M, x, out):
    """out = rowsᵀ x"""
    zero = fill(WIDTH, ZERO)
    for d in range(0, M, WIDTH):
        sums = zero
        for i in range(K):
            sums = sums + load(zero, rows, i * M + d) * get(x, i)
        store(out, d, sums)


@compiled
def downdate(Q, K, M, c, u, grow, x, out):
    """Q = grow (Q - c u uᵀ), out = Q x"""
    zero = fill(WIDTH, ZERO)
    for d in range(0, M, WIDTH):
        taken, sums = load(zero, u, d) * grow, zero
        for i in range(K):
            row = load(zero, Q, i * M + d) * grow - taken * (c * get(u, i))
            store(Q, i * M + d, row)
            sums = sums + row * get(x, i)
        store(out, d, sums)


@compiled
def learn(W, K, M, e, r, q, o, k, out):
    """W = W + e rᵀ, o = Wᵀ q, out = Wᵀ k"""
    zero = fill(WIDTH, ZERO)
    for d in range(0, M, WIDTH):
        wrong, read, coming = load(zero, r, d), zero, zero
        for i in range(K):
            row = load(zero, W, i * M + d) + wrong * get(e, i)
            store(W, i * M + d, row)
            read = read + row * get(q, i)
            coming = coming + row * get(k, i)
        store(o, d, read)
        store(out, d, coming)


@shared
@njit(cache=True, nogil=True, error_model="numpy")
def forward(first, last, shape, q, k, v, beta, log_decay, rest, reset, start, memory, o, u, r, final, learnt):
    """Equations (1) and (2).   shape (T, H, K, V)"""
    T, H, K, V = shape
    M, N = padded(K, WIDTH), padded(V, WIDTH)
    Q, W = scratch(K * M), scratch(K * N)
    query, key, following, coming, gain, now = scratch(M), scratch(M), scratch(M), scratch(M), scratch(M), scratch(M)
    value, recalled, read = scratch(N), scratch(N), scratch(N)
    for unit in range(first, last):
        b, h = unit // H, unit % H
        pack(start, unit * K * K, K, K, K, ONE, Q, K, M)
        pack(memory, unit * K * V, V, K, V, ONE, W, K, N)
        pack(k, (b * T * H + h) * K, K, 1 if T > 0 else 0, K, ONE, following, 1, M)
        combined(Q, K, M, following, coming)
        combined(W, K, N, following, recalled)
        for t in range(T):
            row = (b * T + t) * H + h
            pack(q, row * K, K, 1, K, ONE, query, 1, M)
            pack(v, row * V, V, 1, V, ONE, value, 1, N)
            key, following = following, key
            if t + 1 < T:
                pack(k, (row + H) * K, K, 1, K, ONE, following, 1, M)
            if reset[b * T + t]:
                to_rest(Q, rest, h * K, K, M)
                clear(W, K * N)
                clear(recalled, N)
                combined(Q, K, M, key, coming)
            a = ONE if log_decay is None else np.exp(log_decay[row])
            c = beta[row] / (a + beta[row] * inner(key, coming, M))
            for i in range(M):
                now[i] = coming[i]
                gain[i] = c * coming[i]
            for i in range(N):
                value[i] -= recalled[i]
            if u is not None:
                unpack(now, M, 1, K, ONE, u, row * K, K)
                unpack(value, N, 1, V, ONE, r, row * V, V)
            downdate(Q, K, M, c, now, ONE / a, following, coming)
            learn(W, K, N, gain, value, query, read, following, recalled)
            unpack(read, N, 1, V, ONE, o, row * V, V)
        unpack(Q, M, K, K, ONE, final, unit * K * K, K)
        unpack(W, N, K, V, ONE, learnt, unit * K * V, V)
