"""Log-linear attention, backward, chunk by chunk from the last: letters as in `fenwick` and `log_linear`.

R_b is never touched, so neither is its adjoint A_b = dL/dR_b until the chunk that made it: readers add to it, and the digits that a new
one took up get theirs from it. With G = dL/do, u = v, C = (G uᵀ) ⊙ D ⊙ W and the sums over the digits b of P and the new digits m

    dq = C k + sum_b λ_b D[t, 0] f_b ⊙ (G R_bᵀ)             dλ_b = D[t, 0] f_b q·(G R_bᵀ)            A_b += reads_bᵀ G
    dk = Cᵀ q + sum_m D[end, s] ⊙ (u A_mᵀ)                   dv = Mᵀ G + sum_m writes_m A_m           A_b = f_b D[end, 0] A_m      (1)

What passes through the decay of step t is, in parts: from the R_b to what comes after the chunk, Z_b = <R_b, A_b>, which adds up along with
A_b; from the R_b to readers at t and later; from the writers before t to the A_m; from those writers to those readers, pair by pair. All
are sums, so nothing is subtracted from something nearly equal.

The matrices of digits below SPAN are made again from the nearest mark, one stretch at a time: four for every thread, and one of each
larger digit, whatever the length. They are kept transposed, as (1) reads them.

Cost     2 K V multiply-adds a step and digit that is 1, 3 K V for the new digits and one transpose a chunk.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.chunk import CHUNK, ONE, SQUARE, product, scores, weigh, zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.fenwick import (
    DIGITS,
    SPAN,
    chunk_end,
    enter_digit,
    enter_keys,
    enter_queries,
    enter_writes,
    first_of,
    holds,
    join,
    level_of,
    new_digit,
    new_steps,
    parts_of,
    start_before,
)
from separatrix.recurrence.kernels.head_decay import crossing, decay_gradients
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, store
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.scores_backward import to_readers, to_writers
from separatrix.recurrence.kernels.tile import (
    LANES,
    ROWS,
    load_rows,
    pack,
    padded,
    scaled,
    store_rows,
    through,
    tile,
    unpack,
)
from separatrix.recurrence.kernels.transpose import transpose_squares

# Where digits of a stretch are kept: those made in it by the chunk that made them, those of the initial state below CHUNK, larger ones.
MADE = SPAN // CHUNK


@compiled
def place_of(P, b):
    """Of digit b of P, among the matrices of a stretch."""
    if b < DIGITS:
        return MADE + b
    made = P >> b << b
    return made // CHUNK % MADE if made % SPAN else MADE + b


@shared
@njit(cache=True, nogil=True)
def backward(
    first,
    last,
    shape,
    q,
    k,
    v,
    decay,
    scale,
    start,
    steps,
    marks,
    fades,
    grad_o,
    grad_final,
    grad_q,
    grad_k,
    grad_v,
    grad_decay,
    grad_scale,
    grad_start,
):
    """Units as in `log_linear.forward`, whose marks and fades come in; grad_final may be empty.  Gradients are shaped like what they belong
    to, those of q, k, decay and scale with one axis before all others, the parts of the values, and with a head for every head of v."""
    B, T, G, H, K, V, L, part = shape
    parts, most = (V + part - 1) // part, (T + SPAN - 2) // SPAN
    width, wide = padded(K, LANES), padded(part, LANES)
    size, c = width * wide, new_steps(width)
    R, A, X, turned_A = zeros((MADE + L) * size), zeros(L * size), zeros(size), zeros(size)
    f, Z, u, g, turned_u = zeros((MADE + 1) * L), zeros(L), zeros(CHUNK * wide), zeros(CHUNK * wide), zeros(CHUNK * wide)
    dq, dk, dv, y, dscale = zeros(CHUNK * width), zeros(CHUNK * width), zeros(CHUNK * wide), zeros(CHUNK * width), zeros(CHUNK * L)
    P_uv, among, reading, writing = zeros(SQUARE), zeros(CHUNK), zeros(CHUNK), zeros(CHUNK)
    digits, places, factors = np.zeros(L, np.int64), np.zeros(L, np.int64), zeros(L)
    for unit in range(first, last):
        b, h, p = unit // (H * parts), unit // parts % H, unit % parts
        left, row, bh = p * part, b * T, b * H + h
        group, lanes = h // (H // G), min(part, V - left)
        mark = -1  # of the stretch at hand
        for t in range(1, T):
            mark += steps[row + t] % SPAN == 0 and steps[row + t] > 0
        end = T
        while end > 0:
            # A stretch: its digits before the first chunk, then those that each chunk but the last makes.
            begin = start_before(steps, row, end, SPAN)
            P = steps[row + begin]
            for m in range(L):
                f[m] = 1
                if holds(P, m):
                    back = P - (P >> m << m)  # steps since it was made
                    if back >= begin:
                        pack(start, (bh * L + m) * K * V + left, V, K, lanes, ONE, X, width, wide)
                    else:
                        pack(marks, (bh * most + mark - back // SPAN) * K * V + left, V, K, lanes, ONE, X, width, wide)
                    if begin > 0:
                        f[m] = fades[(bh * most + mark) * L + m]
                    transpose_squares(X, 0, wide, width, wide, R[place_of(P, m) * size :], width)
            now, j = begin, 0
            stop = chunk_end(steps, row, now, T)
            while stop < end:
                P, t, n, after = steps[row + now], row + now, stop - now, steps[row + stop]
                enter_keys(c, width, n, k, (t * G + group) * K, G * K, K, decay, t * H + h, H)
                pack(v, (t * H + h) * V + left, H * V, n, lanes, ONE, u, CHUNK, wide)
                for m in range(L):
                    fading = f[j * L + m] * c.arrive[CHUNK - 1]
                    f[(j + 1) * L + m] = fading if holds(P, m) else ONE
                    if new_digit(P, after, m):
                        count = parts_of(P, after, m, digits)
                        for i in range(count):
                            places[i], factors[i] = place_of(P, digits[i]) * size, f[j * L + digits[i]] * c.arrive[CHUNK - 1]
                        enter_writes(c, width, P, n, after, m)
                        join(R, place_of(after, m) * size, places, factors, count, wide, u, wide, width, c.writes, n)
                        f[(j + 1) * L + m] = 1
                now, j = stop, j + 1
                stop = chunk_end(steps, row, now, T)
            while True:
                P, t, n = steps[row + now], row + now, stop - now
                after, values, levels, passed = P + n, (t * H + h) * V + left, (t * H + h) * L, ZERO
                enter_keys(c, width, n, k, (t * G + group) * K, G * K, K, decay, t * H + h, H)
                enter_queries(c, width, P, n, q, (t * G + group) * K, G * K, K, scale, levels, H * L, L)
                pack(v, values, H * V, n, lanes, ONE, u, CHUNK, wide)
                pack(grad_o, values, H * V, n, lanes, ONE, g, CHUNK, wide)
                # Inside the chunk.
                transpose_squares(u, 0, wide, CHUNK, wide, turned_u, CHUNK)
                scores(g, wide, turned_u, lanes, CHUNK, 1, P_uv)
                among[:] = 0
                crossing(among, c.M, P_uv, 1, 1)
                weigh(c.N, P_uv)
                levels_inside(dscale, L, c.N, P, n)
                weigh(P_uv, c.D)
                weigh(P_uv, c.W)
                dq[:] = 0
                dk[:] = 0
                dv[:] = 0
                to_readers(dq, width, n, P_uv, c.k, 1)
                to_writers(dk, width, n, P_uv, c.q, n, 1)
                to_writers(dv, wide, n, c.M, g, n, 1)
                # What the chunk leaves.
                reading[:] = 0
                writing[:] = 0
                goes_on = stop == T or steps[row + stop] != 0
                if stop == T:
                    for m in range(L):
                        if holds(after, m):
                            fading = ONE if new_digit(P, after, m) else f[j * L + m] * c.arrive[CHUNK - 1]
                            rows = K if grad_final.size else 0
                            pack(grad_final, (bh * L + m) * K * V + left, V, rows, lanes, fading, A[m * size :], width, wide)
                            if not new_digit(P, after, m):
                                transpose_squares(A, m * size, wide, width, wide, turned_A, width)
                                Z[m] = product(R, place_of(P, m) * size, turned_A, 0, size)
                for m in range(L):
                    if goes_on and new_digit(P, after, m):
                        enter_writes(c, width, P, n, after, m)
                        transpose_squares(A, m * size, wide, width, wide, turned_A, width)
                        see(dv, wide, n, c.writes, width, K, A, m * size, c.weight, True)
                        see(y, width, n, u, wide, lanes, turned_A, 0, c.left, False)
                        gather(dk, writing, y, c.k, n, width)
                        for i in range(parts_of(P, after, m, digits)):
                            d = digits[i]
                            factor = f[j * L + d] * c.arrive[CHUNK - 1]
                            Z[d] = factor * product(R, place_of(P, d) * size, turned_A, 0, size)
                            copy(A, d * size, m * size, factor, size)
                    elif not goes_on and holds(P, m):
                        Z[m] = 0
                        A[m * size : m * size + size] = 0
                # What it reads.
                for m in range(L):
                    if holds(P, m):
                        passed += Z[m]
                        enter_digit(c, width, P, n, m, f[j * L + m], scale, levels, H * L, L)
                        see(y, width, n, g, wide, lanes, R, place_of(P, m) * size, c.seen, False)
                        levels_read(dscale, L, reading, Z, c, y, P, n, m, width)
                        fold(dq, y, c.weight, n, width)
                        grow(A, m * size, K, wide, c.reads, width, g, n)
                unpack(dq, width, n, K, ONE, grad_q, ((p * B * T + t) * H + h) * K, H * K)
                unpack(dk, width, n, K, ONE, grad_k, ((p * B * T + t) * H + h) * K, H * K)
                unpack(dv, wide, n, lanes, ONE, grad_v, values, H * V)
                for i in range(n):
                    for m in range(L):
                        grad_scale[((p * B * T + t + i) * H + h) * L + m] = dscale[i * L + m]
                if decay.size > 0:
                    decay_gradients(grad_decay, (p * B * T + t) * H + h, H, n, among, passed, reading, writing)
                if now == begin:
                    break
                stop, j = now, j - 1
                now = start_before(steps, row, stop, CHUNK)
            if begin > 0 and steps[row + begin] > 0:
                mark -= 1
            end = begin
        for m in range(L):
            at = (bh * L + m) * K * V + left
            if start.size > 0 and holds(steps[row], m):
                unpack(A[m * size :], wide, K, lanes, ONE, grad_start, at, V)
            elif start.size > 0:
                for r in range(K):
                    grad_start[at + r * V : at + r * V + lanes] = 0


@compiled
def levels_inside(dscale, L, x, P, n):
    """dλ_t[level] = the sum of x[t, s] over the steps of the chunk at that level; 0 at the other levels."""
    dscale[:] = 0
    for t in range(n):
        place = P % CHUNK + t
        dscale[t * L] = x[t * CHUNK + t]
        for b in range(min(DIGITS, L - 1)):
            if holds(place, b):
                start, found = first_of(place, b) - P % CHUNK, ZERO
                for s in range(max(start, 0), start + (1 << b)):
                    found += x[t * CHUNK + s]
                dscale[t * L + b + 1] = found


@compiled
def levels_read(dscale, L, reading, Z, c, y, P, n, m, width):
    """What the reads of digit m are worth: to λ, to the decays they come through, to Z."""
    for i in range(n):
        worth = product(c.q, i * width, y, i * width, width)
        dscale[i * L + level_of(P, m, i, L)] += worth
        reading[i] += worth * c.weight[i]
        Z[m] += worth * c.weight[i]


@compiled
def see(into, width, n, x, stride, size, R, at, weight, more):
    """into = weight ⊙ (x R[at :]), or without a weight that much more.    x [n, size], a row every `stride`, R [size, width]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, width, LANES):
        for r in range(0, n, ROWS):
            rows = load_rows(none, into, r * width + d, width) if more else none
            rows = through(rows, x, r * stride, stride, 1, R, at + d, width, size)
            store_rows(into, r * width + d, width, rows if more else scaled(rows, weight, r, 1))


@compiled
def grow(A, at, K, wide, x, width, y, n):
    """A[at :] [K, wide] += xᵀ y    x [n, width], y [n, wide]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, wide, LANES):
        for r in range(0, K, ROWS):
            here = at + r * wide + d
            store_rows(A, here, wide, through(load_rows(none, A, here, wide), x, r, 1, width, y, d, wide, n))


@compiled
def gather(into, worth, y, z, n, width):
    """into += y, worth[i] += y_i·z_i"""
    for i in range(n):
        worth[i] += product(y, i * width, z, i * width, width)
        for d in range(i * width, i * width + width, LANES):
            store(into, d, load(fill(LANES, ZERO), into, d) + load(fill(LANES, ZERO), y, d))


@compiled
def fold(into, y, weight, n, width):
    """Row i of into += weight[i] times that of y."""
    for i in range(n):
        for d in range(i * width, i * width + width, LANES):
            store(into, d, load(fill(LANES, ZERO), into, d) + load(fill(LANES, ZERO), y, d) * weight[i])


@compiled
def copy(x, to, source, factor, n):
    for d in range(0, n, LANES):
        store(x, to + d, load(fill(LANES, ZERO), x, source + d) * factor)
