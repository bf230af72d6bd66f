"""CHUNK steps of log-linear attention at once: a binary number of matrices, cut where its last four digits carry.

A chunk is the steps of one sequence whose positions differ in the last four digits only, so it ends where a digit of CHUNK or more is
added, and where a reset starts counting anew. `steps` is the position of every step; P is that of the first step of a chunk.

    N[t, s] = D[t, s] q_t·k_s           D[t, s] = a_{s+1} ... a_t        s <= t                                                 (1)
    M[t, s] = λ_t[level(t, s)] N[t, s]                                  what step t sees of the chunk
    reads_b = λ_t[level(t, b)] D[t, 0] f_b q_t                          what it sees of digit b of P                            (2)
    writes  = D[end, s] k_s                                             what step s leaves

A digit's matrix is made once, of smaller ones and of the steps of one chunk, and is never touched again: all that fades is one number f_b
beside it, which (2) applies to a query.

Cost     K V multiply-adds a step and digit of P that is 1, on average half of them, and CHUNK (K + V) / 2 inside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from separatrix.recurrence.kernels.chunk import CHUNK, ONE, SQUARE, scores, weigh, zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.head_decay import enter_decays, fade_each
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, store, with_lane
from separatrix.recurrence.kernels.tile import LANES, ROWS, load_rows, pack, plus, store_rows, through, tile
from separatrix.recurrence.kernels.transpose import transpose_squares

DIGITS = CHUNK.bit_length() - 1

# The backward starts again from what digits of SPAN and more hold wherever one of them changes: the marks.
SPAN = 4 * CHUNK


class Steps(NamedTuple):
    """Scratch. Rows are steps, padded to whole lanes; squares are CHUNK x CHUNK."""

    q: np.ndarray
    k: np.ndarray
    reads: np.ndarray  # (2), of one digit
    writes: np.ndarray
    turned: np.ndarray  # keys, transposed
    fade: np.ndarray  # a_t
    arrive: np.ndarray  # D[t, 0]; the last is D[end, 0]
    leave: np.ndarray  # D[end, s]
    left: np.ndarray  # of the steps that a new digit takes up, 0 for others
    seen: np.ndarray  # D[t, 0] f_b of one digit
    weight: np.ndarray  # λ_t of one digit
    factor: np.ndarray  # both
    D: np.ndarray
    W: np.ndarray  # λ_t[level(t, s)]
    N: np.ndarray
    M: np.ndarray


@njit(cache=True, nogil=True)
def new_steps(width):
    rows = CHUNK * width
    return Steps(
        zeros(rows),
        zeros(rows),
        zeros(rows),
        zeros(rows),
        zeros(rows),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(SQUARE),
        zeros(SQUARE),
        zeros(SQUARE),
        zeros(SQUARE),
    )


@compiled
def chunk_end(steps, row, t, T):
    """The first step after t that is not of its chunk; steps[row : row + T] are one sequence's."""
    end = min(T, t + CHUNK - steps[row + t] % CHUNK)
    for s in range(t + 1, end):
        if steps[row + s] % CHUNK == 0:
            return s
    return end


@compiled
def start_before(steps, row, end, size):
    """Where the chunk (size CHUNK) or the stretch (size SPAN) that ends before `end` starts."""
    return max(0, end - 1 - steps[row + end - 1] % size)


@compiled
def holds(P, b):
    return P >> b & 1 == 1


@compiled
def first_of(P, b):
    """The first step of the span of digit b of P."""
    return P >> (b + 1) << (b + 1)


@compiled
def new_digit(P, after, m):
    """Whether digit m of `after` is one that P does not have."""
    return holds(after, m) and first_of(after, m) + (1 << m) > P


@compiled
def level_of(P, b, i, levels):
    """The level at which step P + i of a chunk sees digit b of P."""
    if b >= DIGITS:
        return min(b + 1, levels - 1)
    apart, level = P + i ^ first_of(P, b), 0
    while apart > 0:
        apart >>= 1
        level += 1
    return min(level, levels - 1)


@compiled
def enter_keys(c, width, n, k, at, stride, K, decay, decay_at, heads):
    """Keys and decays of n steps. k[at :] is a row of K for every step, a stride apart; decay, of `heads` a step, may be empty."""
    pack(k, at, stride, n, K, ONE, c.k, CHUNK, width)
    enter_decays(c.fade, c.arrive, c.leave, decay, decay_at, heads, n, 1)


@compiled
def enter_queries(c, width, P, n, q, at, stride, K, scale, scale_at, scale_stride, levels):
    """Queries, (1) and what is made of it; after `enter_keys`. scale[scale_at :] is a row of `levels` for every step, a stride apart."""
    pack(q, at, stride, n, K, ONE, c.q, CHUNK, width)
    row = fill(CHUNK, ZERO)
    for t in range(CHUNK):
        row = with_lane(row * c.fade[t], t, ONE)
        store(c.D, t * CHUNK, row)
        store(c.W, t * CHUNK, fill(CHUNK, ZERO))
        if t >= n:
            continue
        mine, place = scale_at + t * scale_stride, P % CHUNK + t
        c.W[t * CHUNK + t] = scale[mine]
        for b in range(min(DIGITS, levels - 1)):
            if holds(place, b):
                first = first_of(place, b) - P % CHUNK
                for s in range(max(first, 0), first + (1 << b)):
                    c.W[t * CHUNK + s] = scale[mine + b + 1]
    transpose_squares(c.k, 0, width, CHUNK, width, c.turned, CHUNK)
    scores(c.q, width, c.turned, K, CHUNK, 1, c.N)
    weigh(c.N, c.D)
    for i in range(0, SQUARE, CHUNK):
        store(c.M, i, load(row, c.N, i) * load(row, c.W, i))


@compiled
def enter_digit(c, width, P, n, b, f, scale, scale_at, scale_stride, levels):
    """(2), after `enter_queries`."""
    for i in range(n):
        c.seen[i] = c.arrive[i] * f
        c.weight[i] = scale[scale_at + i * scale_stride + level_of(P, b, i, levels)]
        c.factor[i] = c.seen[i] * c.weight[i]
    fade_each(c.reads, c.q, n, width, c.factor, 1, ONE)


@compiled
def enter_writes(c, width, P, n, after, m):
    """Left and writes for the steps that digit m of `after` takes up."""
    first = first_of(after, m)
    for i in range(CHUNK):
        c.left[i] = c.leave[i] if first <= P + i < first + (1 << m) and i < n else ZERO
    fade_each(c.writes, c.k, CHUNK, width, c.left, 1, ONE)


@compiled
def parts_of(P, after, m, digits):
    """The digits of P that digit m of `after` takes up, and how many."""
    count = 0
    for b in range(m):
        if holds(P, b) and first_of(P, b) >= first_of(after, m):
            digits[count] = b
            count += 1
    return count


@compiled
def join(R, to, places, factors, count, height, x, stride, width, y, n):
    """R[to :] [height, width] = sum_i factors[i] R[places[i] :] + xᵀ y    x [n, height], a row every `stride`, y [n, width]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, width, LANES):
        for r in range(0, height, ROWS):
            rows = none
            for i in range(count):
                rows = plus(rows, load_rows(none, R, places[i] + r * width + d, width), factors[i])
            rows = through(rows, x, r, 1, stride, y, d, width, n)
            store_rows(R, to + r * width + d, width, rows)
