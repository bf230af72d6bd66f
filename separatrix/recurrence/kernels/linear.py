"""Linear attention and its three gradients, which are one sweep with the roles exchanged.

    S_t = a_t ⊙ S_{t-1} + x_t y_tᵀ,   out_t = S_tᵀ z_t          S is [rows, lanes], a per head, per row or per lane

                 rows   lanes  time  x        y        z        out           a along
    forward      key    value  ->    k        v        q        o             rows
    dL/dv        key    value  <-    q        do       k        dL/dv         rows
    dL/dk        value  key    <-    do       q        v        dL/dk         lanes
    dL/dq        value  key    ->    v        k        do       dL/dq         lanes

Backwards in time the sweep runs on the adjoint X_t = dL/dS_t, which meets the decay of step t + 1 before it is written at step t.
States are recomputed, not stored, so memory does not grow beyond the inputs. The gradient of a decay needs no sweep: with
S_t ⊙ X_t summed over values, dL/dlog a_t = dL/dlog a_{t+1} + q_t dL/dq_t - k_t dL/dk_t, and <S_T, dL/dS_T> after the last step.

Two steps are taken while a row is in registers, since one store of a row costs as much as its two multiply-adds.

Cost     2 K V multiply-adds a token for each sweep, 3 with a decay; a unit of work is one (batch, head, block of lanes).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from separatrix.recurrence.kernels.lanes import LOG2E, WIDTH, ZERO, exp2, fill, get, load, load_first, scratch, splat, store, store_first, total
from separatrix.recurrence.kernels.parallel import spawn


@njit(cache=True, nogil=True)
def row_decays(log_decay, at, n, out):
    """out[:n] = exp(log_decay[at : at + n]); out has room for whole lanes."""
    zero = fill(WIDTH, ZERO)
    for i in range(0, n, WIDTH):
        store(out, i, exp2(load_first(zero, log_decay, at + i, n - i) * LOG2E))


@njit(cache=True, nogil=True, inline="always")
def _fade(head_decay, lane_decay, row, at, n):
    """The decay of one step along the lanes, the same on all of them when it is the head's."""
    zero = fill(WIDTH, ZERO)
    if lane_decay is not None:
        return exp2(load_first(zero, lane_decay, at, n) * LOG2E)
    if head_decay is not None:
        return splat(zero, np.exp(head_decay[row]))
    return fill(WIDTH, np.float32(1))


@njit(cache=True, nogil=True)
def sweep(first, last, shape, backwards, x, y, z, head_decay, row_decay, lane_decay, reset, write_scale, read_scale, start, out, final):
    """Units (batch, head, lane block).  shape is (T, H, R, L) and the heads of x, y, z, each dividing H.  Flat float32 arrays:
    x, z [B,T,heads,R], y [B,T,heads,L], out [B,T,H,L], start, final [B,H,R,L]; log decays [B,T,H], [B,T,H,R], [B,T,H,L]; reset [B,T] uint8."""
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
                    s = s + get(x, x1 + i) * y1
                    out1 = out1 + get(z, z1 + i) * s
                    if row_decay is not None:
                        s = get(a2, i) * s
                    elif head_decay is not None or lane_decay is not None:
                        s = fade2 * s
                    s = s + get(x, x2 + i) * y2
                    out2 = out2 + get(z, z2 + i) * s
                    store(S, i * WIDTH, s)
                store_first(out, (t2 * H + h) * L + d, out2 * read_scale, n)
                done += 2
            else:
                for i in range(R):
                    s = load(zero, S, i * WIDTH)
                    if row_decay is not None:
                        s = get(a1, i) * s
                    elif head_decay is not None or lane_decay is not None:
                        s = fade1 * s
                    s = s + get(x, x1 + i) * y1
                    out1 = out1 + get(z, z1 + i) * s
                    store(S, i * WIDTH, s)
                done += 1
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
def decay_gradient(first, last, shape, per_key, q, grad_q, k, grad_k, end, reset, grad_decay):
    """Units (batch, head).  q, k [B,T,G,K]; grad_q, grad_k [B,T,H,K]; end [B,H,K] = <S_T, dL/dS_T> over values;
    grad_decay [B,T,H,K] per key, [B,T,H] per head."""
    T, G, H, K = shape
    zero = fill(WIDTH, ZERO)
    for unit in range(first, last):
        b, h = unit // H, unit % H
        if not per_key:
            for t in range(T):
                grad_decay[(b * T + t) * H + h] = 0
        for d in range(0, K, WIDTH):
            n = K - d
            rest = load_first(zero, end, unit * K + d, n)
            for t in range((b + 1) * T - 1, b * T - 1, -1):
                at, row = (t * G + h // (H // G)) * K + d, (t * H + h) * K + d
                rest = rest + load_first(zero, q, at, n) * load_first(zero, grad_q, row, n)
                rest = rest - load_first(zero, k, at, n) * load_first(zero, grad_k, row, n)
                if reset[t]:
                    rest = zero
                if per_key:
                    store_first(grad_decay, row, rest, n)
                else:
                    grad_decay[t * H + h] += total(rest)


@njit(cache=True, nogil=True)
def sweep_shared(team, threads, first, last, args):
    spawn(sweep, team, threads, first, last, args)


@njit(cache=True, nogil=True)
def decay_gradient_shared(team, threads, first, last, args):
    spawn(decay_gradient, team, threads, first, last, args)
