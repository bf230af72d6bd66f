"""States that are capped and lifted.

    m_t = min(a_t, h_{t-1}),   h_t = max(m_t, b_t)                                                                (1)
    g_t = dy_t + [h_{t+1} came from h_t] g_{t+1}      da_t = [h_t is a_t] g_t,   db_t = [h_t is b_t] g_t              (2)

A tie goes to the past: to h_{t-1} rather than a_t, to m_t rather than b_t. A NaN stays one. Nothing is rounded, so every form of (1) gives
the same numbers.

Arrays   flat, all float32 or all float64.  a, b, h, dy, da, db [B,T,D];  start, final, dfinal, dstart [B,D];  reset [B,T] uint8.
Units    (batch, block of `block` channels).
"""

from __future__ import annotations

from numba.extending import intrinsic

from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import count, load_first, rest, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.vectors import constant


def _where_less(nan_of):
    @intrinsic
    def where_less(typingctx, x, y, then, otherwise):
        def build(context, builder, sig, args):
            new = args[nan_of]
            taken = builder.or_(builder.fcmp_ordered("<", args[0], args[1]), builder.fcmp_unordered("uno", new, new))
            return builder.select(taken, args[2], args[3])

        return then(x, y, then, otherwise), build

    return where_less


@intrinsic
def between(typingctx, a, h, b):
    """max(min(a, h), b), a NaN where one of the three is: the processor's min and max take the second of two numbers, NaN or not."""

    def build(context, builder, sig, args):
        cap, state, floor = args
        low = builder.select(builder.fcmp_ordered("<", cap, state), cap, state)
        high = builder.select(builder.fcmp_ordered(">", floor, low), floor, low)
        return builder.select(builder.fcmp_unordered("uno", cap, floor), constant(high.type, float("nan")), high)

    return h(a, h, b), build


where_capped = _where_less(0)  # (a, h, then, otherwise): a < h, or a is a NaN
where_lifted = _where_less(1)  # (m, b, then, otherwise): m < b, or b is a NaN


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, block, a, b, reset, start, h, final):
    """Equation (1).   shape (T, D)"""
    T, D = shape
    blocks = (D + block - 1) // block
    zero = rest(b)
    lanes = count(zero)
    for unit in range(first, last):
        batch, left = unit // blocks, unit % blocks * block
        right = min(left + block, D)
        before, at = start, batch * D
        for t in range(T):
            row = batch * T + t
            for d in range(left, right, lanes):
                n, i = right - d, row * D + d
                state = zero
                if not reset[row]:
                    state = load_first(zero, before, at + d, n)
                store_first(h, i, between(load_first(zero, a, i, n), state, load_first(zero, b, i, n)), n)
            before, at = h, row * D
        for d in range(left, right, lanes):
            store_first(final, batch * D + d, load_first(zero, before, at + d, right - d), right - d)


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, block, a, b, reset, start, h, dy, dfinal, da, db, dstart):
    """Equations (2)."""
    T, D = shape
    blocks = (D + block - 1) // block
    zero = rest(b)
    lanes = count(zero)
    for unit in range(first, last):
        batch, left = unit // blocks, unit % blocks * block
        right = min(left + block, D)
        end = left + (right - left - 1) // lanes * lanes
        dstart[batch * D + left : batch * D + right] = dfinal[batch * D + left : batch * D + right]  # what t + 1 sends back
        for t in range(T - 1, -1, -1):
            row = batch * T + t
            for d in range(end, left - 1, -lanes):  # memory from back to front, as the diagonal backward does
                n, i, at = right - d, row * D + d, batch * D + d
                state = zero
                if not reset[row]:
                    state = load_first(zero, start, at, n) if t == 0 else load_first(zero, h, i - D, n)
                cap, floor = load_first(zero, a, i, n), load_first(zero, b, i, n)
                g = load_first(zero, dy, i, n) + load_first(zero, dstart, at, n)
                low = where_capped(cap, state, cap, state)
                below = where_lifted(low, floor, zero, g)
                store_first(db, i, where_lifted(low, floor, g, zero), n)
                store_first(da, i, where_capped(cap, state, below, zero), n)
                carry = where_capped(cap, state, zero, below)
                if reset[row]:
                    carry = zero
                store_first(dstart, at, carry, n)
