"""Matrix states: linear attention and the delta rule, forward and backward, without ever storing a state history.

    S'_t = diag(a_t) S_{t-1}           a = exp(log_decay): 1, one number a head, or one a key dimension
    e_t  = v_t - S'_tᵀ k_t             (delta rule; linear attention writes r_t = v_t instead)
    r_t  = β_t e_t
    S_t  = S'_t + k_t r_tᵀ             S is [key, value]
    o_t  = scale · S_tᵀ q_t

Given r, the state is plain linear attention in k and r, so every gradient is a read of S or of its adjoint
X_t = dL/dS_t. Each read is a sum over the rows of one of them, laid out so that the result lies along the lanes:

    forward  rows key,   lanes value, time ->    o, e
    adjoint  rows key,   lanes value, time <-    w_t = dL/dv_t = β_t X_tᵀ k_t, dL/dβ, dL/dS_0
    keys     rows value, lanes key,   time <-    X_t r_t
             rows value, lanes key,   time ->    dL/dq = S_t do_t, dL/dk = X_t r_t - S'_t w_t, and with them
             dL/dlog a_t = dL/dlog a_{t+1} + q_t dL/dq_t - k_t (X_t r_t + S'_t w_t)        per key dimension

where X_{t-1} = diag(a_t) (X_t - k_t w_tᵀ) + scale · q_{t-1} do_{t-1}ᵀ. States are recomputed forward in time and adjoints backward,
so memory does not grow beyond the inputs and nothing is inverted. A 64 x 64 state is 16 KB and stays in the L1 cache.

Cost     4 to 8 K V multiply-adds a token forward, 12 to 18 backward; one unit of work is one (batch, head, block of lanes).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, exp2, fill, get, load, load_first, store, store_first, total
from separatrix.recurrence.kernels.parallel import spawn

LOG2E = np.float32(1.4426950408889634)


@njit(nogil=True)
def scratch(n):
    raw = np.empty(n + 16, np.float32)
    skip = (-raw.ctypes.data % 64) // 4
    return raw[skip : skip + n]


@njit(cache=True, nogil=True, inline="always")
def _decays(log_decay, at, n, out):
    """out[:n] = exp(log_decay[at : at + n]); out has room for whole lanes."""
    zero = fill(WIDTH, ZERO)
    for i in range(0, n, WIDTH):
        store(out, i, exp2(load_first(zero, log_decay, at + i, n - i) * LOG2E))


@njit(cache=False, nogil=True)
def _forward(first, last, shape, q, k, v, beta, head_decay, key_decay, reset, scale, start, o, error, final):
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
                    _decays(key_decay, ahead * K, K, next_a)
                if beta is not None:
                    for i in range(K):
                        next_k[i] = k[here + i] * next_a[i]
            if t < 0:
                if beta is not None:
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
                if beta is not None:
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
                    if beta is not None:
                        read = read + get(next_k, i) * state
                store_first(o, row * V + d, out * scale, lanes)
            a, next_a = next_a, a
            if head_decay is not None and beta is not None and t + 1 < T:
                read = read * np.float32(np.exp(head_decay[(b * T + t + 1) * H + h]))
        for i in range(K):
            store_first(final, ((b * H + h) * K + i) * V + d, load(zero, S, i * WIDTH), lanes)


@njit(cache=True, nogil=True)
def forward(team, threads, first, last, args):
    spawn(_forward, team, threads, first, last, args)
