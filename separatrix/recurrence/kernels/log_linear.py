"""Log-linear attention, forward: letters as in `fenwick`, R_b the matrix of digit b of P.

    o   = M v + sum_b reads_b R_b
    R_m = sum_b f_b D[end, 0] R_b + writesᵀ v        m the digit that the chunk brings to 1, b those it takes up                 (1)

The final state is f_b R_b, digit by digit.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.chunk import CHUNK, ONE, zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.fenwick import (
    SPAN,
    chunk_end,
    enter_digit,
    enter_keys,
    enter_queries,
    enter_writes,
    holds,
    join,
    new_digit,
    new_steps,
    parts_of,
)
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import LANES, ROWS, load_rows, pack, padded, store_rows, through, tile, triangle, unpack


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, q, k, v, decay, scale, start, steps, keep, o, final, marks, fades):
    """Units (batch, head, part of the values).  Flat float32 arrays: q, k [B,T,G,K]; v, o [B,T,H,V]; decay empty or [B,T,H];
    scale [B,T,H,L]; start (or empty), final [B,H,L,K,V]; steps [B,T] int64; marks [B,H,most,K,V] and fades [B,H,most,L], written if `keep`
    where a digit of SPAN or more has changed: the new matrix and every f, zeros behind the last.  Head h reads group h // (H // G)."""
    _, T, G, H, K, V, L, part = shape
    parts, most = (V + part - 1) // part, (T + SPAN - 2) // SPAN
    width, wide = padded(K, LANES), padded(part, LANES)
    size, c = width * wide, new_steps(width)
    R, u, out, f = zeros(L * size), zeros(CHUNK * wide), zeros(CHUNK * wide), zeros(L)
    digits, places, factors = np.zeros(L, np.int64), np.zeros(L, np.int64), zeros(L)
    for unit in range(first, last):
        b, h, left = unit // (H * parts), unit // parts % H, unit % parts * part
        group, lanes, row, mark, now, after = h // (H // G), min(part, V - left), b * T, 0, 0, steps[b * T]
        for m in range(L):
            if holds(after, m):
                f[m] = 1
                pack(start, ((b * H + h) * L + m) * K * V + left, V, K, lanes, ONE, R[m * size :], width, wide)
        while now < T:
            P, t, end = steps[row + now], row + now, chunk_end(steps, row, now, T)
            n, levels, values = end - now, (t * H + h) * L, (t * H + h) * V + left
            enter_keys(c, width, n, k, (t * G + group) * K, G * K, K, decay, t * H + h, H)
            enter_queries(c, width, P, n, q, (t * G + group) * K, G * K, K, scale, levels, H * L, L)
            pack(v, values, H * V, n, lanes, ONE, u, CHUNK, wide)
            among(out, wide, n, c.M, u)
            for m in range(L):
                if holds(P, m):
                    enter_digit(c, width, P, n, m, f[m], scale, levels, H * L, L)
                    observe(out, wide, n, c.reads, width, K, R, m * size)
            unpack(out, wide, n, lanes, ONE, o, values, H * V)
            now, after = end, P + n
            if now < T and steps[row + now] == 0:
                continue  # a new sequence: what was counted is dropped
            for m in range(L - 1, -1, -1):
                if new_digit(P, after, m):
                    count = parts_of(P, after, m, digits)
                    for i in range(count):
                        places[i], factors[i] = digits[i] * size, f[digits[i]] * c.arrive[CHUNK - 1]
                    enter_writes(c, width, P, n, after, m)
                    join(R, m * size, places, factors, count, K, c.writes, width, wide, u, n)
                    f[m] = 1
                    if keep and after % SPAN == 0 and now < T:
                        unpack(R[m * size :], wide, K, lanes, ONE, marks, ((b * H + h) * most + mark) * K * V + left, V)
                else:
                    f[m] = f[m] * c.arrive[CHUNK - 1] if holds(after, m) else ZERO
            if keep and after % SPAN == 0 and now < T:
                if left == 0:
                    for m in range(L):
                        fades[((b * H + h) * most + mark) * L + m] = f[m]
                mark += 1
        if keep:  # short rows, resets and late starts leave fewer marks than there can be
            for r in range(((b * H + h) * most + mark) * K, ((b * H + h) * most + most) * K):
                marks[r * V + left : r * V + left + lanes] = 0
            if left == 0:
                fades[((b * H + h) * most + mark) * L : ((b * H + h) * most + most) * L] = 0
        for m in range(L):
            at = ((b * H + h) * L + m) * K * V + left
            if holds(after, m):
                unpack(R[m * size :], wide, K, lanes, f[m], final, at, V)
            else:
                for r in range(K):
                    final[at + r * V : at + r * V + lanes] = 0


@compiled
def among(out, wide, n, M, u):
    """out = M u for a triangle M."""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, wide, LANES):
        for r in range(0, n, ROWS):
            rows = through(none, M, r * CHUNK, CHUNK, 1, u, d, wide, r)
            store_rows(out, r * wide + d, wide, triangle(rows, M, r * CHUNK + r, CHUNK, 1, u, r * wide + d, wide))


@compiled
def observe(out, wide, n, x, width, K, R, at):
    """out += x R[at :]    x [n, K], a row every `width`, R [K, wide]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, wide, LANES):
        for r in range(0, n, ROWS):
            rows = load_rows(none, out, r * wide + d, wide)
            store_rows(out, r * wide + d, wide, through(rows, x, r * width, width, 1, R, at + d, wide, K))
