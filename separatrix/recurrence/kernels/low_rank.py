"""Diagonal plus low rank transitions of a vector state, one step after another.

    u_t = R_tᵀ h_{t-1},   h_t = d_t ⊙ h_{t-1} + L_t u_t + x_t                                                     (1)
    w_t = L_tᵀ g_t,       g_t = dy_t + c_t,   c_{t-1} = d_t ⊙ g_t + R_t w_t                                       (2)
    dx_t = g_t,  dd_t = g_t ⊙ h_{t-1},  dL_t = g_t u_tᵀ,  dR_t = h_{t-1} w_tᵀ,  dh_0 = c_0

for a loss with gradient dy_t at h_t; c_T is its gradient at the last state. The states that (2) needs are the outputs.

Arrays   flat, all float32 or all float64.  d, x, h, dy, dx, dd [B,T,H,N];  L, R, dL, dR [B,T,H,r,N];  start, final, dfinal, dstart [B,H,N];
         reset [B,T] uint8.
Units    (batch, head).
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.dense import BYTES, line
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import get, load_first, splat, store_first
from separatrix.recurrence.kernels.parallel import shared


@compiled
def _inner(zero, x, i, y, j, N):
    lanes = BYTES // x.itemsize
    sums = zero
    for n in range(0, N, lanes):
        sums = sums + load_first(zero, x, i + n, N - n) * load_first(zero, y, j + n, N - n)
    return total(sums)


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, d, L, R, x, reset, start, h, final):
    """Equation (1).   shape (T, H, N, r)"""
    T, H, N, rank = shape
    zero = line(x)
    lanes = BYTES // x.itemsize
    u = np.empty(rank, x.dtype)
    for unit in range(first, last):
        batch, head = unit // H, unit % H
        before, at = start, unit * N
        for t in range(T):
            row = batch * T + t
            i = (row * H + head) * N
            if reset[row]:
                h[i : i + N] = x[i : i + N]
            else:
                for q in range(rank):
                    u[q] = _inner(zero, R, i * rank + q * N, before, at, N)
                for n in range(0, N, lanes):
                    left = N - n
                    state = load_first(zero, d, i + n, left) * load_first(zero, before, at + n, left) + load_first(zero, x, i + n, left)
                    for q in range(rank):
                        state = state + load_first(zero, L, i * rank + q * N + n, left) * splat(zero, get(u, q))
                    store_first(h, i + n, state, left)
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
            for q in range(rank):
                u[q] = _inner(zero, R, i * rank + q * N, before, past, N)
                w[q] = _inner(zero, L, i * rank + q * N, dx, i, N)
            for n in range(0, N, lanes):
                left = N - n
                g, state = load_first(zero, dx, i + n, left), load_first(zero, before, past + n, left)
                store_first(dd, i + n, g * state, left)
                back = load_first(zero, d, i + n, left) * g
                for q in range(rank):
                    m = i * rank + q * N + n
                    along, seen = splat(zero, get(w, q)), splat(zero, get(u, q))
                    back = back + load_first(zero, R, m, left) * along
                    store_first(dL, m, g * seen, left)
                    store_first(dR, m, state * along, left)
                store_first(dstart, at + n, back, left)
