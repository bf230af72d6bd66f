"""Dense transitions: a matrix times the state, one step after another.

    h_t = A_t h_{t-1} + b_t                                                                                       (1)
    g_t = dy_t + A_{t+1}ᵀ g_{t+1}        db_t = g_t,   dA_t = g_t h_{t-1}ᵀ,   dh_0 = A_1ᵀ g_1                      (2)

for a loss with gradient dy_t at the output h_t. The states that (2) needs are the outputs, so nothing else is kept.

A matrix that changes with time is read once, and its memory sets the pace; one that all steps share stays in the L1 or L2 cache. Forward,
rows meet the state as inner products, four rows at a time; backward, rows are added up, so both directions read A as it lies.

Arrays   flat, all float32 or all float64.  b, h, dy, db [B,T,H,N];  start, final, dfinal, dstart [B,H,N];  reset [B,T] uint8.
         A_t of batch b and head h lies at b * a_batch + t * a_time + h * N * N: strides of 0 repeat it over batch or time.
         dA as A [B or 1,T,H,N,N], or [B,H,N,N] summed over time where a_time is 0; None when nobody asks.
Units    forward (batch, head); backward (group of `group` batch rows, head): rows that share the A of a step stand together.
"""

from __future__ import annotations

from numba import njit, types
from numba.extending import intrinsic

from separatrix.recurrence.kernels.lanes import Lanes, constant, get, load_first, pick, pieces, splat, store_first, vector_of
from separatrix.recurrence.kernels.parallel import spawn

BYTES = 64  # of a value: two ymm or one zmm, so that eight or four running sums hide each other's latency


@intrinsic
def line(typingctx, array):
    """Zeros in as many lanes as a cache line holds."""
    lanes = Lanes(BYTES * 8 // array.dtype.bitwidth, array.dtype)
    return lanes(array), lambda context, builder, sig, args: constant(vector_of(lanes), 0.0)


@intrinsic
def totals(typingctx, a, b, c, d):
    """(total(a), total(b), total(c), total(d)) as four lanes."""

    def build(context, builder, sig, args):
        def halves(x, count):
            while x.type.count > count:
                x = builder.fadd(*pieces(builder, x, x.type.count // 2))
            return x

        def sums(x, y, even, odd):
            return builder.fadd(pick(builder, x, y, even), pick(builder, x, y, odd))

        if a.element == types.float64:
            p, q, r, s = (halves(x, 4) for x in args)
            pairs = ([0, 4, 2, 6], [1, 5, 3, 7])
            return sums(sums(p, q, *pairs), sums(r, s, *pairs), [0, 1, 4, 5], [2, 3, 6, 7])
        p, q, r, s = (halves(x, 8) for x in args)
        pairs = ([0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15])  # within 16 bytes, where shuffles are cheap
        return halves(sums(sums(p, q, *pairs), sums(r, s, *pairs), *pairs), 4)

    return Lanes(4, a.element)(a, b, c, d), build


@njit(nogil=True)
def _four_rows(zero, A, at, N, rows, x, i):
    """A[at:] as `rows` <= 4 rows of N numbers, each times x[i : i + N]; a missing row repeats the last."""
    lanes = BYTES // A.itemsize
    r1, r2, r3 = at + min(1, rows - 1) * N, at + min(2, rows - 1) * N, at + min(3, rows - 1) * N
    s0, s1, s2, s3 = zero, zero, zero, zero
    for j in range(0, N, lanes):
        n = N - j
        state = load_first(zero, x, i + j, n)
        s0 = s0 + load_first(zero, A, at + j, n) * state
        s1 = s1 + load_first(zero, A, r1 + j, n) * state
        s2 = s2 + load_first(zero, A, r2 + j, n) * state
        s3 = s3 + load_first(zero, A, r3 + j, n) * state
    return totals(s0, s1, s2, s3)


@njit(cache=True, nogil=True)
def forward(first, last, shape, a_batch, a_time, A, b, reset, start, h, final):
    """Equation (1).   shape (T, H, N)"""
    T, H, N = shape
    zero = line(b)
    for unit in range(first, last):
        batch, head = unit // H, unit % H
        before, at = start, unit * N
        for t in range(T):
            row = batch * T + t
            i = (row * H + head) * N
            if reset[row]:
                h[i : i + N] = b[i : i + N]
            else:
                matrix = batch * a_batch + t * a_time + head * N * N
                for r in range(0, N, 4):
                    state = _four_rows(zero, A, matrix + r * N, N, min(4, N - r), before, at)
                    store_first(h, i + r, state + load_first(state, b, i + r, N - r), N - r)
            before, at = h, i
        for n in range(N):
            final[unit * N + n] = before[at + n]


@njit(cache=True, nogil=True)
def backward(first, last, shape, group, a_batch, a_time, A, reset, start, h, dy, dfinal, db, dA, dstart):
    """Equations (2).   shape (B, T, H, N)"""
    B, T, H, N = shape
    zero = line(dy)
    lanes = BYTES // dy.itemsize
    for unit in range(first, last):
        b0, head = unit // H * group, unit % H
        for batch in range(b0, min(b0 + group, B)):
            at = (batch * H + head) * N
            dstart[at : at + N] = dfinal[at : at + N]  # A_{t+1}ᵀ g_{t+1}, on its way back to the start
        into = 0
        if dA is not None and a_time == 0:
            into = unit * N * N
            dA[into : into + N * N] = 0
        for t in range(T - 1, -1, -1):
            for batch in range(b0, min(b0 + group, B)):
                row, at = batch * T + t, (batch * H + head) * N
                i = (row * H + head) * N
                for n in range(N):
                    db[i + n] = dy[i + n] + dstart[at + n]
                if dA is not None and a_time != 0:
                    into = (((b0 if a_batch else 0) * T + t) * H + head) * N * N
                adding = batch > b0 or a_time == 0
                if reset[row]:
                    dstart[at : at + N] = 0
                    if dA is not None and not adding:
                        dA[into : into + N * N] = 0
                    continue
                before, past = (start, at) if t == 0 else (h, i - H * N)
                matrix = batch * a_batch + t * a_time + head * N * N
                for j in range(0, N, lanes):
                    n = N - j
                    state = load_first(zero, before, past + j, n)
                    s0, s1, s2, s3 = zero, zero, zero, zero
                    r = 0
                    while r + 4 <= N:
                        g0, g1 = splat(zero, get(db, i + r)), splat(zero, get(db, i + r + 1))
                        g2, g3 = splat(zero, get(db, i + r + 2)), splat(zero, get(db, i + r + 3))
                        m = r * N + j
                        s0 = s0 + load_first(zero, A, matrix + m, n) * g0
                        s1 = s1 + load_first(zero, A, matrix + m + N, n) * g1
                        s2 = s2 + load_first(zero, A, matrix + m + 2 * N, n) * g2
                        s3 = s3 + load_first(zero, A, matrix + m + 3 * N, n) * g3
                        if dA is not None:
                            m += into
                            _put(dA, m, g0 * state, n, adding)
                            _put(dA, m + N, g1 * state, n, adding)
                            _put(dA, m + 2 * N, g2 * state, n, adding)
                            _put(dA, m + 3 * N, g3 * state, n, adding)
                        r += 4
                    while r < N:
                        g0 = splat(zero, get(db, i + r))
                        s0 = s0 + load_first(zero, A, matrix + r * N + j, n) * g0
                        if dA is not None:
                            _put(dA, into + r * N + j, g0 * state, n, adding)
                        r += 1
                    store_first(dstart, at + j, (s0 + s1) + (s2 + s3), n)


@njit(nogil=True)
def _put(array, i, value, n, adding):
    if adding:
        value = load_first(value, array, i, n) + value
    store_first(array, i, value, n)


@njit(cache=True, nogil=True)
def forward_shared(team, threads, first, last, args):
    spawn(forward, team, threads, first, last, args)


@njit(cache=True, nogil=True)
def backward_shared(team, threads, first, last, args):
    spawn(backward, team, threads, first, last, args)
