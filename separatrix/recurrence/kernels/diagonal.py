"""Diagonal states: every number of the state lives alone.

    h_t = a_t h_{t-1} + x_t                                                                                       (1)
    g_t = dy_t + conj(a_{t+1}) g_{t+1}        dx_t = g_t,   da_t = g_t conj(h_{t-1}),   dh_0 = conj(a_1) g_1          (2)

for a loss with gradient dy_t at the output h_t; of a complex number z the gradient is dL/dRe z + i dL/dIm z.

One multiply-add a number: the memory sets the pace. Whole rows are walked, hundreds of channels side by side, so that the reads are long
and the row before, which is the state, is still in the L1 cache.

Arrays   flat, all real or all complex, single or double.
         x, h, dy, dx [B,T,D];  start, final, dfinal, dstart [B,D];  reset [B,T] uint8, the state is cleared before that step.
         a_t of batch b lies at b * a_batch + t * a_time + d (in numbers): strides of 0 repeat it over batch or time.
         da [B,T,D], or [B,D] summed over time where a_time is 0; None when it is not needed, and then h is not read and may be None too.
Units    (batch, block of `block` channels); results do not depend on `block`. Wide is fast: with 512 float32 a scan takes as long as the
         sum of two arrays.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import count, load_first, store_first
from separatrix.recurrence.kernels.pairs import conj, rest_of
from separatrix.recurrence.kernels.parallel import shared


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, block, a_batch, a_time, a, x, reset, start, h, final):
    """(1).   shape (T, D)"""
    T, D = shape
    blocks = (D + block - 1) // block
    zero = rest_of(x)
    lanes = count(zero)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, D)
        before, at = start, b * D
        for t in range(T):
            row = b * T + t
            for d in range(left, right, lanes):
                n = right - d
                state = load_first(zero, x, row * D + d, n)
                if not reset[row]:
                    state = load_first(zero, a, b * a_batch + t * a_time + d, n) * load_first(zero, before, at + d, n) + state
                store_first(h, row * D + d, state, n)
            before, at = h, row * D
        for d in range(left, right, lanes):
            store_first(final, b * D + d, load_first(zero, before, at + d, right - d), right - d)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, block, a_batch, a_time, a, reset, start, h, dy, dfinal, dx, da, dstart):
    """(2)"""
    T, D = shape
    blocks = (D + block - 1) // block
    zero = rest_of(dy)
    lanes = count(zero)
    for unit in range(first, last):
        b, left = unit // blocks, unit % blocks * block
        right = min(left + block, D)
        end = left + (right - left - 1) // lanes * lanes
        if da is not None and a_time == 0:
            for d in range(left, right, lanes):
                store_first(da, b * D + d, zero, right - d)
        for t in range(T - 1, -1, -1):
            row = b * T + t
            for d in range(end, left - 1, -lanes):  # memory from back to front, without a jump: the hardware sees what comes next
                n, i = right - d, row * D + d
                g = load_first(zero, dy, i, n)
                if t == T - 1:
                    g = g + load_first(zero, dfinal, b * D + d, n)
                elif not reset[row + 1]:
                    g = g + conj(load_first(zero, a, b * a_batch + (t + 1) * a_time + d, n)) * load_first(zero, dx, i + D, n)
                store_first(dx, i, g, n)
                if da is not None:
                    if reset[row]:
                        product = zero
                    elif t == 0:
                        product = g * conj(load_first(zero, start, b * D + d, n))
                    else:
                        product = g * conj(load_first(zero, h, i - D, n))
                    if a_time == 0:
                        store_first(da, b * D + d, load_first(zero, da, b * D + d, n) + product, n)
                    else:
                        store_first(da, i, product, n)
        for d in range(left, right, lanes):
            n = right - d
            if T == 0:
                g = load_first(zero, dfinal, b * D + d, n)
            elif reset[b * T]:
                g = zero
            else:
                g = conj(load_first(zero, a, b * a_batch + d, n)) * load_first(zero, dx, b * T * D + d, n)
            store_first(dstart, b * D + d, g, n)
