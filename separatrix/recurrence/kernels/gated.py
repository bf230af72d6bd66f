"""Cells with diagonal weights on their state, forward and backward: every channel lives alone, as in `diagonal`.

GRU     z, r = σ(A_z h + x_z), σ(A_r h + x_r),  n = tanh(A_n r h + x_n),  h' = h + z (n - h)                       (1)
LSTM    f = σ(A_f h + C_f c + x_f),  g = tanh(A_g h + x_g),  c' = g + f (c - g),  o = σ(A_o h + C_o c' + x_o),  h' = o tanh(c')   (2)

The backward walks back along the states of the forward and computes the gates once more; with dh' the gradient of the new state

GRU     an = z dh' (1 - n²),  ar = A_n h an r (1 - r),  az = dh' (n - h) z (1 - z)
        dh = (1 - z) dh' + A_n r an + A_r ar + A_z az                                                              (3)
LSTM    ao = dh' s o (1 - o),  dc' += dh' o (1 - s²) + C_o ao,  af = dc' (c - g) f (1 - f),  ag = dc' (1 - f) (1 - g²)      s = tanh c'
        dh = A_f af + A_g ag + A_o ao,  dc = f dc' + C_f af                                                         (4)

and a_* is the gradient of x_*; those of A and C are sums over time, one partial a batch.

Arrays   flat float32.  x, dx [B,T,3,N], gates in the order of (1) and (2);  A, dA [3,N] and [B,3,N];  C, dC [2,N] for f, o and [B,2,N];
         states, dstates [B,T,k,N], k = 1 or 2 (h, c);  start, final, dfinal, dstart [B,k,N];  reset [B,T] uint8.
Units    (batch, block of `block` channels). Rows are walked block by block of lanes: neighbours hide the latency of a step's long chain.
Cost     three exponentials and divisions a channel and step, one more for an LSTM; the backward computes them again.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.gates import sigmoid, tanh
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, load, load_first, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared

LANES = WIDTH // 2
ONE = np.float32(1)


@compiled
def gru_gates(x, i, A, d, N, h, m):
    """z, r, n of (1) from the state before."""
    zero = fill(LANES, ZERO)
    z = sigmoid(load_first(zero, A, d, m) * h + load_first(zero, x, i, m))
    r = sigmoid(load_first(zero, A, N + d, m) * h + load_first(zero, x, i + N, m))
    return z, r, tanh(load_first(zero, A, 2 * N + d, m) * (r * h) + load_first(zero, x, i + 2 * N, m))


@compiled
def lstm_gates(x, i, A, C, d, N, h, c, m):
    """f, g, o of (2) and the new memory, from the state before."""
    zero = fill(LANES, ZERO)
    f = sigmoid(load_first(zero, A, d, m) * h + load_first(zero, C, d, m) * c + load_first(zero, x, i, m))
    g = tanh(load_first(zero, A, N + d, m) * h + load_first(zero, x, i + N, m))
    c = g + f * (c - g)
    return f, g, sigmoid(load_first(zero, A, 2 * N + d, m) * h + load_first(zero, C, N + d, m) * c + load_first(zero, x, i + 2 * N, m)), c


@shared
@njit(cache=True, nogil=True)
def gru_forward(first, last, shape, block, x, A, reset, start, states, final):
    """(1).   shape (T, N)"""
    T, N = shape
    blocks = (N + block - 1) // block
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, N)
        before, at = start, b * N
        for t in range(T):
            row = b * T + t
            for d in range(left, right, LANES):
                m, i = right - d, row * 3 * N + d
                h = zero
                if not reset[row]:
                    h = load_first(zero, before, at + d, m)
                z, _, n = gru_gates(x, i, A, d, N, h, m)
                store_first(states, row * N + d, (one - z) * h + z * n, m)
            before, at = states, row * N
        for d in range(left, right, LANES):
            store_first(final, b * N + d, load_first(zero, before, at + d, right - d), right - d)


@shared
@njit(cache=True, nogil=True)
def gru_backward(first, last, shape, block, x, A, reset, start, states, dstates, dfinal, dx, dA, dstart):
    """(3).   shape (T, N)"""
    T, N = shape
    blocks = (N + block - 1) // block
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    carried = scratch((block + LANES) * 4)  # dh of the step after, and the sums over time for z, r, n
    stride = block + LANES
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, N)
        for d in range(left, right, LANES):
            store(carried, d - left, load_first(zero, dfinal, b * N + d, right - d))
            for gate in range(1, 4):
                store(carried, gate * stride + d - left, zero)
        for t in range(T - 1, -1, -1):
            row = b * T + t
            for d in range(left, right, LANES):
                m, i, j = right - d, row * 3 * N + d, d - left
                h = zero
                if not reset[row]:
                    h = load_first(zero, start, b * N + d, m) if t == 0 else load_first(zero, states, (row - 1) * N + d, m)
                A_z, A_r, A_n = load_first(zero, A, d, m), load_first(zero, A, N + d, m), load_first(zero, A, 2 * N + d, m)
                z, r, n = gru_gates(x, i, A, d, N, h, m)
                dnew = load(zero, carried, j) + load_first(zero, dstates, row * N + d, m)
                an = z * dnew * (one - n * n)
                ar = A_n * h * an * r * (one - r)
                az = dnew * (n - h) * z * (one - z)
                store_first(dx, i, az, m)
                store_first(dx, i + N, ar, m)
                store_first(dx, i + 2 * N, an, m)
                store(carried, stride + j, load(zero, carried, stride + j) + az * h)
                store(carried, 2 * stride + j, load(zero, carried, 2 * stride + j) + ar * h)
                store(carried, 3 * stride + j, load(zero, carried, 3 * stride + j) + an * (r * h))
                dh = zero
                if not reset[row]:
                    dh = (one - z) * dnew + A_n * r * an + A_r * ar + A_z * az
                store(carried, j, dh)
        for d in range(left, right, LANES):
            store_first(dstart, b * N + d, load(zero, carried, d - left), right - d)
            for gate in range(3):
                store_first(dA, (b * 3 + gate) * N + d, load(zero, carried, (gate + 1) * stride + d - left), right - d)


@shared
@njit(cache=True, nogil=True)
def lstm_forward(first, last, shape, block, x, A, C, reset, start, states, final):
    """(2).   shape (T, N)"""
    T, N = shape
    blocks = (N + block - 1) // block
    zero = fill(LANES, ZERO)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, N)
        before, at = start, b * 2 * N
        for t in range(T):
            row = b * T + t
            for d in range(left, right, LANES):
                m, i = right - d, row * 3 * N + d
                h, c = zero, zero
                if not reset[row]:
                    h, c = load_first(zero, before, at + d, m), load_first(zero, before, at + N + d, m)
                _, _, o, c = lstm_gates(x, i, A, C, d, N, h, c, m)
                store_first(states, row * 2 * N + d, o * tanh(c), m)
                store_first(states, row * 2 * N + N + d, c, m)
            before, at = states, row * 2 * N
        for d in range(left, right, LANES):
            for part in range(0, 2 * N, N):
                store_first(final, b * 2 * N + part + d, load_first(zero, before, at + part + d, right - d), right - d)


@shared
@njit(cache=True, nogil=True)
def lstm_backward(first, last, shape, block, x, A, C, reset, start, states, dstates, dfinal, dx, dA, dC, dstart):
    """(4).   shape (T, N)"""
    T, N = shape
    blocks = (N + block - 1) // block
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    stride = block + LANES
    carried = scratch(stride * 7)  # dh, dc of the step after, and the sums over time for A_f, A_g, A_o, C_f, C_o
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, N)
        for d in range(left, right, LANES):
            for part in range(2):
                store(carried, part * stride + d - left, load_first(zero, dfinal, (b * 2 + part) * N + d, right - d))
            for part in range(2, 7):
                store(carried, part * stride + d - left, zero)
        for t in range(T - 1, -1, -1):
            row = b * T + t
            for d in range(left, right, LANES):
                m, i, j = right - d, row * 3 * N + d, d - left
                h, c = zero, zero
                if not reset[row]:
                    if t == 0:
                        h, c = load_first(zero, start, b * 2 * N + d, m), load_first(zero, start, b * 2 * N + N + d, m)
                    else:
                        h, c = load_first(zero, states, (row - 1) * 2 * N + d, m), load_first(zero, states, (row - 1) * 2 * N + N + d, m)
                new = load_first(zero, states, row * 2 * N + N + d, m)
                A_f, A_g, A_o = load_first(zero, A, d, m), load_first(zero, A, N + d, m), load_first(zero, A, 2 * N + d, m)
                C_f, C_o = load_first(zero, C, d, m), load_first(zero, C, N + d, m)
                f = sigmoid(A_f * h + C_f * c + load_first(zero, x, i, m))
                g = tanh(A_g * h + load_first(zero, x, i + N, m))
                o = sigmoid(A_o * h + C_o * new + load_first(zero, x, i + 2 * N, m))
                s = tanh(new)
                dnew = load(zero, carried, j) + load_first(zero, dstates, row * 2 * N + d, m)
                ao = dnew * s * o * (one - o)
                dc = load(zero, carried, stride + j) + load_first(zero, dstates, row * 2 * N + N + d, m)
                dc = dc + dnew * o * (one - s * s) + C_o * ao
                af = dc * (c - g) * f * (one - f)
                ag = dc * (one - f) * (one - g * g)
                store_first(dx, i, af, m)
                store_first(dx, i + N, ag, m)
                store_first(dx, i + 2 * N, ao, m)
                store(carried, 2 * stride + j, load(zero, carried, 2 * stride + j) + af * h)
                store(carried, 3 * stride + j, load(zero, carried, 3 * stride + j) + ag * h)
                store(carried, 4 * stride + j, load(zero, carried, 4 * stride + j) + ao * h)
                store(carried, 5 * stride + j, load(zero, carried, 5 * stride + j) + af * c)
                store(carried, 6 * stride + j, load(zero, carried, 6 * stride + j) + ao * new)
                dh, dbefore = zero, zero
                if not reset[row]:
                    dh, dbefore = A_f * af + A_g * ag + A_o * ao, f * dc + C_f * af
                store(carried, j, dh)
                store(carried, stride + j, dbefore)
        for d in range(left, right, LANES):
            for part in range(2):
                store_first(dstart, (b * 2 + part) * N + d, load(zero, carried, part * stride + d - left), right - d)
                store_first(dC, (b * 2 + part) * N + d, load(zero, carried, (part + 5) * stride + d - left), right - d)
            for gate in range(3):
                store_first(dA, (b * 3 + gate) * N + d, load(zero, carried, (gate + 2) * stride + d - left), right - d)
