"""The backward of `least_squares`, its states made again from what the forward left.

For a loss with gradients do_t, and G_t and Y_t at Q_t and W_t once q_t has read, X_t = G_t + G_tᵀ and p_t = X_t u_t / a_t:

    dr = Yᵀ e,            dv = dr,   de = Y r,   dq = W_t do                                                       (3)
    dc = de·u - u·p / 2,  ds = -dc c / s,   du = c (de - p) + ds β k
    dβ = dc / s + ds k·u, dk = ds β u + Q_{t-1} du - W_{t-1} dr,   dlog a = a ds - z_t,   z_t = <G_t, Q_t>
    Y_{t-1} = Y_t - k drᵀ + q_{t-1} do_{t-1}ᵀ,   X_{t-1} = X_t / a_t + du kᵀ + k duᵀ,   z_{t-1} = z_t + c u·p / 2 + du·u

One sweep back in time for X and Y, one forward for what Q and W are needed for. z is computed as it stands where both its factors are
known, after every CHUNK-th step, and by its recursion in between: over all steps that sum would drift. Reads across a row take four rows
at a time.

Arrays   flat float32.  q, k, u, dq, dk [B,T,H,K]; v, r, do, dv [B,T,H,V]; beta, log_decay, dbeta, ddecay [B,T,H]; rest [H,K],
         drest [B,H,K]; start, X, dstart [B,H,K,K], symmetric; memory, Y, dmemory [B,H,K,V]; reset [B,T] uint8.
Units    (batch, head).
Cost     6 K² + 7 K V multiply-adds a step and 2 K² multiplications.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import dot
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.dense import line, totals
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, scratch, store
from separatrix.recurrence.kernels.least_squares import ONE, clear, combined, downdate, inner, to_rest
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import pack, padded, unpack

CHUNK = 32
HALF = np.float32(0.5)


@compiled
def _unlearn(Y, at, i, read, q, wrong, back, k, u, coming):
    """Row i of Y = Y + q doᵀ - k drᵀ: what r and then u read of it."""
    row = load(read, Y, at) + read * get(q, i)
    de = dot(line(Y), row, wrong)
    row = row - back * get(k, i)
    store(Y, at, row)
    return de, coming + row * get(u, i)


@compiled
def unlearn(Y, K, M, do, q, r, dr, k, de, u, out):
    """Y = Y + q doᵀ, de = Y r, Y = Y - k drᵀ, out = Yᵀ u.   K a multiple of 4"""
    zero, four = fill(WIDTH, ZERO), fill(4, ZERO)
    clear(de, padded(K, WIDTH))
    for d in range(0, M, WIDTH):
        read, wrong, back, coming = load(zero, do, d), load(zero, r, d), load(zero, dr, d), zero
        for i in range(0, K, 4):
            at = i * M + d
            s0, coming = _unlearn(Y, at, i, read, q, wrong, back, k, u, coming)
            s1, coming = _unlearn(Y, at + M, i + 1, read, q, wrong, back, k, u, coming)
            s2, coming = _unlearn(Y, at + 2 * M, i + 2, read, q, wrong, back, k, u, coming)
            s3, coming = _unlearn(Y, at + 3 * M, i + 3, read, q, wrong, back, k, u, coming)
            store(de, i, load(four, de, i) + totals(s0, s1, s2, s3))
        store(out, d, coming)


@compiled
def _learn_again(W, at, i, e, wrong, back, read):
    """What dr reads of row i of W, and do once it has learnt."""
    row = load(wrong, W, at)
    before = dot(line(W), row, back)
    row = row + wrong * get(e, i)
    store(W, at, row)
    return before, dot(line(W), row, read)


@compiled
def learn_again(W, K, M, e, r, dr, do, dk, dq):
    """dk = W dr, W = W + e rᵀ, dq = W do.   K a multiple of 4"""
    zero, four = fill(WIDTH, ZERO), fill(4, ZERO)
    clear(dk, padded(K, WIDTH))
    clear(dq, padded(K, WIDTH))
    for d in range(0, M, WIDTH):
        wrong, back, read = load(zero, r, d), load(zero, dr, d), load(zero, do, d)
        for i in range(0, K, 4):
            at = i * M + d
            b0, a0 = _learn_again(W, at, i, e, wrong, back, read)
            b1, a1 = _learn_again(W, at + M, i + 1, e, wrong, back, read)
            b2, a2 = _learn_again(W, at + 2 * M, i + 2, e, wrong, back, read)
            b3, a3 = _learn_again(W, at + 3 * M, i + 3, e, wrong, back, read)
            store(dk, i, load(four, dk, i) + totals(b0, b1, b2, b3))
            store(dq, i, load(four, dq, i) + totals(a0, a1, a2, a3))


@compiled
def adjoint(X, K, M, grow, du, k, u, out):
    """X = grow X + du kᵀ + k duᵀ, out = X u"""
    zero = fill(WIDTH, ZERO)
    for d in range(0, M, WIDTH):
        along, key, coming = load(zero, du, d), load(zero, k, d), zero
        for i in range(K):
            row = load(zero, X, i * M + d) * grow + along * get(k, i)
            row = row + key * get(du, i)
            store(X, i * M + d, row)
            coming = coming + row * get(u, i)
        store(out, d, coming)


@shared
@njit(cache=True, nogil=True, error_model="numpy")
def backward(
    first,
    last,
    shape,
    q,
    k,
    beta,
    log_decay,
    rest,
    reset,
    start,
    memory,
    u,
    r,
    do,
    X,
    Y,
    dq,
    dk,
    dv,
    dbeta,
    ddecay,
    drest,
    dstart,
    dmemory,
):
    """Equations (3); between the sweeps dk holds du, ddecay what it knows without z.   shape (T, H, K, V)"""
    T, H, K, V = shape
    M, N, K4 = padded(K, WIDTH), padded(V, WIDTH), padded(K, 4)
    size = K * M
    Q, W = scratch(size), scratch(K4 * N)  # X and Y on the way back
    query, key, seen, following, read, de = scratch(M), scratch(M), scratch(M), scratch(M), scratch(M), scratch(M)
    wrong, asked, back, pushed = scratch(N), scratch(N), scratch(N), scratch(N)
    kept = scratch((T + CHUNK - 1) // CHUNK * size if ddecay is not None else 0)
    gains, along, gone = np.zeros(T, np.float32), np.zeros(T, np.float32), np.zeros(T)
    for unit in range(first, last):
        b, h = unit // H, unit % H
        pack(X, unit * K * K, K, K, K, ONE, Q, K, M)
        pack(Y, unit * K * V, V, K, V, ONE, W, K4, N)
        drest[unit * K : (unit + 1) * K] = 0
        pack(u, ((b * T + T - 1) * H + h) * K, K, min(T, 1), K, ONE, following, 1, M)
        combined(Q, K, M, following, read)
        combined(W, K, N, following, pushed)
        for t in range(T - 1, -1, -1):
            row = (b * T + t) * H + h
            seen, following = following, seen
            pack(q, row * K, K, 1, K, ONE, query, 1, M)
            pack(k, row * K, K, 1, K, ONE, key, 1, M)
            pack(r, row * V, V, 1, V, ONE, wrong, 1, N)
            pack(do, row * V, V, 1, V, ONE, asked, 1, N)
            if t > 0:
                pack(u, (row - H) * K, K, 1, K, ONE, following, 1, M)
            if ddecay is not None and (t + 1 == T or (t + 1) % CHUNK == 0):
                kept[t // CHUNK * size : (t // CHUNK + 1) * size] = Q
            a = ONE if log_decay is None else np.exp(log_decay[row])
            known, met = inner(key, seen, M), inner(query, seen, M)
            s = a + beta[row] * known
            c = beta[row] / s
            for j in range(N):
                back[j] = c * (pushed[j] + met * asked[j])
            unpack(back, N, 1, V, ONE, dv, row * V, V)
            unlearn(W, K4, N, asked, query, wrong, back, key, de, following, pushed)
            through = HALF * inner(seen, read, M) / a
            dc = inner(de, seen, M) - through
            ds = -dc * c / s
            gains[t], along[t] = c, ds * beta[row]
            for i in range(M):
                de[i] = c * (de[i] - read[i] / a) + along[t] * key[i]
            unpack(de, M, 1, K, ONE, dk, row * K, K)
            dbeta[row] = dc / s + ds * known
            if ddecay is not None:
                ddecay[row] = a * ds
                gone[t] = c * through + inner(de, seen, M)
            adjoint(Q, K, M, ONE / a, de, key, following, read)
            if reset[b * T + t]:
                for i in range(K):
                    drest[unit * K + i] += HALF * Q[i * M + i]
                clear(Q, size)
                clear(W, K4 * N)
                clear(read, M)
                clear(pushed, N)
        unpack(Q, M, K, K, HALF, dstart, unit * K * K, K)
        unpack(W, N, K, V, ONE, dmemory, unit * K * V, V)
        pack(start, unit * K * K, K, K, K, ONE, Q, K, M)
        pack(memory, unit * K * V, V, K, V, ONE, W, K4, N)
        pack(dk, (b * T * H + h) * K, K, min(T, 1), K, ONE, following, 1, M)
        combined(Q, K, M, following, read)
        for t in range(T):
            row = (b * T + t) * H + h
            pack(u, row * K, K, 1, K, ONE, seen, 1, M)
            pack(r, row * V, V, 1, V, ONE, wrong, 1, N)
            pack(dv, row * V, V, 1, V, ONE, back, 1, N)
            pack(do, row * V, V, 1, V, ONE, asked, 1, N)
            if reset[b * T + t]:
                to_rest(Q, rest, h * K, K, M)
                clear(W, K4 * N)
                combined(Q, K, M, following, read)
            for i in range(M):
                key[i] = gains[t] * seen[i]
            learn_again(W, K4, N, key, wrong, back, asked, de, query)
            unpack(query, M, 1, K, ONE, dq, row * K, K)
            for i in range(K):
                dk[row * K + i] = along[t] * seen[i] + read[i] - de[i]
            if t + 1 < T:
                pack(dk, (row + H) * K, K, 1, K, ONE, following, 1, M)
            a = ONE if log_decay is None else np.exp(log_decay[row])
            downdate(Q, K, M, gains[t], seen, ONE / a, following, read)
            if ddecay is not None and (t + 1 == T or (t + 1) % CHUNK == 0):
                z = np.float64(HALF) * inner(kept[t // CHUNK * size :], Q, size)
                for past in range(t, t // CHUNK * CHUNK - 1, -1):
                    ddecay[(b * T + past) * H + h] -= z
                    z = 0.0 if reset[b * T + past] else z + gone[past]
