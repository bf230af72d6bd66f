"""States of k numbers a channel that mix, channels that do not.

    h_t[i] = sum_j A_t[i, j] * h_{t-1}[j] + x_t[i]                                                                (1)
    g_t[j] = dy_t[j] + sum_i A_{t+1}[i, j] * g_{t+1}[i]       dx_t = g_t,  dA_t[i, j] = g_t[i] h_{t-1}[j],  dh_0 = A_1ᵀ g_1   (2)

As in `diagonal` the memory sets the pace: whole rows are walked and the row before, which is the state, is still in the L1 cache.

Arrays   flat, all float32 or all float64.  x, h, dy, dx [B,T,k,n];  start, final, dfinal, dstart [B,k,n];  reset [B,T] uint8;
         A_t of batch b lies at b * a_batch + t * a_time, [k,k,n]: strides of 0 repeat it over batch or time.
         dA [B,T,k,k,n], or None when it is not needed, and then h is not read and may be None too.
Units    (batch, block of `block` channels); results do not depend on `block`.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import count, load_first, rest, store_first
from separatrix.recurrence.kernels.parallel import shared


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, block, a_batch, a_time, A, x, reset, start, h, final):
    """(1).   shape (T, k, n)"""
    T, k, n = shape
    blocks = (n + block - 1) // block
    zero = rest(x)
    lanes = count(zero)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, n)
        before, at = start, b * k * n
        for t in range(T):
            row = (b * T + t) * k * n
            where = b * a_batch + t * a_time
            for i in range(k):
                for d in range(left, right, lanes):
                    state = load_first(zero, x, row + i * n + d, right - d)
                    if not reset[b * T + t]:
                        for j in range(k):
                            entry = load_first(zero, A, where + (i * k + j) * n + d, right - d)
                            state = state + entry * load_first(zero, before, at + j * n + d, right - d)
                    store_first(h, row + i * n + d, state, right - d)
            before, at = h, row
        for i in range(k):
            for d in range(left, right, lanes):
                store_first(final, (b * k + i) * n + d, load_first(zero, before, at + i * n + d, right - d), right - d)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, block, a_batch, a_time, A, reset, start, h, dy, dfinal, dx, dA, dstart):
    """(2).   shape (T, k, n), T >= 1"""
    T, k, n = shape
    blocks = (n + block - 1) // block
    zero = rest(dy)
    lanes = count(zero)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, n)
        end = left + (right - left - 1) // lanes * lanes
        for t in range(T - 1, -2, -1):  # memory from back to front, as in `diagonal`
            row = (b * T + t) * k * n
            cut = t + 1 < T and reset[b * T + t + 1]
            after = b * a_batch + (t + 1) * a_time
            for j in range(k - 1, -1, -1):
                for d in range(end, left - 1, -lanes):
                    m = right - d
                    g = zero
                    if t >= 0:
                        g = load_first(zero, dy, row + j * n + d, m)
                    if t == T - 1:
                        g = g + load_first(zero, dfinal, (b * k + j) * n + d, m)
                    elif not cut:
                        for i in range(k):
                            g = g + load_first(zero, A, after + (i * k + j) * n + d, m) * load_first(zero, dx, row + (k + i) * n + d, m)
                    if t < 0:
                        store_first(dstart, (b * k + j) * n + d, g, m)
                    else:
                        store_first(dx, row + j * n + d, g, m)
            if dA is not None and t >= 0:
                into = (b * T + t) * k * k * n
                if reset[b * T + t]:
                    for i in range(k * k):
                        for d in range(left, right, lanes):
                            store_first(dA, into + i * n + d, zero, right - d)
                    continue
                before, at = (start, b * k * n) if t == 0 else (h, row - k * n)
                for i in range(k - 1, -1, -1):
                    for j in range(k - 1, -1, -1):
                        for d in range(end, left - 1, -lanes):
                            m = right - d
                            g = load_first(zero, dx, row + i * n + d, m)
                            store_first(dA, into + (i * k + j) * n + d, g * load_first(zero, before, at + j * n + d, m), m)
