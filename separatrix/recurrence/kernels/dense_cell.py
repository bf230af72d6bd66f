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

from separatrix.recurrence.kernels.chunk import zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.dense_gates import (
    ELMAN,
    GRU,
    LSTM,
    ONE,
    PLRNN,
    elman,
    elman_backward,
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    phi,
    plrnn,
    plrnn_backward,
    slope,
)
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, load_first, store, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import LANES, ROWS, padded, store_rows, through, tile


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
                        store(a, r * long + d, phi(s, slopes, shifts, leak, clip, d, L))
                _product(p, tall, a, long, L, W, P)
            else:
                _product(p, tall, h, wide, n, W, P)
            for r in range(rows):
                row = (b + r) * T + t
                for d in range(0, n, LANES):
                    m, i, j, own = n - d, row * width + d, r * tall + d, r * wide + d
                    before = load(zero, h, own)
                    if kind == ELMAN:
                        new = elman(p, j, x, i, m)
                    elif kind == GRU:
                        new = gru(p, j, x, i, vectors, d, n, m, before)
                    elif kind == LSTM:
                        new, memory = lstm(p, j, x, i, n, m, load(zero, h, ROWS * wide + own))
                        store(h, ROWS * wide + own, memory)
                        store_first(states, (row * k + 1) * n + d, memory, m)
                    else:
                        new = plrnn(p, j, x, i, vectors, d, n, m, before)
                    store(h, own, new)
                    store_first(states, row * k * n + d, new, m)
        _leave(h, final, b, rows, k, n, wide)


@shared
@njit(cache=True, nogil=True)
def backward(
    first, last, shape, kind, x, W, V, vectors, slopes, shifts, leak, clip, reset, heard, fed, found, states, dstates, dfinal,
    dx, dp, da, dstart,
):  # fmt: skip
    """(2).   shape as in `forward`; found [B,T,k,n], the state before it was pulled"""
    B, T, n, k, L, P, observed = shape
    wide, long, tall = padded(n, LANES), padded(L, LANES), padded(P, LANES)
    width = P + observed + 1 if observed > 0 else P
    zero = fill(LANES, ZERO)
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
                    past = zero
                    if kind == ELMAN:
                        elman_backward(grad, load_first(zero, states, state, m), worth, j, dx, i, m)
                    elif kind == GRU:
                        before = load_first(zero, fed, state, m)
                        past = gru_backward(grad, heard, q, x, i, vectors, d, n, m, before, worth, j, dx)
                    elif kind == LSTM:
                        later = load(zero, g, ROWS * wide + own) + load_first(zero, dstates, state + n, m)
                        before, after = load_first(zero, fed, state + n, m), load_first(zero, states, state + n, m)
                        memory = lstm_backward(grad, later, heard, q, x, i, n, m, before, after, worth, j, dx)
                        store(g, ROWS * wide + own, memory)
                    else:
                        past = plrnn_backward(grad, vectors, d, m, worth, j, dx, i)
                    store(direct, own, past)
            if kind == PLRNN:
                _product(back, long, worth, tall, P, W, L)
                for r in range(rows):
                    row = (b + r) * T + t
                    for d in range(0, L, LANES):
                        grad = load(zero, back, r * long + d)
                        store_first(da, row * L + d, grad, L - d)
                        grad = grad * slope(load_first(zero, heard, row * L + d, L - d), slopes, shifts, leak, clip, d, L)
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
                        strength += grad * (x[row * width + P + d] - found[row * k * n + d])
                        g[r * wide + d] = grad * (ONE - pull)
                    dx[end] = strength
                if reset[row]:
                    _clear(g, r, k, wide)
        _leave(g, dstart, b, rows, k, n, wide)
