"""Log-linear attention, backward, chunk by chunk from the last: letters as in `fenwick`, `log_linear` and `fenwick_backward`.

The matrices of digits below SPAN are made again from the nearest mark, one stretch at a time: four for every thread, and one of each
larger digit, whatever the length.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.chunk import CHUNK, ONE, product, zeros
from separatrix.recurrence.kernels.fenwick import (
    SPAN,
    chunk_end,
    enter_keys,
    enter_queries,
    holds,
    new_digit,
    new_steps,
    start_before,
)
from separatrix.recurrence.kernels.fenwick_backward import (
    back_inside,
    back_to_reads,
    back_to_scores,
    back_to_writers,
    drop_digits,
    make_digits,
    new_scratch,
    place_of,
)
from separatrix.recurrence.kernels.head_decay import decay_gradients
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.tile import LANES, pack, padded, unpack
from separatrix.recurrence.kernels.transpose import transpose_squares


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
    size, c, s = width * wide, new_steps(width), new_scratch(width, wide, L)
    X = zeros(size)
    for unit in range(first, last):
        b, h, p = unit // (H * parts), unit // parts % H, unit % parts
        left, row, bh = p * part, b * T, b * H + h
        group, lanes = h // (H // G), min(part, V - left)
        sizes = (K, lanes, L, width, wide)
        mark = -1  # of the stretch at hand
        for t in range(1, T):
            mark += steps[row + t] % SPAN == 0 and steps[row + t] > 0
        end = T
        while end > 0:
            begin = start_before(steps, row, end, SPAN)
            enter_stretch(s, X, sizes, steps[row + begin], begin, start, marks, fades, bh * L, bh * most + mark, V, left)
            now, j = begin, 0
            stop = chunk_end(steps, row, now, T)
            while stop < end:
                t, n = row + now, stop - now
                enter_keys(c, width, n, k, (t * G + group) * K, G * K, K, decay, t * H + h, H)
                pack(v, (t * H + h) * V + left, H * V, n, lanes, ONE, s.u, CHUNK, wide)
                make_digits(s, c, sizes, steps[t], n, j)
                now, j = stop, j + 1
                stop = chunk_end(steps, row, now, T)
            while True:
                P, t, n = steps[row + now], row + now, stop - now
                values, levels, grads = (t * H + h) * V + left, (t * H + h) * L, (p * B * T + t) * H + h
                enter_keys(c, width, n, k, (t * G + group) * K, G * K, K, decay, t * H + h, H)
                enter_queries(c, width, P, n, q, (t * G + group) * K, G * K, K, scale, levels, H * L, L)
                pack(v, values, H * V, n, lanes, ONE, s.u, CHUNK, wide)
                pack(grad_o, values, H * V, n, lanes, ONE, s.G, CHUNK, wide)
                back_to_scores(s, c, sizes)
                back_inside(s, c, sizes, P, n)
                if stop == T:
                    enter_final(s, c, sizes, P, n, j, grad_final, bh * L, V, left)
                if stop == T or steps[row + stop] != 0:
                    back_to_writers(s, c, sizes, P, n, j)
                else:
                    drop_digits(s, sizes, P)
                passed = back_to_reads(s, c, sizes, P, n, j, scale, levels, H)
                unpack(s.dq, width, n, K, ONE, grad_q, grads * K, H * K)
                unpack(s.dk, width, n, K, ONE, grad_k, grads * K, H * K)
                unpack(s.dv, wide, n, lanes, ONE, grad_v, values, H * V)
                for i in range(n):
                    for m in range(L):
                        grad_scale[(grads + i * H) * L + m] = s.dscale[i * L + m]
                if decay.size > 0:
                    decay_gradients(grad_decay, grads, H, n, s.among, passed, s.reading, s.writing)
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
                unpack(s.A[m * size :], wide, K, lanes, ONE, grad_start, at, V)
            elif start.size > 0:
                for r in range(K):
                    grad_start[at + r * V : at + r * V + lanes] = 0


@njit(cache=True, nogil=True)
def enter_stretch(s, X, sizes, P, begin, start, marks, fades, states, mark, V, left):
    """The digits before a stretch that begins with step `begin`, and every f: from start[states :], or from the marks up to this one."""
    K, lanes, L, width, wide = sizes
    for m in range(L):
        s.f[m] = 1
        if holds(P, m):
            back = P - (P >> m << m)  # steps since it was made
            if back >= begin:
                pack(start, (states + m) * K * V + left, V, K, lanes, ONE, X, width, wide)
            else:
                pack(marks, (mark - back // SPAN) * K * V + left, V, K, lanes, ONE, X, width, wide)
            if begin > 0:
                s.f[m] = fades[mark * L + m]
            transpose_squares(X, 0, wide, width, wide, s.R[place_of(P, m) * width * wide :], width)


@njit(cache=True, nogil=True)
def enter_final(s, c, sizes, P, n, j, grad_final, states, V, left):
    """A and Z after the last chunk."""
    K, lanes, L, width, wide = sizes
    size, after = width * wide, P + n
    for m in range(L):
        if holds(after, m):
            fading = ONE if new_digit(P, after, m) else s.f[j * L + m] * c.arrive[CHUNK - 1]
            rows = K if grad_final.size else 0
            pack(grad_final, (states + m) * K * V + left, V, rows, lanes, fading, s.A[m * size :], width, wide)
            if not new_digit(P, after, m):
                transpose_squares(s.A, m * size, wide, width, wide, s.turned_A, width)
                s.Z[m] = product(s.R, place_of(P, m) * size, s.turned_A, 0, size)
