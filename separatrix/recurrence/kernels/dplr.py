"""Diagonal plus rank one, forward and backward, without ever storing a state history.

    S_t = diag(w_t) S_{t-1} + b_t u_tᵀ + k_t v_tᵀ        u_t = S_{t-1}ᵀ a_t        o_t = scale · S_tᵀ r_t        S is [key, value]
    X_t = diag(w_{t+1}) X_{t+1} + a_{t+1} u'_{t+1}ᵀ + scale · r_t do_tᵀ             u'_t = X_tᵀ b_t = dL/du_t     X_t = dL/dS_t

The adjoint is the forward recurrence with the roles exchanged, so one sweep computes both, and what a step feeds back (u, u') is gathered
while the state of the step before passes by: a state is loaded and stored once a step.

                 time   writes          feeds back       reads
    forward      ->     k v             b, by a          r -> o
    adjoint      <-     r do            a, by b          k -> dL/dv

Given u and u', both are rank-two updates, and the gradients of what lies along the keys are reads with the states laid out [value, key]:

    ->   dL/dr = scale · S_t do_t,  dL/da_t = S_{t-1} u'_t
    <-   dL/dk = X_t v_t,  dL/db = X_t u_t,  dL/dlog w_t = w_t <S_{t-1}, X_t> over values

The last needs a state and an adjoint of the same step at once: the sweep forward leaves the state before every CHUNK-th step, from which
those in between are computed again. (The difference of two running sums would save that, and drifts.)

Cost     4 K V multiply-adds and a multiplication a token forward; 18 and 4 backward; a unit of work is one (batch, head, block of lanes).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.exponential import exp, row_decays
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fetch, fill, get, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared

CHUNK = 16  # states of [value, lanes] that fit the L2 cache together

LANES = WIDTH
PART = 64  # values of a unit of the sweep: what lies along the keys is read once for all of them


@shared
@njit(cache=True, nogil=True)
def sweep(first, last, shape, backwards, x, y, p, q, z, log_decay, reset, write_scale, read_scale, start, out, feed, final):
    """Units (batch, head, PART values): S = diag(w) S + p feedᵀ + x yᵀ with feed = Sᵀ q of the state before, out = Sᵀ z.

    Flat float32 arrays: x, p, q, z, log_decay [B,T,H,K]; y, out, feed [B,T,H,V]; start, final [B,H,K,V]; reset [B,T] uint8."""
    T, H, K, V = shape
    parts = (V + PART - 1) // PART
    zero = fill(LANES, ZERO)
    S, fed = scratch(K * PART), scratch(PART)
    w = np.ones(K + WIDTH, np.float32)
    later = 1 if backwards else 0
    onward = -H * K if backwards else H * K
    for unit in range(first, last):
        b, h, left = unit // (H * parts), unit // parts % H, unit % parts * PART
        n = min(PART, V - left)
        for d in range(0, n, LANES):
            read = zero
            for i in range(K):
                s = load_first(zero, start, ((b * H + h) * K + i) * V + left + d, n - d)
                store(S, i * PART + d, s)
                if not backwards and T > 0:
                    read = read + get(q, (b * T * H + h) * K + i) * s
            store(fed, d, read)
        for done in range(T):
            t = b * T + (T - 1 - done if backwards else done)
            at, row = (t * H + h) * K, (t * H + h) * V + left
            # The transition between this step and the one before it in the direction of the sweep, and the one after.
            through, ahead = at + later * H * K, at
            if not backwards and done + 1 < T:
                ahead = at + H * K
            if backwards and done == 0:
                through = at
                w[:] = 1
            else:
                if reset[t + later]:
                    fed[:] = ZERO
                    S[:] = ZERO
                row_decays(log_decay, through, K, w)
                for d in range(0, n, LANES):
                    store_first(feed, row + later * H * V + d, load(zero, fed, d), n - d)
            if done + 2 < T:
                fetch(log_decay, through + onward, K)
                fetch(p, through + onward, K)
                fetch(x, at + onward, K)
                fetch(z, at + onward, K)
                fetch(q, ahead + onward, K)
                fetch(y, row + (-H * V if backwards else H * V), n)
            for d in range(0, n, LANES):
                write, back = load_first(zero, y, row + d, n - d) * write_scale, load(zero, fed, d)
                read, coming = zero, zero
                for i in range(K):
                    s = get(w, i) * load(zero, S, i * PART + d)
                    s = s + get(p, through + i) * back
                    s = s + get(x, at + i) * write
                    store(S, i * PART + d, s)
                    read = read + get(z, at + i) * s
                    coming = coming + get(q, ahead + i) * s
                store_first(out, row + d, read * read_scale, n - d)
                store(fed, d, coming)
        if backwards and T > 0:  # through the first step, to the state before it
            at = (b * T * H + h) * K
            row_decays(log_decay, at, K, w)
            for d in range(0, n, LANES):
                back = load(zero, fed, d)
                store_first(feed, (b * T * H + h) * V + left + d, back, n - d)
                for i in range(K):
                    s = zero
                    if not reset[b * T]:
                        s = get(w, i) * load(zero, S, i * PART + d) + get(p, at + i) * back
                    store(S, i * PART + d, s)
        for d in range(0, n, LANES):
            for i in range(K):
                store_first(final, ((b * H + h) * K + i) * V + left + d, load(zero, S, i * PART + d), n - d)


@shared
@njit(cache=True, nogil=True)
def key_gradients(
    first,
    last,
    shape,
    r,
    k,
    v,
    a,
    b,
    log_decay,
    reset,
    scale,
    fed,
    start,
    grad_o,
    grad_fed,
    grad_final,
    grad_r,
    grad_k,
    grad_a,
    grad_b,
    grad_decay,
):
    """Units (batch, head, key block).  r, k, a, b, log_decay and their gradients [B,T,H,K]; v, fed, grad_o, grad_fed [B,T,H,V];
    start, grad_final [B,H,V,K], transposed."""
    T, H, K, V = shape
    blocks = (K + LANES - 1) // LANES
    zero = fill(LANES, ZERO)
    size = V * LANES
    S, X = scratch(size), scratch(size)
    kept, before = scratch((T + CHUNK - 1) // CHUNK * size), scratch(CHUNK * size)
    for unit in range(first, last):
        batch, h, d = unit // (H * blocks), unit // blocks % H, unit % blocks * LANES
        n = K - d
        # Forward in time: dL/dr and dL/da.
        read = zero
        for j in range(V):
            s = load_first(zero, start, ((batch * H + h) * V + j) * K + d, n)
            store(S, j * LANES, s)
            read = read + get(grad_fed, (batch * T * H + h) * V + j) * s
        for i in range(T):
            t = batch * T + i
            at, row = (t * H + h) * K + d, (t * H + h) * V
            if i % CHUNK == 0:
                kept[i // CHUNK * size : (i // CHUNK + 1) * size] = S
            if reset[t]:
                read = zero
                for j in range(V):
                    store(S, j * LANES, zero)
            store_first(grad_a, at, read, n)
            ahead = row + H * V if i + 1 < T else row
            w, back, key = exp(load_first(zero, log_decay, at, n)), load_first(zero, b, at, n), load_first(zero, k, at, n)
            if i + 2 < T:
                for rows in (fed, v, grad_o):
                    fetch(rows, row + H * V, V)
                fetch(grad_fed, ahead + H * V, V)
                for lanes in (log_decay, b, k):
                    fetch(lanes, at + H * K, LANES)
            out, read = zero, zero
            for j in range(V):
                s = w * load(zero, S, j * LANES)
                s = s + get(fed, row + j) * back
                s = s + get(v, row + j) * key
                store(S, j * LANES, s)
                out = out + get(grad_o, row + j) * s
                read = read + get(grad_fed, ahead + j) * s
            store_first(grad_r, at, out * scale, n)
        # Backward in time: dL/dk, dL/db and the decay's.
        for j in range(V):
            store(X, j * LANES, load_first(zero, grad_final, ((batch * H + h) * V + j) * K + d, n))
        later_w, later_a = fill(LANES, np.float32(1)), zero
        later = ((batch * T + T - 1) * H + h) * V
        for chunk in range((T + CHUNK - 1) // CHUNK - 1, -1, -1):
            begin = batch * T + chunk * CHUNK
            steps = min(CHUNK, (batch + 1) * T - begin)
            before[:size] = kept[chunk * size : (chunk + 1) * size]
            for i in range(steps):
                t = begin + i
                at, row = (t * H + h) * K + d, (t * H + h) * V
                if reset[t]:
                    before[i * size : (i + 1) * size] = 0
                if i + 1 < steps:
                    w, back, key = exp(load_first(zero, log_decay, at, n)), load_first(zero, b, at, n), load_first(zero, k, at, n)
                    for j in range(V):
                        s = w * load(zero, before, i * size + j * LANES)
                        s = s + get(fed, row + j) * back
                        s = s + get(v, row + j) * key
                        store(before, (i + 1) * size + j * LANES, s)
            for i in range(steps - 1, -1, -1):
                t = begin + i
                at, row = (t * H + h) * K + d, (t * H + h) * V
                query = load_first(zero, r, at, n) * scale
                if t - CHUNK >= batch * T:
                    for rows in (fed, v, grad_o, grad_fed):
                        fetch(rows, row - CHUNK * H * V, V)
                    for lanes in (log_decay, b, k, r, a):
                        fetch(lanes, at - CHUNK * H * K, LANES)
                dk, db, dw = zero, zero, zero
                for j in range(V):
                    x = later_w * load(zero, X, j * LANES)
                    x = x + get(grad_fed, later + j) * later_a
                    x = x + get(grad_o, row + j) * query
                    store(X, j * LANES, x)
                    dk = dk + get(v, row + j) * x
                    db = db + get(fed, row + j) * x
                    dw = dw + load(zero, before, i * size + j * LANES) * x
                w = exp(load_first(zero, log_decay, at, n))
                store_first(grad_k, at, dk, n)
                store_first(grad_b, at, db, n)
                store_first(grad_decay, at, dw * w, n)
                later, later_w, later_a = row, w, load_first(zero, a, at, n)
                if reset[t]:
                    later_a = zero
                    for j in range(V):
                        store(X, j * LANES, zero)
