"""Diagonal plus low rank transitions of a vector state, one step after another.

    u_t = R_tᵀ h_{t-1},   h_t = d_t ⊙ h_{t-1} + L_t u_t + x_t                                                     (1)
    w_t = L_tᵀ g_t,       g_t = dy_t + c_t,   c_{t-1} = d_t ⊙ g_t + R_t w_t                                       (2)
    dx_t = g_t,  dd_t = g_t ⊙ h_{t-1},  dL_t = g_t u_tᵀ,  dR_t = h_{t-1} w_tᵀ,  dh_0 = c_0

for a loss with gradient dy_t at h_t; c_T is its gradient at the last state. The states that (2) needs are the outputs. The factors of a
step become rows [r, N] in scratch, and rows become the gradients of factors.

Arrays   flat, all float32 or all float64.  d, x, h, dy, dx, dd [B,T,H,N];  L, R, dL, dR [B,T,H,N,r];  start, final, dfinal, dstart [B,H,N];
         reset [B,T] uint8.
Units    (batch, head).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.dense import BYTES, line
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import fetch, get, load_first, splat, store_first
from separatrix.recurrence.kernels.parallel import shared


@compiled
def _inner(zero, x, i, y, j, N):
    lanes = BYTES // x.itemsize
    sums = zero
    for n in range(0, N, lanes):
        sums = sums + load_first(zero, x, i + n, N - n) * load_first(zero, y, j + n, N - n)
    return total(sums)


@compiled
def _fetch(i, N, rank, x, y, left, right):
    """The rows of the step to come, which are far from those of this one."""
    fetch(x, i, N)
    fetch(y, i, N)
    fetch(left, i * rank, N * rank)
    fetch(right, i * rank, N * rank)


@compiled
def _rows(source, at, N, rank, into):
    """into [rank, N] = source[at :] [N, rank] transposed"""
    for q in range(rank):
        for n in range(N):
            into[q * N + n] = get(source, at + n * rank + q)


@compiled
def _columns(rows, N, rank, into, at):
    """The inverse of `_rows`."""
    for q in range(rank):
        for n in range(N):
            into[at + n * rank + q] = get(rows, q * N + n)


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, d, L, R, x, reset, start, h, final):
    """Equation (1).   shape (T, H, N, r)"""
    T, H, N, rank = shape
    zero = line(x)
    lanes = BYTES // x.itemsize
    u, left, right = np.empty(rank, x.dtype), np.empty(rank * N, x.dtype), np.empty(rank * N, x.dtype)
    for unit in range(first, last):
        batch, head = unit // H, unit % H
        before, at = start, unit * N
        for t in range(T):
            row = batch * T + t
            i = (row * H + head) * N
            if reset[row]:
                h[i : i + N] = x[i : i + N]
            else:
                _fetch(i + H * N if t + 1 < T else i, N, rank, d, x, L, R)
                _rows(L, i * rank, N, rank, left)
                _rows(R, i * rank, N, rank, right)
                for q in range(rank):
                    u[q] = _inner(zero, right, q * N, before, at, N)
                for n in range(0, N, lanes):
                    m = N - n
                    state = load_first(zero, d, i + n, m) * load_first(zero, before, at + n, m) + load_first(zero, x, i + n, m)
                    for q in range(rank):
                        state = state + load_first(zero, left, q * N + n, m) * splat(zero, get(u, q))
                    store_first(h, i + n, state, m)
            before, at = h, i
        for n in range(N):
            final[unit * N + n] = before[at + n]


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, d, L, R, reset, start, h, dy, dfinal, dd, dL, dR, dx, dstart):
    """Equations (2).   shape (T, H, N, r)"""
    T, H, N, rank = shape
    zero = line(dy)
    lanes = BYTES // dy.itemsize
    u, w = np.empty(rank, dy.dtype), np.empty(rank, dy.dtype)
    left, right = np.empty(rank * N, dy.dtype), np.empty(rank * N, dy.dtype)
    for unit in range(first, last):
        batch, head = unit // H, unit % H
        at = unit * N
        dstart[at : at + N] = dfinal[at : at + N]  # c_t, on its way back to the start
        for t in range(T - 1, -1, -1):
            row = batch * T + t
            i = (row * H + head) * N
            for n in range(N):
                dx[i + n] = dy[i + n] + dstart[at + n]
            if reset[row]:
                dstart[at : at + N] = 0
                dd[i : i + N] = 0
                dL[i * rank : (i + N) * rank] = 0
                dR[i * rank : (i + N) * rank] = 0
                continue
            before, past = (start, at) if t == 0 else (h, i - H * N)
            if t > 1:
                _fetch(past, N, rank, d, dy, L, R)
                fetch(h, past - H * N, N)
            _rows(L, i * rank, N, rank, left)
            _rows(R, i * rank, N, rank, right)
            for q in range(rank):
                u[q] = _inner(zero, right, q * N, before, past, N)
                w[q] = _inner(zero, left, q * N, dx, i, N)
            for n in range(0, N, lanes):
                m = N - n
                g, state = load_first(zero, dx, i + n, m), load_first(zero, before, past + n, m)
                store_first(dd, i + n, g * state, m)
                back = load_first(zero, d, i + n, m) * g
                for q in range(rank):
                    along, seen = splat(zero, get(w, q)), splat(zero, get(u, q))
                    back = back + load_first(zero, right, q * N + n, m) * along
                    store_first(left, q * N + n, g * seen, m)
                    store_first(right, q * N + n, state * along, m)
                store_first(dstart, at + n, back, m)
            _columns(left, N, rank, dL, i * rank)
            _columns(right, N, rank, dR, i * rank)
