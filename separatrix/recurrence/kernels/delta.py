"""The delta rule, forward and backward, without ever storing a state history.

    S'_t = diag(a_t) S_{t-1}           a = exp(log_decay): 1, one number a head, or one a key dimension
    e_t  = v_t - S'_tᵀ k_t             the prediction error
    S_t  = S'_t + β_t k_t e_tᵀ         S is [key, value]
    o_t  = scale · S_tᵀ q_t

Given the errors, the state is linear attention in k and β e, so, as in `linear`, every gradient is a read of S or of its adjoint
X_t = dL/dS_t, laid out so that the result lies along the lanes:

    forward  rows key,   lanes value, time ->    o, e
    adjoint  rows key,   lanes value, time <-    w_t = dL/dv_t = β_t X_tᵀ k_t, dL/dβ = e_t X_tᵀ k_t, dL/dS_0
    keys     rows value, lanes key,   time <-    X_t β_t e_t
             rows value, lanes key,   time ->    dL/dq = scale · S_t do_t, dL/dk = X_t β_t e_t - S'_t w_t, and with them
             dL/dlog a_t = dL/dlog a_{t+1} + q_t dL/dq'_t - k_t (X'_t β_t e_t + S'_t w_t)      per key dimension

where X'_{t-1} = diag(a_t) (X_t - k_t w_tᵀ), X_t = X'_t + scale · q_t do_tᵀ, and primes leave out what step t does to itself (see `linear`).
States are recomputed forward in time and adjoints backward, so memory does not grow beyond the inputs and nothing is inverted.
A 64 x 64 state is 16 KB and stays in the L1 cache.

Cost     3 K V multiply-adds a token forward, 9 backward, 4 and 12 with a decay; a unit of work is one (batch, head, block of lanes).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.lanes import (
    WIDTH,
    ZERO,
    fill,
    get,
    load,
    load_first,
    scratch,
    splat,
    store,
    store_first,
    total,
)
from separatrix.recurrence.kernels.linear import inner, row_decays, share_out
from separatrix.recurrence.kernels.parallel import spawn


@njit(cache=True, nogil=True)
def forward(first, last, shape, q, k, v, beta, head_decay, key_decay, reset, scale, start, o, error, final):
    """Units (batch, head, value block).  Flat float32 arrays: q, k [B,T,G,K]; v, o, error [B,T,H,V]; beta, head_decay [B,T,H];
    key_decay [B,T,H,K]; start, final [B,H,K,V]; reset [B,T] uint8.  Head h reads group h // (H // G)."""
    T, G, H, K, V = shape
    blocks = (V + WIDTH - 1) // WIDTH
    zero = fill(WIDTH, ZERO)
    S = scratch(K * WIDTH)
    a, next_a, next_k = np.ones(K + WIDTH, np.float32), np.ones(K + WIDTH, np.float32), np.zeros(K + WIDTH, np.float32)
    for unit in range(first, last):
        b, h, d = unit // (H * blocks), unit // blocks % H, unit % blocks * WIDTH
        lanes = V - d
        for i in range(K):
            store(S, i * WIDTH, load_first(zero, start, ((b * H + h) * K + i) * V + d, lanes))
        read = zero  # S'_tᵀ k_t of the step to come, gathered while the state passes by
        for t in range(-1, T):
            # Next step's keys, decayed, since `read` sees the state before that decay.
            if t + 1 < T:
                ahead = (b * T + t + 1) * H + h
                here = ((b * T + t + 1) * G + h // (H // G)) * K
                if key_decay is not None:
                    row_decays(key_decay, ahead * K, K, next_a)
                for i in range(K):
                    next_k[i] = k[here + i] * next_a[i]
            if t < 0:
                for i in range(K):
                    read = read + next_k[i] * load(zero, S, i * WIDTH)
            else:
                row = (b * T + t) * H + h
                at = ((b * T + t) * G + h // (H // G)) * K
                if reset[b * T + t]:
                    read = zero
                    for i in range(K):
                        store(S, i * WIDTH, zero)
                write = load_first(zero, v, row * V + d, lanes)
                write = write - read
                store_first(error, row * V + d, write, lanes)
                write = write * beta[row]
                decay = np.float32(1)
                if head_decay is not None:
                    decay = np.float32(np.exp(head_decay[row]))
                out, read = zero, zero
                for i in range(K):
                    state = load(zero, S, i * WIDTH)
                    if key_decay is not None:
                        state = get(a, i) * state
                    elif head_decay is not None:
                        state = decay * state
                    state = state + get(k, at + i) * write
                    store(S, i * WIDTH, state)
                    out = out + get(q, at + i) * state
                    read = read + get(next_k, i) * state
                store_first(o, row * V + d, out * scale, lanes)
            a, next_a = next_a, a
            if head_decay is not None and t + 1 < T:
                read = read * np.float32(np.exp(head_decay[(b * T + t + 1) * H + h]))
        for i in range(K):
            store_first(final, ((b * H + h) * K + i) * V + d, load(zero, S, i * WIDTH), lanes)


@njit(cache=True, nogil=True)
def forward_shared(team, threads, first, last, args):
    spawn(forward, team, threads, first, last, args)


@njit(cache=True, nogil=True)
def adjoint(first, last, shape, q, k, beta, head_decay, key_decay, reset, scale, error, grad_o, grad_final, grad_v, grad_beta, grad_start):
    """Units (batch, head, value block), time backwards.  error, grad_o, grad_v [B,T,H,V]; grad_final, grad_start [B,H,K,V];
    grad_beta [B,T,H,blocks], to be summed over the value blocks."""
    T, G, H, K, V = shape
    blocks = (V + WIDTH - 1) // WIDTH
    zero = fill(WIDTH, ZERO)
    X = scratch(K * WIDTH)
    a = np.empty(K + WIDTH, np.float32)
    for unit in range(first, last):
        b, h, d = unit // (H * blocks), unit // blocks % H, unit % blocks * WIDTH
        lanes = V - d
        for i in range(K):
            store(X, i * WIDTH, load_first(zero, grad_final, ((b * H + h) * K + i) * V + d, lanes))
        # What step t + 1 did to the state is undone when X arrives at t: minus k w', then the decay.
        write, decay, later = zero, np.float32(1), ((b * T + T - 1) * G + h // (H // G)) * K
        a[:] = 1
        for t in range(T - 1, -1, -1):
            row = (b * T + t) * H + h
            at = ((b * T + t) * G + h // (H // G)) * K
            if t + 1 < T and reset[b * T + t + 1]:
                write = zero
                for i in range(K):
                    store(X, i * WIDTH, zero)
            into = load_first(zero, grad_o, row * V + d, lanes) * scale
            read = zero
            for i in range(K):
                x = load(zero, X, i * WIDTH)
                x = x - get(k, later + i) * write
                if key_decay is not None:
                    x = get(a, i) * x
                elif head_decay is not None:
                    x = decay * x
                x = x + get(q, at + i) * into
                store(X, i * WIDTH, x)
                read = read + get(k, at + i) * x
            grad_beta[row * blocks + unit % blocks] = total(read * load_first(zero, error, row * V + d, lanes))
            read = read * beta[row]
            store_first(grad_v, row * V + d, read, lanes)
            write, later = read, at
            if key_decay is not None:
                row_decays(key_decay, row * K, K, a)
            elif head_decay is not None:
                decay = np.float32(np.exp(head_decay[row]))
        for i in range(K):
            x = zero
            if not reset[b * T]:
                x = load(zero, X, i * WIDTH)
                x = x - get(k, later + i) * write
                if key_decay is not None:
                    x = get(a, i) * x
                elif head_decay is not None:
                    x = decay * x
            store_first(grad_start, ((b * H + h) * K + i) * V + d, x, lanes)


@njit(cache=True, nogil=True)
def key_gradients(
    first,
    last,
    shape,
    q,
    k,
    beta,
    head_decay,
    key_decay,
    reset,
    scale,
    error,
    start,
    before,
    grad_o,
    grad_final,
    grad_v,
    grad_q,
    grad_k,
    grad_decay,
):
    """Units (batch, head, key block).  error [B,T,H,V]; start, grad_final [B,H,V,K], transposed;
    before [B,H,K] = <S_0, dL/dS_0> over values;
    grad_q, grad_k [B,T,H,K]; grad_decay [B,T,H,K] per key, [B,T,H,blocks] per head, to be summed over the key blocks."""
    T, G, H, K, V = shape
    blocks = (K + WIDTH - 1) // WIDTH
    zero = fill(WIDTH, ZERO)
    S = scratch(V * WIDTH)
    for unit in range(first, last):
        b, h, block = unit // (H * blocks), unit // blocks % H, unit % blocks
        d = block * WIDTH
        lanes = K - d
        # Backward in time: X_t r_t, kept in grad_k.
        for j in range(V):
            store(S, j * WIDTH, load_first(zero, grad_final, ((b * H + h) * V + j) * K + d, lanes))
        key, a, later = zero, fill(WIDTH, np.float32(1)), 0
        for t in range(T - 1, -1, -1):
            row = (b * T + t) * H + h
            at = ((b * T + t) * G + h // (H // G)) * K + d
            if t + 1 < T and reset[b * T + t + 1]:
                key = zero
                for j in range(V):
                    store(S, j * WIDTH, zero)
            query = load_first(zero, q, at, lanes) * scale
            read = zero
            for j in range(V):
                x = load(zero, S, j * WIDTH)
                x = x - get(grad_v, later + j) * key
                if key_decay is not None or head_decay is not None:
                    x = a * x
                read = read + get(error, row * V + j) * x
                x = x + get(grad_o, row * V + j) * query
                store(S, j * WIDTH, x)
            read = read * beta[row]
            store_first(grad_k, row * K + d, read, lanes)
            key, later = load_first(zero, k, at, lanes), row * V
            if key_decay is not None:
                a = exp(load_first(zero, key_decay, row * K + d, lanes))
            elif head_decay is not None:
                a = splat(zero, np.exp(head_decay[row]))
        # Forward in time: dL/dq, the rest of dL/dk, and each step's share of dL/dlog a.
        for j in range(V):
            store(S, j * WIDTH, load_first(zero, start, ((b * H + h) * V + j) * K + d, lanes))
        for t in range(T):
            row = (b * T + t) * H + h
            at = ((b * T + t) * G + h // (H // G)) * K + d
            if reset[b * T + t]:
                for j in range(V):
                    store(S, j * WIDTH, zero)
            key = load_first(zero, k, at, lanes)
            write = key
            write = key * beta[row]
            if key_decay is not None:
                a = exp(load_first(zero, key_decay, row * K + d, lanes))
            elif head_decay is not None:
                a = splat(zero, np.exp(head_decay[row]))
            out, read = zero, zero
            for j in range(V):
                state = load(zero, S, j * WIDTH)
                if key_decay is not None or head_decay is not None:
                    state = a * state
                read = read + get(grad_v, row * V + j) * state
                out = out + get(grad_o, row * V + j) * state
                state = state + get(error, row * V + j) * write
                store(S, j * WIDTH, state)
            out = out * scale
            through = load_first(zero, grad_k, row * K + d, lanes)
            query = load_first(zero, q, at, lanes)
            own = inner(error, row * V, grad_o, row * V, V) * beta[row] * scale
            store_first(grad_q, row * K + d, out + own * key, lanes)
            store_first(grad_k, row * K + d, through - read + own * query, lanes)
            change = query * out - key * (through + read)
            if key_decay is not None:
                store_first(grad_decay, row * K + d, change, lanes)
            elif head_decay is not None:
                grad_decay[row * blocks + block] = total(change)
        # The shares, summed from the end of each stretch, where <S, dL/dS> is known; what rounding left at its beginning is shared out.
        if key_decay is not None or head_decay is not None:
            rest, settled = zero, T
            for j in range(V):
                rest = rest + load_first(zero, grad_final, ((b * H + h) * V + j) * K + d, lanes) * load(zero, S, j * WIDTH)
            head_rest = total(rest)
            for t in range(T - 1, -1, -1):
                row = (b * T + t) * H + h
                known = zero
                if t == 0 and not reset[b * T]:
                    known = load_first(zero, before, (b * H + h) * K + d, lanes)
                if key_decay is not None:
                    rest = rest + load_first(zero, grad_decay, row * K + d, lanes)
                    store_first(grad_decay, row * K + d, rest, lanes)
                    if t == 0 or reset[b * T + t]:
                        share_out(known - rest, grad_decay, row * K + d, H * K, settled - t, lanes)
                        rest, settled = zero, t
                else:
                    head_rest += grad_decay[row * blocks + block]
                    grad_decay[row * blocks + block] = head_rest
                    if t == 0 or reset[b * T + t]:
                        share_out(fill(1, total(known) - head_rest), grad_decay, row * blocks + block, H * blocks, settled - t, 1)
                        head_rest, settled = ZERO, t


@njit(cache=True, nogil=True)
def adjoint_shared(team, threads, first, last, args):
    spawn(adjoint, team, threads, first, last, args)


@njit(cache=True, nogil=True)
def key_gradients_shared(team, threads, first, last, args):
    spawn(key_gradients, team, threads, first, last, args)
