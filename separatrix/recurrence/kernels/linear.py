"""Linear attention and its three gradients, which are one sweep with the roles exchanged.

    S'_t = a_t ⊙ S_{t-1},   S_t = S'_t + x_t y_tᵀ,   out_t = S_tᵀ z_t = S'_tᵀ z_t + (x_t·z_t) y_t      S is [rows, lanes]

                 rows   lanes  time  x        y        z        out           a along
    forward      key    value  ->    k        v        q        o             rows
    dL/dv        key    value  <-    q        do       k        dL/dv         rows
    dL/dk        value  key    <-    do       q        v        dL/dk         lanes
    dL/dq        value  key    ->    v        k        do       dL/dq         lanes

Backwards in time the sweep runs on the adjoint X_t = dL/dS_t, which meets the decay of step t + 1 before it is written at step t.
States are recomputed, not stored, so memory does not grow beyond the inputs.

The gradient of a decay needs no sweep: summed over values, S'_t ⊙ dL/dS'_t is

    dL/dlog a_t = dL/dlog a_{t+1} + q_t dL/dq'_t - k_t dL/dk'_t         and <S_T, dL/dS_T> after the last step

and it is <S_0, dL/dS_0> at the first step, 0 at a reset: both ends of a stretch are known, and what rounding left between them is
shared out. The primes leave out what step t does to itself, the (x_t·z_t) y_t of the two sweeps. Those terms are equal and large where
the decay is strong and its gradient small: left in, their difference would be mostly rounding.

Two steps are taken while a row is in registers, since one store of a row costs as much as its two multiply-adds.

Cost     2 K V multiply-adds a token for each sweep, 3 with a decay; a unit of work is one (batch, head, block of lanes).
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
from separatrix.recurrence.kernels.parallel import spawn


@njit(cache=True, nogil=True)
def row_decays(log_decay, at, n, out):
    """out[:n] = exp(log_decay[at : at + n]); out has room for whole lanes."""
    zero = fill(WIDTH, ZERO)
    for i in range(0, n, WIDTH):
        store(out, i, exp(load_first(zero, log_decay, at + i, n - i)))


@njit(cache=True, nogil=True)
def inner(x, i, z, j, n):
    """x[i : i + n] · z[j : j + n]"""
    zero = fill(WIDTH, ZERO)
    products = zero
    for m in range(0, n, WIDTH):
        products = products + load_first(zero, x, i + m, n - m) * load_first(zero, z, j + m, n - m)
    return total(products)


@njit(cache=True, nogil=True, inline="always")
def _fade(head_decay, lane_decay, row, at, n):
    """The decay of one step along the lanes, the same on all of them when it is the head's."""
    zero = fill(WIDTH, ZERO)
    if lane_decay is not None:
        return exp(load_first(zero, lane_decay, at, n))
    if head_decay is not None:
        return splat(zero, np.exp(head_decay[row]))
    return fill(WIDTH, np.float32(1))


@njit(cache=True, nogil=True)
def sweep(
    first, last, shape, backwards, alone, x, y, z, head_decay, row_decay, lane_decay, reset, write_scale, read_scale, start, out, final
):
    """Units (batch, head, lane block).  shape is (T, H, R, L) and the heads of x, y, z, each dividing H.  Flat float32 arrays:
    x, z [B,T,heads,R], y [B,T,heads,L], out [B,T,H,L], start, final [B,H,R,L]; log decays [B,T,H], [B,T,H,R], [B,T,H,L]; reset [B,T] uint8.
    `alone` leaves (x_t·z_t) y_t out of out_t."""
    T, H, R, L, x_heads, y_heads, z_heads = shape
    blocks = (L + WIDTH - 1) // WIDTH
    zero = fill(WIDTH, ZERO)
    S = scratch(R * WIDTH)
    a1, a2 = np.ones(R + WIDTH, np.float32), np.ones(R + WIDTH, np.float32)
    later = 1 if backwards else 0
    for unit in range(first, last):
        b, h, d = unit // (H * blocks), unit // blocks % H, unit % blocks * WIDTH
        n = L - d
        x_head, y_head, z_head = h // (H // x_heads), h // (H // y_heads), h // (H // z_heads)
        for i in range(R):
            store(S, i * WIDTH, load_first(zero, start, ((b * H + h) * R + i) * L + d, n))
        done = 0
        while done < T:
            t1 = b * T + (T - 1 - done if backwards else done)
            # The decay and the reset between this step and the one before it in the direction of the sweep.
            g1 = t1 + later
            if not (backwards and done == 0):
                if reset[g1]:
                    for i in range(R):
                        store(S, i * WIDTH, zero)
                fade1 = _fade(head_decay, lane_decay, g1 * H + h, (g1 * H + h) * L + d, n)
                if row_decay is not None:
                    row_decays(row_decay, (g1 * H + h) * R, R, a1)
            else:
                fade1 = fill(WIDTH, np.float32(1))
                a1[:] = 1
            x1, z1 = (t1 * x_heads + x_head) * R, (t1 * z_heads + z_head) * R
            y1, out1 = load_first(zero, y, (t1 * y_heads + y_head) * L + d, n) * write_scale, zero
            t2 = t1 - 1 if backwards else t1 + 1
            g2 = t2 + later
            if done + 1 < T and not reset[g2]:
                fade2 = _fade(head_decay, lane_decay, g2 * H + h, (g2 * H + h) * L + d, n)
                if row_decay is not None:
                    row_decays(row_decay, (g2 * H + h) * R, R, a2)
                x2, z2 = (t2 * x_heads + x_head) * R, (t2 * z_heads + z_head) * R
                y2, out2 = load_first(zero, y, (t2 * y_heads + y_head) * L + d, n) * write_scale, zero
                for i in range(R):
                    s = load(zero, S, i * WIDTH)
                    if row_decay is not None:
                        s = get(a1, i) * s
                    elif head_decay is not None or lane_decay is not None:
                        s = fade1 * s
                    out1 = out1 + get(z, z1 + i) * s
                    s = s + get(x, x1 + i) * y1
                    if row_decay is not None:
                        s = get(a2, i) * s
                    elif head_decay is not None or lane_decay is not None:
                        s = fade2 * s
                    out2 = out2 + get(z, z2 + i) * s
                    s = s + get(x, x2 + i) * y2
                    store(S, i * WIDTH, s)
                if not alone:
                    out2 = out2 + inner(x, x2, z, z2, R) * y2
                store_first(out, (t2 * H + h) * L + d, out2 * read_scale, n)
                done += 2
            else:
                for i in range(R):
                    s = load(zero, S, i * WIDTH)
                    if row_decay is not None:
                        s = get(a1, i) * s
                    elif head_decay is not None or lane_decay is not None:
                        s = fade1 * s
                    out1 = out1 + get(z, z1 + i) * s
                    s = s + get(x, x1 + i) * y1
                    store(S, i * WIDTH, s)
                done += 1
            if not alone:
                out1 = out1 + inner(x, x1, z, z1, R) * y1
            store_first(out, (t1 * H + h) * L + d, out1 * read_scale, n)
        if backwards and T > 0:  # through the first step, to the state before it
            fade1 = _fade(head_decay, lane_decay, b * T * H + h, (b * T * H + h) * L + d, n)
            if row_decay is not None:
                row_decays(row_decay, (b * T * H + h) * R, R, a1)
            for i in range(R):
                s = load(zero, S, i * WIDTH)
                if reset[b * T]:
                    s = zero
                elif row_decay is not None:
                    s = get(a1, i) * s
                else:
                    s = fade1 * s
                store(S, i * WIDTH, s)
        for i in range(R):
            store_first(final, ((b * H + h) * R + i) * L + d, load(zero, S, i * WIDTH), n)


@njit(cache=True, nogil=True)
def share_out(miss, grad, at, stride, steps, n):
    """Add to grad[at], grad[at + stride], ... (n lanes each) what `miss` is at the first and nothing after the last."""
    for i in range(steps):
        part = miss * np.float32((steps - i) / steps)
        store_first(grad, at + i * stride, load_first(miss, grad, at + i * stride, n) + part, n)


@njit(cache=True, nogil=True)
def complete(first, last, shape, scale, q, k, v, grad_o, start, end, reset, grad_q, grad_k, grad_head, grad_key):
    """Units (batch, head): each step's share of its own gradients, and the decay's.

    grad_q, grad_k [B,T,H,K] come alone and leave whole; q, k [B,T,G,K], v, grad_o [B,T,H,V]; start, end [B,H,K] = <S, dL/dS> over values,
    before the first and after the last step; grad_head [B,T,H] or grad_key [B,T,H,K] of the log decay, or neither."""
    T, G, H, K, V = shape
    zero = fill(WIDTH, ZERO)
    for unit in range(first, last):
        b, h = unit // H, unit % H
        for d in range(0, K, WIDTH):
            n = K - d
            rest, settled = load_first(zero, end, unit * K + d, n), (b + 1) * T
            for t in range((b + 1) * T - 1, b * T - 1, -1):
                at, row = (t * G + h // (H // G)) * K + d, (t * H + h) * K + d
                query, key = load_first(zero, q, at, n), load_first(zero, k, at, n)
                dq, dk = load_first(zero, grad_q, row, n), load_first(zero, grad_k, row, n)
                own = inner(v, (t * H + h) * V, grad_o, (t * H + h) * V, V) * scale
                store_first(grad_q, row, dq + key * own, n)
                store_first(grad_k, row, dk + query * own, n)
                if grad_head is not None or grad_key is not None:
                    rest = rest + query * dq - key * dk
                    if grad_key is not None:
                        store_first(grad_key, row, rest, n)
                    if grad_head is not None:
                        grad_head[t * H + h] = total(rest) + (grad_head[t * H + h] if d > 0 else ZERO)
                    if reset[t] or t == b * T:
                        known = zero if reset[t] else load_first(zero, start, unit * K + d, n)
                        if grad_key is not None:
                            share_out(known - rest, grad_key, row, H * K, settled - t, n)
                        if grad_head is not None:
                            share_out(fill(1, total(known - rest)), grad_head, t * H + h, H, settled - t, 1)
                        rest, settled = zero, t


@njit(cache=True, nogil=True)
def sweep_shared(team, threads, first, last, args):
    spawn(sweep, team, threads, first, last, args)


@njit(cache=True, nogil=True)
def complete_shared(team, threads, first, last, args):
    spawn(complete, team, threads, first, last, args)
