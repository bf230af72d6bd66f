"""Dense transitions: a matrix times the state, one step after another.

    h_t = A_t h_{t-1} + b_t                                                                                       (1)
    g_t = dy_t + A_{t+1}ᵀ g_{t+1}        db_t = g_t,   dA_t = g_t h_{t-1}ᵀ,   dh_0 = A_1ᵀ g_1                      (2)

for a loss with gradient dy_t at the output h_t. The states that (2) needs are the outputs, so nothing else is kept.

A matrix that changes with time is read once, and its memory sets the pace; one that all steps share stays in the L1 or L2 cache. Both
directions read A as it lies: where its rows are the product's rows they meet the vector as inner products, four rows at a time, else they
are added up.

Arrays   flat, all float32 or all float64.  b, h, dy, db [B,T,H,N];  start, final, dfinal, dstart [B,H,N];  reset [B,T] uint8.
         A_t of batch b and head h lies at b * a_batch + t * a_time + h * N * N: strides of 0 repeat it over batch or time.
         Row by row, or column by column where `turned`, as solvers return matrices; dA likewise.
         dA as A [B or 1,T,H,N,N], or [B,H,N,N] summed over time where a_time is 0; None when it is not needed.
Units    forward (batch, head); backward (group of `group` batch rows, head): rows that share the A of a step stand together.
"""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import Lanes, fetch, get, load_first, store_first, vector_of
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.vectors import constant, pick, pieces

BYTES = 64  # of a value: two ymm or one zmm, so that eight or four running sums hide each other's latency
PAGE = 4096  # bytes: the next matrix is asked for where it begins another page, which the hardware does not read ahead


@intrinsic
def line(typingctx, array):
    """Zeros in as many lanes as a cache line holds."""
    lanes = Lanes(BYTES * 8 // array.dtype.bitwidth, array.dtype)
    return lanes(array), lambda context, builder, sig, args: constant(vector_of(lanes), 0.0)


@compiled
def copy(into, at, source, start, n):
    """into[at : at + n] = source[start : start + n], which as slices would make arrays."""
    for i in range(n):
        into[at + i] = source[start + i]


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


@njit(nogil=True, inline="always")
def step(zero, A, at, N, turned, x, i, b, k, y, j):
    """y[j:] = A x[i:] + b[k:], N numbers each, the matrix at A[at:] row by row, or column by column where `turned`; y may be b."""
    if turned:
        _columns_added(zero, A, at, N, x, i, b, k, y, j)
    else:
        for r in range(0, N, 4):
            rows = min(4, N - r)
            state = _four_rows(zero, A, at + r * N, N, rows, x, i)
            store_first(y, j + r, state + load_first(state, b, k + r, N - r), N - r)


@compiled
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


@njit(nogil=True, inline="always")
def _columns_added(zero, A, at, N, x, i, b, k, y, j):
    lanes = BYTES // A.itemsize
    for d in range(0, N, lanes):
        n, m = N - d, at + d
        s0, s1, s2, s3 = load_first(zero, b, k + d, n), zero, zero, zero
        c = 0
        while c + 4 <= N:
            s0 = s0 + load_first(zero, A, m, n) * get(x, i + c)
            s1 = s1 + load_first(zero, A, m + N, n) * get(x, i + c + 1)
            s2 = s2 + load_first(zero, A, m + 2 * N, n) * get(x, i + c + 2)
            s3 = s3 + load_first(zero, A, m + 3 * N, n) * get(x, i + c + 3)
            m += 4 * N
            c += 4
        while c < N:
            s0 = s0 + load_first(zero, A, m, n) * get(x, i + c)
            m += N
            c += 1
        store_first(y, j + d, (s0 + s1) + (s2 + s3), n)


@compiled
def _outer(zero, N, x, i, y, j, dA, at, adding):
    """dA[at:], row by row, = x[i:] y[j:]ᵀ, or that much more."""
    lanes = BYTES // dA.itemsize
    for d in range(0, N, lanes):
        n = N - d
        right = load_first(zero, y, j + d, n)
        for r in range(N):
            m = at + r * N + d
            value = right * get(x, i + r)
            if adding:
                value = value + load_first(zero, dA, m, n)
            store_first(dA, m, value, n)


@shared
@compiled
def forward(first, last, shape, a_batch, a_time, turned, A, b, reset, start, h, final):
    """Equation (1).   shape (T, H, N)"""
    T, H, N = shape
    zero, far = line(b), a_time != 0 and N * N * A.itemsize <= PAGE
    for unit in range(first, last):
        batch, head = unit // H, unit % H
        before, at = start, unit * N
        for t in range(T):
            row = batch * T + t
            i = (row * H + head) * N
            if reset[row]:
                copy(h, i, b, i, N)
            else:
                matrix = batch * a_batch + t * a_time + head * N * N
                if far:
                    fetch(A, matrix + a_time, N * N)
                step(zero, A, matrix, N, turned, before, at, b, i, h, i)
            before, at = h, i
        copy(final, unit * N, before, at, N)


@shared
@compiled
def backward(first, last, shape, group, a_batch, a_time, turned, A, reset, start, h, dy, dfinal, db, dA, dstart):
    """Equations (2).   shape (B, T, H, N), T >= 1"""
    B, T, H, N = shape
    zero, far = line(dy), a_time != 0 and N * N * A.itemsize <= PAGE
    for unit in range(first, last):
        b0, head = unit // H * group, unit % H
        for batch in range(b0, min(b0 + group, B)):
            at, i = (batch * H + head) * N, ((batch * T + T - 1) * H + head) * N
            dstart[at : at + N] = 0
            for n in range(N):
                db[i + n] = dy[i + n] + dfinal[at + n]
        into = 0
        if dA is not None and a_time == 0:
            into = unit * N * N
            dA[into : into + N * N] = 0
        for t in range(T - 1, -1, -1):
            if dA is not None and a_time != 0:
                into = (((b0 if a_batch else 0) * T + t) * H + head) * N * N
            for batch in range(b0, min(b0 + group, B)):
                row, at = batch * T + t, (batch * H + head) * N
                i = (row * H + head) * N
                before, past = (start, at) if t == 0 else (h, i - H * N)
                adding = batch > b0 or a_time == 0
                if reset[row]:
                    if t > 0:
                        copy(db, past, dy, past, N)
                    if dA is not None and not adding:
                        dA[into : into + N * N] = 0
                    continue
                if dA is not None:
                    if far:
                        fetch(dA, into - a_time, N * N)
                    if turned:
                        _outer(zero, N, before, past, db, i, dA, into, adding)
                    else:
                        _outer(zero, N, db, i, before, past, dA, into, adding)
                matrix = batch * a_batch + t * a_time + head * N * N
                if far:
                    fetch(A, matrix - a_time, N * N)
                if t == 0:
                    step(zero, A, matrix, N, not turned, db, i, dstart, at, dstart, at)
                else:
                    step(zero, A, matrix, N, not turned, db, i, dy, past, db, past)
