"""Time-invariant diagonal state spaces, one per channel (S4D, DSS), as their recurrence.

    h_t = a h_{t-1} + u_t,    y_t = 2 Re(sum_n c_n h_t[n]) + skip u_t                    a, c, h complex, u, y real          (1)

and with the adjoint g_t = 2 conj(c) dy_t + conj(a) g_{t+1}, gradients of complex numbers being dL/dRe + i dL/dIm:

    du_t = Re(sum_n g_t[n]) + skip dy_t,    da = sum_t g_t conj(h_{t-1}),    dc = sum_t 2 dy_t conj(h_t)                      (2)

Six multiply-adds a complex state and step forward, twenty-one backward, and no convolution, power or exponential. Channels lie along the
lanes; TILE steps are taken while a state is in registers. The forward leaves the state before every CHUNK-th step behind; the backward
recomputes one chunk after the other, keeping the states in which tiles begin, and those inside a tile in registers.

Arrays   flat float32; T time, D channels, N complex states.  u, y, dy, du [B,T,D];  skip [D];  reset [B,T] uint8;
         a, c [D,N,2] and start, final, dfinal, dstart [B,D,N,2], which are complex64 [D,N] and [B,D,N];
         checkpoints [B, ceil(T / CHUNK) + 1, N, 2, D], the final state last, None when no gradient will be asked;
         partial sums, to be summed over their first axis: da, dc [B,N,2,D], dskip [B,D].
Units    (batch, block of LANES channels).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.transpose import transpose

LANES = WIDTH // 4  # one register: four steps of a state, its factors and its sums fill the 32 there are
TILE = 4
CHUNK = 64
TWO = np.float32(2)


@compiled
def _state_in(state, at, N, lanes, h):
    """h [N, 2, LANES] from `lanes` rows of N complex numbers, the others 0."""
    transpose(state, at, 2 * N, lanes, 2 * N, h, 0, LANES)
    for n in range(2 * N):
        for i in range(lanes, LANES):
            h[n * LANES + i] = ZERO


@compiled
def _state_out(h, N, lanes, state, at):
    transpose(h, 0, LANES, 2 * N, lanes, state, at, 2 * N)


@compiled
def _tile(reset, row, left):
    """How many steps from `row` on go together: TILE when so many are left and none but the first clears the state."""
    if left < TILE:
        return 1
    for i in range(1, TILE):
        if reset[row + i]:
            return 1
    return TILE


@compiled
def _rows(like, array, at, width, n):
    """The first n lanes of TILE rows, `width` apart."""
    return (
        load_first(like, array, at, n),
        load_first(like, array, at + width, n),
        load_first(like, array, at + 2 * width, n),
        load_first(like, array, at + 3 * width, n),
    )


@compiled
def _pair(like, array, at):
    """Real and imaginary part."""
    return load(like, array, at), load(like, array, at + LANES)


@compiled
def _store_pair(array, at, re, im):
    store(array, at, re)
    store(array, at + LANES, im)


@compiled
def _step(a_re, a_im, re, im, x):
    return a_re * re + x - a_im * im, a_re * im + a_im * re


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, u, a, c, skip, reset, start, y, final, checkpoints):
    """Equation (1).   shape (T, D, N)"""
    T, D, N = shape
    blocks, chunks = (D + LANES - 1) // LANES, (T + CHUNK - 1) // CHUNK
    zero = fill(LANES, ZERO)
    h, poles, reads = scratch(2 * N * LANES), scratch(2 * N * LANES), scratch(2 * N * LANES)
    for unit in range(first, last):
        b, d = unit // blocks, unit % blocks * LANES
        lanes = min(LANES, D - d)
        _state_in(a, d * 2 * N, N, lanes, poles)
        _state_in(c, d * 2 * N, N, lanes, reads)
        _state_in(start, (b * D + d) * 2 * N, N, lanes, h)
        through = load_first(zero, skip, d, lanes)
        t = 0
        while t < T:
            row = b * T + t
            if checkpoints is not None and t % CHUNK == 0:
                for n in range(2 * N):
                    store_first(checkpoints, ((b * (chunks + 1) + t // CHUNK) * 2 * N + n) * D + d, load(zero, h, n * LANES), lanes)
            if reset[row]:
                for n in range(2 * N):
                    store(h, n * LANES, zero)
            steps = _tile(reset, row, min(T - t, CHUNK - t % CHUNK))
            i = row * D + d
            if steps == TILE:
                u0, u1, u2, u3 = _rows(zero, u, i, D, lanes)
                y0, y1, y2, y3 = zero, zero, zero, zero
                for n in range(0, 2 * N * LANES, 2 * LANES):
                    (a_re, a_im), (c_re, c_im), (re, im) = _pair(zero, poles, n), _pair(zero, reads, n), _pair(zero, h, n)
                    re, im = _step(a_re, a_im, re, im, u0)
                    y0 = y0 + c_re * re - c_im * im
                    re, im = _step(a_re, a_im, re, im, u1)
                    y1 = y1 + c_re * re - c_im * im
                    re, im = _step(a_re, a_im, re, im, u2)
                    y2 = y2 + c_re * re - c_im * im
                    re, im = _step(a_re, a_im, re, im, u3)
                    y3 = y3 + c_re * re - c_im * im
                    _store_pair(h, n, re, im)
                store_first(y, i, y0 * TWO + through * u0, lanes)
                store_first(y, i + D, y1 * TWO + through * u1, lanes)
                store_first(y, i + 2 * D, y2 * TWO + through * u2, lanes)
                store_first(y, i + 3 * D, y3 * TWO + through * u3, lanes)
            else:
                now, out = load_first(zero, u, i, lanes), zero
                for n in range(0, 2 * N * LANES, 2 * LANES):
                    (a_re, a_im), (c_re, c_im), (re, im) = _pair(zero, poles, n), _pair(zero, reads, n), _pair(zero, h, n)
                    re, im = _step(a_re, a_im, re, im, now)
                    out = out + c_re * re - c_im * im
                    _store_pair(h, n, re, im)
                store_first(y, i, out * TWO + through * now, lanes)
            t += steps
        if checkpoints is not None:
            for n in range(2 * N):
                store_first(checkpoints, ((b * (chunks + 1) + chunks) * 2 * N + n) * D + d, load(zero, h, n * LANES), lanes)
        _state_out(h, N, lanes, final, (b * D + d) * 2 * N)


@compiled
def _back(a_re, a_im, c_re, c_im, x_re, x_im, dout):
    """(g_t, conj(a) g_t) from x = conj(a) g_{t+1}."""
    g_re, g_im = x_re + c_re * dout, x_im - c_im * dout
    return g_re, g_im, a_re * g_re + a_im * g_im, a_re * g_im - a_im * g_re


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, u, a, c, skip, reset, checkpoints, dy, dfinal, du, da, dc, dskip, dstart):
    """Equations (2).   shape (T, D, N)"""
    T, D, N = shape
    blocks, chunks = (D + LANES - 1) // LANES, (T + CHUNK - 1) // CHUNK
    zero = fill(LANES, ZERO)
    # What a step reads and writes together lies together: equal addresses modulo 4096 in different arrays would stall loads behind stores.
    C, X, DA, DC, STRIDE = 2 * LANES, 4 * LANES, 6 * LANES, 8 * LANES, 10 * LANES  # behind a
    h, poles, reads = scratch(2 * N * LANES), scratch(2 * N * LANES), scratch(2 * N * LANES)
    working, history = scratch(N * STRIDE), scratch((CHUNK + 1) * 2 * N * LANES)
    tiles = np.empty(CHUNK + 1, np.int64)
    for unit in range(first, last):
        b, d = unit // blocks, unit % blocks * LANES
        lanes = min(LANES, D - d)
        _state_in(dfinal, (b * D + d) * 2 * N, N, lanes, h)
        _state_in(a, d * 2 * N, N, lanes, poles)
        _state_in(c, d * 2 * N, N, lanes, reads)
        for n in range(N):
            for part in range(2):
                at, plane = n * STRIDE + part * LANES, (2 * n + part) * LANES
                store(working, at, load(zero, poles, plane))
                store(working, at + C, load(zero, reads, plane))
                store(working, at + X, load(zero, h, plane))
                store(working, at + DA, zero)
                store(working, at + DC, zero)
        through, skip_sum = load_first(zero, skip, d, lanes), zero
        for chunk in range(chunks - 1, -1, -1):
            t0 = chunk * CHUNK
            row = b * T + t0
            steps = min(CHUNK, T - t0)
            for n in range(2 * N):
                store(history, n * LANES, load_first(zero, checkpoints, ((b * (chunks + 1) + chunk) * 2 * N + n) * D + d, lanes))
            count, t = 0, 0
            while t < steps:  # history[k]: the state in which tile k begins
                tiles[count] = t
                k = count * 2 * N * LANES
                if reset[row + t]:
                    for n in range(2 * N):
                        store(history, k + n * LANES, zero)
                length = _tile(reset, row + t, steps - t)
                i = (row + t) * D + d
                u0 = load_first(zero, u, i, lanes)
                if length == TILE:
                    _, u1, u2, u3 = _rows(zero, u, i, D, lanes)
                    for n in range(N):
                        (a_re, a_im), (re, im) = _pair(zero, working, n * STRIDE), _pair(zero, history, k)
                        re, im = _step(a_re, a_im, re, im, u0)
                        re, im = _step(a_re, a_im, re, im, u1)
                        re, im = _step(a_re, a_im, re, im, u2)
                        re, im = _step(a_re, a_im, re, im, u3)
                        _store_pair(history, k + 2 * N * LANES, re, im)
                        k += 2 * LANES
                else:
                    for n in range(N):
                        (a_re, a_im), (re, im) = _pair(zero, working, n * STRIDE), _pair(zero, history, k)
                        re, im = _step(a_re, a_im, re, im, u0)
                        _store_pair(history, k + 2 * N * LANES, re, im)
                        k += 2 * LANES
                count += 1
                t += length
            end = steps
            for tile in range(count - 1, -1, -1):
                t = tiles[tile]
                length, end = end - t, t
                i, k = (row + t) * D + d, tile * 2 * N * LANES
                u0, dy0 = load_first(zero, u, i, lanes), load_first(zero, dy, i, lanes)
                e0, s0 = dy0 * TWO, through * dy0
                skip_sum = skip_sum + dy0 * u0
                if length == TILE:
                    _, u1, u2, u3 = _rows(zero, u, i, D, lanes)
                    _, dy1, dy2, dy3 = _rows(zero, dy, i, D, lanes)
                    skip_sum = skip_sum + dy1 * u1 + dy2 * u2 + dy3 * u3
                    e1, e2, e3 = dy1 * TWO, dy2 * TWO, dy3 * TWO
                    s1, s2, s3 = through * dy1, through * dy2, through * dy3
                    for n in range(0, N * STRIDE, STRIDE):
                        (a_re, a_im), (c_re, c_im) = _pair(zero, working, n), _pair(zero, working, n + C)
                        (re0, im0), (x_re, x_im) = _pair(zero, history, k), _pair(zero, working, n + X)
                        (da_re, da_im), (dc_re, dc_im) = _pair(zero, working, n + DA), _pair(zero, working, n + DC)
                        re1, im1 = _step(a_re, a_im, re0, im0, u0)
                        re2, im2 = _step(a_re, a_im, re1, im1, u1)
                        re3, im3 = _step(a_re, a_im, re2, im2, u2)
                        re, im = _step(a_re, a_im, re3, im3, u3)
                        dc_re, dc_im = dc_re + e0 * re1 + e1 * re2 + e2 * re3 + e3 * re, dc_im - e0 * im1 - e1 * im2 - e2 * im3 - e3 * im
                        _store_pair(working, n + DC, dc_re, dc_im)
                        g_re, g_im, x_re, x_im = _back(a_re, a_im, c_re, c_im, x_re, x_im, e3)
                        s3, da_re, da_im = s3 + g_re, da_re + g_re * re3 + g_im * im3, da_im + g_im * re3 - g_re * im3
                        g_re, g_im, x_re, x_im = _back(a_re, a_im, c_re, c_im, x_re, x_im, e2)
                        s2, da_re, da_im = s2 + g_re, da_re + g_re * re2 + g_im * im2, da_im + g_im * re2 - g_re * im2
                        g_re, g_im, x_re, x_im = _back(a_re, a_im, c_re, c_im, x_re, x_im, e1)
                        s1, da_re, da_im = s1 + g_re, da_re + g_re * re1 + g_im * im1, da_im + g_im * re1 - g_re * im1
                        g_re, g_im, x_re, x_im = _back(a_re, a_im, c_re, c_im, x_re, x_im, e0)
                        s0, da_re, da_im = s0 + g_re, da_re + g_re * re0 + g_im * im0, da_im + g_im * re0 - g_re * im0
                        _store_pair(working, n + X, x_re, x_im)
                        _store_pair(working, n + DA, da_re, da_im)
                        k += 2 * LANES
                    store_first(du, i + D, s1, lanes)
                    store_first(du, i + 2 * D, s2, lanes)
                    store_first(du, i + 3 * D, s3, lanes)
                else:
                    for n in range(0, N * STRIDE, STRIDE):
                        (a_re, a_im), (c_re, c_im) = _pair(zero, working, n), _pair(zero, working, n + C)
                        (re0, im0), (x_re, x_im) = _pair(zero, history, k), _pair(zero, working, n + X)
                        (da_re, da_im), (dc_re, dc_im) = _pair(zero, working, n + DA), _pair(zero, working, n + DC)
                        re, im = _step(a_re, a_im, re0, im0, u0)
                        _store_pair(working, n + DC, dc_re + e0 * re, dc_im - e0 * im)
                        g_re, g_im, x_re, x_im = _back(a_re, a_im, c_re, c_im, x_re, x_im, e0)
                        s0 = s0 + g_re
                        _store_pair(working, n + DA, da_re + g_re * re0 + g_im * im0, da_im + g_im * re0 - g_re * im0)
                        _store_pair(working, n + X, x_re, x_im)
                        k += 2 * LANES
                store_first(du, i, s0, lanes)
                if reset[row + t]:
                    for n in range(N):
                        _store_pair(working, n * STRIDE + X, zero, zero)
        store_first(dskip, b * D + d, skip_sum, lanes)
        for n in range(N):
            for part in range(2):
                at, to_plane = n * STRIDE + part * LANES, ((b * N + n) * 2 + part) * D + d
                store(h, (2 * n + part) * LANES, load(zero, working, at + X))
                store_first(da, to_plane, load(zero, working, at + DA), lanes)
                store_first(dc, to_plane, load(zero, working, at + DC), lanes)
        _state_out(h, N, lanes, dstart, (b * D + d) * 2 * N)
