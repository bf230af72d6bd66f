"""A matrix state, backward: every gradient from the state before a chunk and the adjoint after it.

With X = dL/dS after the chunk, S the state before it, G = dL/do and the letters of `chunk`, the gradient y = dL/dv, w = dL/du of (2) in
`matrix_state` and those of queries and keys are

    w  = writes X + Mqᵀ G + Mkᵀ y                 y = β w + D G, β = 1 where there is none; from the last step to the first
    Pq = G uᵀ,  Pk = -y uᵀ                        what a score is worth
    dq = arrive ⊙ (G Sᵀ) + (Pq ⊙ D) k                                                                                 (1)
    dk = leave ⊙ (u Xᵀ) + (Pq ⊙ D)ᵀ q  -  arrive ⊙ (y Sᵀ) + (Pk ⊙ D) k + (Pk ⊙ D)ᵀ k
    X <- passed ⊙ X + readsᵀ G + seesᵀ y                                                                              (2)

The gradient of a log decay at step t is everything that passes through the decay of step t, and (1) holds it in parts: from S to X; from S
to the readers at t and later; from the writers before t to X; from those writers to those readers, pair by pair. All four are sums along
the chunk, so nothing is subtracted from something nearly equal.

States are walked forward again from the nearest mark, one stretch at a time, and kept for every chunk of it: STRETCH times the size of
the state for every thread, whatever the length. They are kept transposed, as (1) reads them. Chunks that a reset cuts short need none but
the first: behind a reset S is zero, and before it so is X.

Cost     5 K V multiply-adds a step, 7 for the delta rule, and one transpose of X a chunk.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.chunk import (
    CHUNK,
    HEADS,
    KEYS,
    NOTHING,
    ONE,
    SQUARE,
    enter_keys,
    enter_queries,
    new_chunk,
    product,
    scores,
    weigh,
    weigh_keys,
    zeros,
)
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.fading import among_fading, own_pairs
from separatrix.recurrence.kernels.head_decay import crossing, decay_gradients
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, store
from separatrix.recurrence.kernels.matrix_state import STRETCH, add, move, weigh_rows, weights
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.scores_backward import to_readers, to_writers
from separatrix.recurrence.kernels.tile import (
    LANES,
    ROWS,
    load_rows,
    pack,
    padded,
    scaled,
    solved,
    store_rows,
    through,
    tile,
    times,
    unpack,
)
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
    beta,
    delta,
    skip,
    bonus,
    kind,
    decay,
    reset,
    scale,
    state,
    error,
    marks,
    grad_o,
    grad_final,
    grad_q,
    grad_k,
    grad_v,
    grad_beta,
    grad_decay,
    grad_skip,
    grad_bonus,
    grad_start,
):
    """Units as in `matrix_state.forward`, whose error and marks come in.  Gradients are shaped like what they belong to, those of
    q, k, beta and decay with one axis before all others, the parts of the values, and with a head for every head of v; that of skip
    is a number a unit, that of the bonus a row."""
    B, T, n, G, H, K, V, part = shape
    weighted, early, parts, whole = beta.size > 0, bonus.size > 0, (V + part - 1) // part, CHUNK // n
    width, wide, steps, stretch = padded(K, LANES), padded(part, LANES), whole * n, whole * STRETCH
    size, rows = width * wide, CHUNK + ROWS * n
    c, X, turned_X, states, rest = new_chunk(width, n, kind, early), zeros(size), zeros(size), zeros(STRETCH * size), zeros(size)
    u, e, g, w, y = zeros(rows * wide), zeros(rows * wide), zeros(rows * wide), zeros(rows * wide), zeros(rows * wide)
    turned_u, Pq, Pk, own, down = zeros(wide * CHUNK), zeros(SQUARE), zeros(SQUARE), zeros(width), zeros(width)
    dq, dk, seen, ddecay = zeros(rows * width), zeros(rows * width), zeros(rows * width), zeros(rows * width if kind == KEYS else 0)
    pairs, reading, writing = zeros(CHUNK), zeros(CHUNK), zeros(CHUNK)
    came, values, weight = error if delta else v, e if weighted else u, np.ones(CHUNK, np.float32)
    for unit in range(first, last):
        b, h, p = unit // (H * parts), unit // parts % H, unit % parts
        left = p * part
        group, lanes = h // (H // G), min(part, V - left)
        skipped = ZERO
        pack(bonus, h * K, K, 1 if early else 0, K, ONE, own, 1, width)
        down[:] = 0
        pack(grad_final, (b * H + h) * K * V + left, V, K if grad_final.size else 0, lanes, ONE, X, width, wide)
        for start in range((T - 1) // stretch * stretch, -1, -stretch):
            end = min(T, start + stretch)
            if start == 0:
                pack(state, (b * H + h) * K * V + left, V, K if state.size else 0, lanes, ONE, turned_X, width, wide)
            else:
                mark = (b * H + h) * ((T - 1) // stretch) + start // stretch - 1
                pack(marks, mark * K * V + left, V, K, lanes, ONE, turned_X, width, wide)
            transpose_squares(turned_X, 0, wide, width, wide, states, width)
            chunks = (end - start + whole - 1) // whole
            for i in range(2 * chunks - 1):
                back = i >= chunks - 1  # first forward to the last chunk, then backward from it
                j = 2 * (chunks - 1) - i if back else i
                earliest, stop = start + j * whole, min(end, start + (j + 1) * whole)
                while stop > earliest:
                    now = latest(reset, b * T, earliest, stop)
                    tokens, t = stop - now, b * T + now
                    before, at = (rest, 0) if reset[t] else (states, j * size)
                    row, grads, writes = (t * n * H + h) * V + left, (p * B * T + t) * H + h, (p * B * T + t) * n * H + h
                    enter_keys(c, width, n, tokens, k, (t * n * G + group) * K, G * K, K, kind, decay, t * H + h, H)
                    pack(came, row, H * V, tokens * n, lanes, ONE, values, CHUNK, wide)
                    if weighted:
                        weights(beta, t * n * H + h, H, tokens * n, weight)
                        weigh_rows(e, weight, u, wide)
                    if not back:
                        move_turned(before, at, states, (j + 1) * size, width, wide, kind != NOTHING, c.passed, c.writes, u, steps)
                        break
                    if early:
                        weigh_keys(c, width, tokens, own)
                    enter_queries(c, width, n, tokens, q, (t * G + group) * K, G * K, K, scale, kind, delta, early)
                    pack(grad_o, (t * H + h) * V + left, H * V, tokens, lanes, ONE, g, CHUNK, wide)
                    transpose_squares(X, 0, wide, width, wide, turned_X, width)
                    value_gradients(w, y, wide, steps, c.writes, width, K, X, c.Mq, g, n, whole, delta, c.Mk, weight)
                    if skip.size > 0:
                        skipped += product(g, 0, values, 0, CHUNK * wide)
                        add(y, skip[h], g, tokens * wide)
                    unpack(y, wide, tokens * n, lanes, ONE, grad_v, row, H * V)
                    if weighted:
                        for s in range(tokens * n):
                            grad_beta[writes + s * H] = product(w, s * wide, e, s * wide, wide)
                    # What scores, queries and keys are worth.
                    transpose_squares(u, 0, wide, CHUNK, wide, turned_u, CHUNK)
                    scores(g, wide, turned_u, wide, whole, n, Pq)
                    if delta:
                        scores(y, wide, turned_u, wide, steps, 1, Pk)
                    look(dq, width, whole, g, wide, ONE, before, at, kind, c.arrive, n)
                    look(dk, width, steps, u, wide, ONE, turned_X, 0, kind, c.leave, 1)
                    if delta:
                        look(seen, width, steps, y, wide, -ONE, before, at, kind, c.arrive, 1)
                    if kind == KEYS:
                        decay_rows(ddecay, c, width, n, wide, before, at, turned_X, dq, dk, seen, delta, early)
                    elif kind == HEADS:
                        passing = c.passed[0] * product(before, at, turned_X, 0, size)
                        for i in range(tokens):
                            reading[i], writing[i] = product(c.q, i * width, dq, i * width, width), ZERO
                            for s in range(i * n * width, (i + 1) * n * width, width):
                                writing[i] += product(c.k, s, dk, s, width)
                                if delta:
                                    reading[i] += product(c.k, s, seen, s, width)
                        pairs[:] = 0
                        crossing(pairs, c.Mq, Pq, n, 1)
                        if delta:
                            crossing(pairs, c.Mk, Pk, n, n)
                        decay_gradients(grad_decay, grads, H, tokens, pairs, passing, reading, writing)
                    if delta:
                        for d in range(0, steps * width, LANES):
                            store(dk, d, load(fill(LANES, ZERO), dk, d) + load(fill(LANES, ZERO), seen, d))
                    if early:
                        own_pairs(c, width, tokens, Pq, own, dq, dk, down)
                    if kind == KEYS:
                        among_fading(ddecay, c, width, n, delta, early, Pq, Pk, dq, dk)
                    else:
                        weigh(Pq, c.Dq)
                        to_readers(dq, width, whole, Pq, c.k, n)
                        to_writers(dk, width, steps, Pq, c.q, whole, n)
                        if delta:
                            weigh(Pk, c.Dk)
                            to_readers(dk, width, steps, Pk, c.k, 1)
                            to_writers(dk, width, steps, Pk, c.k, steps, 1)
                    unpack(dq, width, tokens, K, np.float32(scale), grad_q, grads * K, H * K)
                    unpack(dk, width, tokens * n, K, ONE, grad_k, writes * K, H * K)
                    if kind == KEYS:
                        unpack(ddecay, width, tokens, K, ONE, grad_decay, grads * K, H * K)
                    stop = now
                    if reset[t]:
                        X[:] = ZERO
                        continue
                    # The adjoint before the chunk.
                    move(X, wide, 0, K, kind != NOTHING, c.passed, c.reads, width, g, whole)
                    if delta:
                        move(X, wide, 0, K, False, c.passed, c.sees, width, y, steps)
        if skip.size > 0:
            grad_skip[unit] = skipped
        if early:
            unpack(down, width, 1, K, ONE, grad_bonus, unit * K, K)
        unpack(X, wide, K, lanes, ONE, grad_start, (b * H + h) * K * V + left, V)


@compiled
def latest(reset, row, earliest, stop):
    """Where the sequence that `stop` ends has started, if not before `earliest`."""
    now = stop - 1
    while now > earliest and not reset[row + now]:
        now -= 1
    return now


@compiled
def move_turned(before, at, states, to, width, wide, fading, passed, writes, u, steps):
    """The state after one at before[at :], transposed, to states[to :]: Sᵀ passed + uᵀ writes."""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, width, LANES):
        for r in range(0, wide, ROWS):
            rows = load_rows(none, before, at + r * width + d, width)
            if fading:
                rows = times(rows, load(fill(LANES, ZERO), passed, d))
            rows = through(rows, u, r, 1, wide, writes, d, width, steps)
            store_rows(states, to + r * width + d, width, rows)


@compiled
def value_gradients(w, y, wide, steps, writes, width, K, X, Mq, g, n, tokens, delta, Mk, weight):
    """w = writes X + Mqᵀ G + Mkᵀ y and y = β w, the last rows first; for linear attention there is no Mk."""
    none = tile(ROWS, fill(LANES, ZERO))
    rounded = padded(steps, ROWS)
    for d in range(0, wide, LANES):
        for r in range(rounded - ROWS, -1, -ROWS):
            end, token = r + ROWS - 1, r // n
            rows = through(none, writes, end * width, -width, 1, X, d, wide, K)
            rows = through(rows, Mq, token * CHUNK + end, -1, CHUNK, g, token * wide + d, wide, tokens - token)
            if delta:
                later = r + ROWS
                rows = through(rows, Mk, later * CHUNK + end, -1, CHUNK, y, later * wide + d, wide, rounded - later)
                rows = solved(rows, Mk, end * CHUNK + end, -1, -CHUNK, weight, end, -1)
            store_rows(w, end * wide + d, -wide, rows)
            store_rows(y, end * wide + d, -wide, scaled(rows, weight, end, -1))


@compiled
def look(into, width, rows, a, wide, sign, B, b, kind, D, apart):
    """into = sign (a B) ⊙ D, with every `apart`-th number or row of D, as `kind` says.   a [rows, wide], B [wide, width] from B[b :]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, width, LANES):
        for r in range(0, rows, ROWS):
            found = times(through(none, a, r * wide, wide, 1, B, b + d, width, wide), fill(LANES, sign))
            if kind == HEADS:
                found = scaled(found, D, r * apart, apart)
            elif kind == KEYS:
                found = times(found, load_rows(none, D, r * apart * width + d, apart * width))
            store_rows(into, r * width + d, width, found)


@compiled
def decay_rows(ddecay, c, width, n, wide, states, at, turned_X, dq, dk, seen, delta, early):
    """What passes through each token's decay on its way from S or to X: all but the pairs inside the chunk."""
    zero = fill(LANES, ZERO)
    for d in range(0, width, LANES):
        through_all = zero
        for j in range(wide):
            through_all = through_all + load(zero, states, at + j * width + d) * load(zero, turned_X, j * width + d)
        passing = through_all * load(zero, c.passed, d)
        for i in range(CHUNK // n - 1, -1, -1):
            later, passing = passing, passing + load(zero, c.q, i * width + d) * load(zero, dq, i * width + d)
            if delta:
                for s in range(i * n, i * n + n):
                    passing = passing + load(zero, c.k, s * width + d) * load(zero, seen, s * width + d)
            store(ddecay, i * width + d, later if early else passing)
        passing = zero
        for i in range(CHUNK // n):
            store(ddecay, i * width + d, load(zero, ddecay, i * width + d) + passing)
            for s in range(i * n, i * n + n):
                passing = passing + load(zero, c.k, s * width + d) * load(zero, dk, s * width + d)
