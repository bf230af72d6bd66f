"""Cells whose units all hear each other, forward and backward: ROWS sequences go together, so that a weight is loaded once for all of them.

    p = W a                                        a = h, or φ(V h) for piecewise-linear cells                     (1)
    h' = tanh(p + x)                                                                                          Elman
    h' = n + z (h - n),   r, z = σ(p + x),  n = tanh(x_n + r (p_n + d))                                         GRU
    c' = f c + i g,  h' = o tanh(c'),   i, f, o = σ(p + x),  g = tanh(p_g + x_g)                               LSTM
    h' = A h + p + x + b,   φ(s) = sum_b α_b relu(s + θ_b) - clip relu(s) + leak min(s, 0)                    PLRNN

Before a step the first `observed` units may be pulled towards data: h <- h + κ (y - h). The backward carries the adjoint g = dL/dh',

    dp = dL/dp,   da = Wᵀ dp,   dh = da + direct, or Vᵀ (φ'(V h) da) + A g,   then times 1 - κ                      (2)

with what (1) was at every step, which one product for all steps works out before. Gradients of weights are products for all steps, after.

Arrays   flat float32.  x, dx [B,T,P + observed + 1], or [B,T,P] with observed = 0: what drives the P rows of W, then y and κ;
         W [L, P] and [P, L], V [n, L] and [L, n], forward and backward, rows padded to LANES;  vectors [2,n]: A, b, or d;
         slopes [bases], α;  shifts [bases,L], θ;  leak [L];  heard [B,T,P], p, or [B,T,L], V h;  fed, states, dstates [B,T,k,n], the
         state that is fed in and after each step, k = 2 for an LSTM: h, c;  start, final, dfinal, dstart [B,k,n];  dp [B,T,P];
         da [B,T,L] for a PLRNN;  reset [B,T] uint8.
Units    ROWS rows of the batch.
Cost     P L + L n multiply-adds a step and sequence, each way.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.chunk import zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.gates import sigmoid, tanh
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, load_first, store, store_first, where_negative
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import LANES, ROWS, padded, store_rows, through, tile

ONE = np.float32(1)
ELMAN, GRU, LSTM, PLRNN = 0, 1, 2, 3


@compiled
def _relu(s):
    return where_negative(s, fill(LANES, ZERO), s)


@compiled
def _on(s):
    """The derivative of relu, 0 at 0."""
    return where_negative(fill(LANES, ZERO) - s, fill(LANES, ONE), fill(LANES, ZERO))


@compiled
def _phi(s, slopes, shifts, leak, clip, d, L):
    zero, n = fill(LANES, ZERO), L - d
    value = where_negative(s, s * load_first(zero, leak, d, n), zero) - _relu(s) * clip
    for base in range(slopes.size):
        value = value + _relu(s + load_first(zero, shifts, base * L + d, n)) * slopes[base]
    return value


@compiled
def _slope(s, slopes, shifts, leak, clip, d, L):
    """φ'"""
    zero, one, n = fill(LANES, ZERO), fill(LANES, ONE), L - d
    value = (one - _on(s)) * load_first(zero, leak, d, n) - _on(s) * clip
    for base in range(slopes.size):
        value = value + _on(s + load_first(zero, shifts, base * L + d, n)) * slopes[base]
    return value


@compiled
def _gru_gates(p, j, x, i, bias, d, n, m):
    """r, z, p_n + d and n of m units from d on; the parts of p and x lie n apart."""
    zero = fill(LANES, ZERO)
    reads = sigmoid(load_first(zero, p, j, m) + load_first(zero, x, i, m))
    keeps = sigmoid(load_first(zero, p, j + n, m) + load_first(zero, x, i + n, m))
    heard = load_first(zero, p, j + 2 * n, m) + load_first(zero, bias, d, m)
    return reads, keeps, heard, tanh(load_first(zero, x, i + 2 * n, m) + reads * heard)


@compiled
def _lstm_gates(p, j, x, i, n, m):
    """i, f, g and o, the same way."""
    zero = fill(LANES, ZERO)
    enters = sigmoid(load_first(zero, p, j, m) + load_first(zero, x, i, m))
    keeps = sigmoid(load_first(zero, p, j + n, m) + load_first(zero, x, i + n, m))
    comes = tanh(load_first(zero, p, j + 2 * n, m) + load_first(zero, x, i + 2 * n, m))
    return enters, keeps, comes, sigmoid(load_first(zero, p, j + 3 * n, m) + load_first(zero, x, i + 3 * n, m))


@compiled
def _product(into, tall, A, wide, n, B, columns):
    """into [ROWS, tall] = A [ROWS, wide] B [n, tall], the columns that are asked for."""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, columns, LANES):
        store_rows(into, d, tall, through(none, A, 0, wide, 1, B, d, tall, n))


# States and adjoints of a unit lie by part, row and unit, padded to whole lanes.


@compiled
def _enter(h, source, b, rows, k, n, wide):
    for part in range(k):
        for r in range(rows):
            for d in range(0, n, LANES):
                found = load_first(fill(LANES, ZERO), source, ((b + r) * k + part) * n + d, n - d)
                store(h, (part * ROWS + r) * wide + d, found)


@compiled
def _leave(h, target, b, rows, k, n, wide):
    for part in range(k):
        for r in range(rows):
            for d in range(0, n, LANES):
                store_first(target, ((b + r) * k + part) * n + d, load(fill(LANES, ZERO), h, (part * ROWS + r) * wide + d), n - d)


@compiled
def _clear(h, r, k, wide):
    for part in range(k):
        at = (part * ROWS + r) * wide
        h[at : at + wide] = ZERO


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, kind, x, W, V, vectors, slopes, shifts, leak, clip, reset, start, states, final):
    """(1).   shape (B, T, n, k, L, P, observed)"""
    B, T, n, k, L, P, observed = shape
    wide, long, tall = padded(n, LANES), padded(L, LANES), padded(P, LANES)
    width = P + observed + 1 if observed > 0 else P
    zero = fill(LANES, ZERO)
    h, a, p = zeros(k * ROWS * wide), zeros(ROWS * long), zeros(ROWS * tall)
    for unit in range(first, last):
        b, rows = unit * ROWS, min(ROWS, B - unit * ROWS)
        _enter(h, start, b, rows, k, n, wide)
        for t in range(T):
            for r in range(rows):
                row = (b + r) * T + t
                if reset[row]:
                    _clear(h, r, k, wide)
                for d in range(0, observed, LANES):
                    now = load_first(zero, h, r * wide + d, observed - d)
                    gap = load_first(zero, x, row * width + P + d, observed - d) - now
                    store_first(h, r * wide + d, now + gap * x[row * width + width - 1], observed - d)
            if kind == PLRNN:
                if V.size > 0:
                    _product(a, long, h, wide, n, V, L)
                for r in range(rows):
                    for d in range(0, L, LANES):
                        s = load(zero, a, r * long + d) if V.size > 0 else load(zero, h, r * wide + d)
                        store(a, r * long + d, _phi(s, slopes, shifts, leak, clip, d, L))
                _product(p, tall, a, long, L, W, P)
            else:
                _product(p, tall, h, wide, n, W, P)
            for r in range(rows):
                row = (b + r) * T + t
                for d in range(0, n, LANES):
                    m, i, j, own = n - d, row * width + d, r * tall + d, r * wide + d
                    before = load(zero, h, own)
                    if kind == ELMAN:
                        new = tanh(load_first(zero, p, j, m) + load_first(zero, x, i, m))
                    elif kind == GRU:
                        _, keeps, _, new = _gru_gates(p, j, x, i, vectors, d, n, m)
                        new = new + keeps * (before - new)
                    elif kind == LSTM:
                        enters, keeps, comes, shows = _lstm_gates(p, j, x, i, n, m)
                        memory = keeps * load(zero, h, ROWS * wide + own) + enters * comes
                        store(h, ROWS * wide + own, memory)
                        store_first(states, (row * k + 1) * n + d, memory, m)
                        new = shows * tanh(memory)
                    else:
                        new = load_first(zero, p, j, m) + load_first(zero, x, i, m) + load_first(zero, vectors, n + d, m)
                        new = new + load_first(zero, vectors, d, m) * before
                    store(h, own, new)
                    store_first(states, row * k * n + d, new, m)
        _leave(h, final, b, rows, k, n, wide)


@shared
@njit(cache=True, nogil=True)
def backward(
    first, last, shape, kind, x, W, V, vectors, slopes, shifts, leak, clip, reset, heard, fed, before, states, dstates, dfinal,
    dx, dp, da, dstart,
):  # fmt: skip
    """(2).   shape as in `forward`; before [B,T,k,n], the state before it was pulled"""
    B, T, n, k, L, P, observed = shape
    wide, long, tall = padded(n, LANES), padded(L, LANES), padded(P, LANES)
    width = P + observed + 1 if observed > 0 else P
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    g, direct, back = zeros(k * ROWS * wide), zeros(ROWS * wide), zeros(ROWS * max(wide, long))
    worth, down = zeros(ROWS * tall), zeros(ROWS * wide)  # dp, and (2) before the pull
    for unit in range(first, last):
        b, rows = unit * ROWS, min(ROWS, B - unit * ROWS)
        _enter(g, dfinal, b, rows, k, n, wide)
        for t in range(T - 1, -1, -1):
            for r in range(rows):
                row = (b + r) * T + t
                for d in range(0, n, LANES):
                    m, i, j, own, state = n - d, row * width + d, r * tall + d, r * wide + d, row * k * n + d
                    q = row * P + d
                    grad = load(zero, g, own) + load_first(zero, dstates, state, m)
                    if kind == ELMAN:
                        new = load_first(zero, states, state, m)
                        grad = grad * (one - new * new)
                        store_first(worth, j, grad, m)
                        store_first(dx, i, grad, m)
                        store(direct, own, zero)
                    elif kind == GRU:
                        reads, keeps, said, new = _gru_gates(heard, q, x, i, vectors, d, n, m)
                        by_new = grad * (one - keeps) * (one - new * new)
                        by_keeps = grad * (load_first(zero, fed, state, m) - new) * keeps * (one - keeps)
                        by_reads = by_new * said * reads * (one - reads)
                        store_first(worth, j, by_reads, m)
                        store_first(worth, j + n, by_keeps, m)
                        store_first(worth, j + 2 * n, by_new * reads, m)
                        store_first(dx, i, by_reads, m)
                        store_first(dx, i + n, by_keeps, m)
                        store_first(dx, i + 2 * n, by_new, m)
                        store(direct, own, grad * keeps)
                    elif kind == LSTM:
                        enters, keeps, comes, shows = _lstm_gates(heard, q, x, i, n, m)
                        shown = tanh(load_first(zero, states, state + n, m))
                        memory = load(zero, g, ROWS * wide + own) + load_first(zero, dstates, state + n, m)
                        memory = memory + grad * shows * (one - shown * shown)
                        by_enters = memory * comes * enters * (one - enters)
                        by_keeps = memory * load_first(zero, fed, state + n, m) * keeps * (one - keeps)
                        by_comes = memory * enters * (one - comes * comes)
                        by_shows = grad * shown * shows * (one - shows)
                        store_first(worth, j, by_enters, m)
                        store_first(worth, j + n, by_keeps, m)
                        store_first(worth, j + 2 * n, by_comes, m)
                        store_first(worth, j + 3 * n, by_shows, m)
                        store_first(dx, i, by_enters, m)
                        store_first(dx, i + n, by_keeps, m)
                        store_first(dx, i + 2 * n, by_comes, m)
                        store_first(dx, i + 3 * n, by_shows, m)
                        store(g, ROWS * wide + own, memory * keeps)
                        store(direct, own, zero)
                    else:
                        store_first(worth, j, grad, m)
                        store_first(dx, i, grad, m)
                        store(direct, own, grad * load_first(zero, vectors, d, m))
            if kind == PLRNN:
                _product(back, long, worth, tall, P, W, L)
                for r in range(rows):
                    row = (b + r) * T + t
                    for d in range(0, L, LANES):
                        grad = load(zero, back, r * long + d)
                        store_first(da, row * L + d, grad, L - d)
                        grad = grad * _slope(load_first(zero, heard, row * L + d, L - d), slopes, shifts, leak, clip, d, L)
                        store(back, r * long + d, grad)
                if V.size > 0:
                    _product(down, wide, back, long, L, V, n)
                else:
                    down[:] = back[: ROWS * wide]
            else:
                _product(down, wide, worth, tall, P, W, n)
            for r in range(rows):
                row = (b + r) * T + t
                if kind == GRU:
                    for d in range(0, P, LANES):
                        store_first(dp, row * P + d, load(zero, worth, r * tall + d), P - d)
                for d in range(0, n, LANES):
                    store(g, r * wide + d, load(zero, down, r * wide + d) + load(zero, direct, r * wide + d))
                if observed > 0:
                    end, strength = row * width + width - 1, ZERO
                    pull = x[end]
                    for d in range(observed):
                        grad = g[r * wide + d]
                        dx[row * width + P + d] = grad * pull
                        strength += grad * (x[row * width + P + d] - before[row * k * n + d])
                        g[r * wide + d] = grad * (ONE - pull)
                    dx[end] = strength
                if reset[row]:
                    _clear(g, r, k, wide)
        _leave(g, dstart, b, rows, k, n, wide)
