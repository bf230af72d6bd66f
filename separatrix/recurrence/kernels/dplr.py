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
those in between are computed again. (The difference of running sums that `linear` uses would save that, and drifts.)

Cost     4 K V multiply-adds and a multiplication a token forward; 18 and 4 backward; a unit of work is one (batch, head, block of lanes).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.linear import row_decays
from separatrix.recurrence.kernels.parallel import spawn

CHUNK = 16  # states of [value, lanes] that fit the L2 cache together

LANES = WIDTH


@njit(cache=True, nogil=True)
def sweep(first, last, shape, backwards, x, y, p, q, z, log_decay, reset, write_scale, read_scale, start, out, feed, final):
    """Units (batch, head, value block): S = diag(w) S + p feedᵀ + x yᵀ with feed = Sᵀ q of the state before, out = Sᵀ z.

    Flat float32 arrays: x, p, q, z, log_decay [B,T,H,K]; y, out, feed [B,T,H,V]; start, final [B,H,K,V]; reset [B,T] uint8."""
    T, H, K, V = shape
    blocks = (V + LANES - 1) // LANES
    zero = fill(LANES, ZERO)
    S = scratch(K * LANES)
    w = np.ones(K + WIDTH, np.float32)
    later = 1 if backwards else 0
    for unit in range(first, last):
        b, h, d = unit // (H * blocks), unit // blocks % H, unit % blocks * LANES
        n = V - d
        fed = zero
        for i in range(K):
            s = load_first(zero, start, ((b * H + h) * K + i) * V + d, n)
            store(S, i * LANES, s)
            if not backwards and T > 0:
                fed = fed + get(q, (b * T * H + h) * K + i) * s
        for done in range(T):
            t = b * T + (T - 1 - done if backwards else done)
            at = (t * H + h) * K
            # The transition between this step and the one before it in the direction of the sweep, and the one after.
            through, ahead = at + later * H * K, at
            if not backwards and done + 1 < T:
                ahead = at + H * K
            if backwards and done == 0:
                through = at
                w[:] = 1
            else:
                if reset[t + later]:
                    fed = zero
                    for i in range(K):
                        store(S, i * LANES, zero)
                row_decays(log_decay, through, K, w)
                store_first(feed, ((t + later) * H + h) * V + d, fed, n)
            write = load_first(zero, y, (t * H + h) * V + d, n) * write_scale
            read, coming = zero, zero
            for i in range(K):
                s = get(w, i) * load(zero, S, i * LANES)
                s = s + get(p, through + i) * fed
                s = s + get(x, at + i) * write
                store(S, i * LANES, s)
                read = read + get(z, at + i) * s
                coming = coming + get(q, ahead + i) * s
            store_first(out, (t * H + h) * V + d, read * read_scale, n)
            fed = coming
        if backwards and T > 0:  # through the first step, to the state before it
            at = (b * T * H + h) * K
            row_decays(log_decay, at, K, w)
            store_first(feed, (b * T * H + h) * V + d, fed, n)
            for i in range(K):
                s = zero
                if not reset[b * T]:
                    s = get(w, i) * load(zero, S, i * LANES) + get(p, at + i) * fed
                store(S, i * LANES, s)
        for i in range(K):
            store_first(final, ((b * H + h) * K + i) * V + d, load(zero, S, i * LANES), n)


@njit(cache=True, nogil=True)
def sweep_shared(team, threads, first, last, args):
    spawn(sweep, team, threads, first, last, args)


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


@njit(cache=True, nogil=True)
def key_gradients_shared(team, threads, first, last, args):
    spawn(key_gradients, team, threads, first, last, args)
