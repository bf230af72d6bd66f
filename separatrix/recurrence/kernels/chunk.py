"""CHUNK steps of a matrix state at once: what its decays do to queries and keys, and the scores among them.

    D[t, s] = a_{s+1} ... a_t        left at step t of what was there after step s; s = 0 is the state before, t = end the last step     (1)

    reads    q_t D[t, 0]        what a query sees of the state before the chunk
    sees    -k_t D[t, 0]        what a key sees of it, for the delta rule, which subtracts
    writes   k_s D[end, s]      what a key leaves in the state after the chunk
    Mq       q_t D[t, s] k_s    s <= t                                                                                  (2)
    Mk      -k_t D[t, s] k_s    s < t

An early query reads before its step decays and writes: D[t - 1, s] where (2) says D[t, s], and Mq[t, t] = q_t (w ⊙ k_t) with a weight of
its own.

(1) is always a running product of numbers in [0, 1], so nothing overflows and nothing is divided. With one decay a head (2) is a matrix
product times (1); with one a key dimension the keys fade row by row and every row meets the query. A chunk ends where the next step is a
reset, and the state before a reset is written as zeros: what is not finite in one sequence meets no number of the next.

A token has n steps, each with a key, and one query after the last; it decays before the first. n is 1 but for products of delta rules.
Steps beyond the last token have zeros for keys and queries and do not decay. What a whole head loses is a number (`head_decay`), what its
key dimensions lose is a row.

Cost     CHUNK K multiply-adds a step for (2), against K V for the state.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from separatrix.recurrence.kernels.across import total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.head_decay import CHUNK, ONE, enter_decays, fade_each, left_at
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, load_first, scratch, store
from separatrix.recurrence.kernels.tile import LANES, ROWS, pack, store_rows, through, tile
from separatrix.recurrence.kernels.transpose import transpose_squares

HALF = CHUNK // 2
SQUARE = CHUNK * CHUNK

# What decays: nothing, every state of a head alike, or each of its key dimensions.
NOTHING, HEADS, KEYS = 0, 1, 2


class Chunk(NamedTuple):
    """Scratch. Rows of keys are steps, rows of queries are tokens, all padded to whole lanes; squares are CHUNK x CHUNK."""

    q: np.ndarray
    k: np.ndarray
    reads: np.ndarray
    sees: np.ndarray
    writes: np.ndarray
    fade: np.ndarray  # a_t, a number a step or a row a token
    arrive: np.ndarray  # D[t, 0], a number or a row a step
    leave: np.ndarray  # D[end, s], the same
    passed: np.ndarray  # D[end, 0], a row in any case
    turned: np.ndarray  # keys, transposed
    faded: np.ndarray  # keys on their way through the chunk
    Dq: np.ndarray  # (1) for one decay a head
    Dk: np.ndarray  # negative
    Mq: np.ndarray
    Mk: np.ndarray
    own: np.ndarray  # w ⊙ k_t, a row a step, for early queries


@njit(cache=True, nogil=True)
def zeros(n):
    x = scratch(n)
    x[:] = 0
    return x


@njit(cache=True, nogil=True)
def new_chunk(width, n, kind, early):
    steps = CHUNK + ROWS * n  # a tile of queries may reach beyond the last
    rows, by_key = steps * width, steps * width if kind == KEYS else 0
    q, k, fade, Dq, Dk = zeros(rows), zeros(rows), zeros(max(steps, by_key)), zeros(SQUARE), zeros(SQUARE)
    fade[:] = 1
    left_at(Dq, Dk, n, fade)
    reads, writes = (q, k) if kind == NOTHING else (zeros(rows), zeros(rows))
    return Chunk(
        q,
        k,
        reads,
        zeros(rows),
        writes,
        fade,
        zeros(max(steps, by_key)),
        zeros(max(steps, by_key)),
        zeros(width),
        zeros(width * CHUNK),
        zeros(by_key),
        Dq,
        Dk,
        zeros(SQUARE),
        zeros(SQUARE),
        zeros(rows if early else 0),
    )


@compiled
def together(reset, t, most):
    """How many steps from t on belong to one sequence, at most so many."""
    for i in range(1, most):
        if reset[t + i]:
            return i
    return most


@compiled
def enter_keys(c, width, n, tokens, k, at, stride, K, kind, decay, decay_at, heads):
    """Keys, decays and what they leave behind.  k[at :] is a row of K for every step, a stride apart; the decay of the first token stands
    at decay[decay_at] (a number or K of them), that of the next one `heads` further."""
    pack(k, at, stride, tokens * n, K, ONE, c.k, CHUNK, width)
    if kind == HEADS:
        enter_decays(c.fade, c.arrive, c.leave, decay, decay_at, heads, tokens, n)
        fade_each(c.writes, c.k, CHUNK // n * n, width, c.leave, 1, ONE)
        for d in range(0, width, LANES):
            store(c.passed, d, fill(LANES, c.arrive[CHUNK - 1]))
    elif kind == KEYS:
        for d in range(0, width, LANES):
            left = fill(LANES, ONE)
            for i in range(CHUNK // n):
                a = left
                if i < tokens:
                    a = exp(load_first(left, decay, (decay_at + i * heads) * K + d, K - d))
                store(c.fade, i * width + d, a)
            for i in range(CHUNK // n - 1, -1, -1):
                for s in range(i * n, i * n + n):
                    store(c.leave, s * width + d, left)
                    store(c.writes, s * width + d, left * load(left, c.k, s * width + d))
                left = left * load(left, c.fade, i * width + d)
            store(c.passed, d, left)


@compiled
def enter_queries(c, width, n, tokens, q, at, stride, K, scale, kind, delta, early):
    """Queries, what they and the keys see, and the scores; after `enter_keys`. Early ones are for decays of the kind KEYS and tokens of
    one step, with c.own in place."""
    pack(q, at, stride, tokens, K, np.float32(scale), c.q, CHUNK, width)
    if kind == HEADS:
        fade_each(c.reads, c.q, CHUNK // n, width, c.arrive, n, ONE)
        if delta:
            fade_each(c.sees, c.k, CHUNK // n * n, width, c.arrive, 1, -ONE)
    elif kind == KEYS:
        for d in range(0, width, LANES):
            left = fill(LANES, ONE)
            for i in range(CHUNK // n):
                before, left = left, left * load(left, c.fade, i * width + d)
                seen = before if early else left
                store(c.reads, i * width + d, seen * load(left, c.q, i * width + d))
                for s in range(i * n, i * n + n):
                    store(c.arrive, s * width + d, seen)
                    if delta:
                        store(c.sees, s * width + d, left * load(left, c.k, s * width + d) * -ONE)
    elif delta:
        for d in range(0, CHUNK * width, LANES):
            store(c.sees, d, load(fill(LANES, ZERO), c.k, d) * -ONE)
    if kind == KEYS:
        _scores_of_fading_keys(c, width, n, tokens, delta, early)
    else:
        if kind == HEADS:
            left_at(c.Dq, c.Dk, n, c.fade)
        transpose_squares(c.k, 0, width, CHUNK, width, c.turned, CHUNK)
        scores(c.q, width, c.turned, K, tokens, n, c.Mq)
        weigh(c.Mq, c.Dq)
        if delta:
            scores(c.k, width, c.turned, K, tokens * n, 1, c.Mk)
            weigh(c.Mk, c.Dk)
    forget(c.Mq, tokens)
    forget(c.Mk, tokens * n)


@compiled
def forget(M, rows):
    """Zeros from that row on. What meets zeros there must be finite, whatever sequence was here before."""
    M[rows * CHUNK :] = ZERO


@compiled
def scores(z, width, turned, size, rows, n, into):
    """into [rows, CHUNK] = z turned, the inner products of `size` numbers; a row is only asked for its first n (row + 1) columns."""
    none, corner = tile(ROWS, fill(CHUNK, ZERO)), tile(HALF, fill(HALF, ZERO))
    first = 0
    if n == 1:
        store_rows(into, 0, CHUNK, through(corner, z, 0, width, 1, turned, 0, CHUNK, size))
        first = HALF
    for r in range(first, rows, ROWS):
        store_rows(into, r * CHUNK, CHUNK, through(none, z, r * width, width, 1, turned, 0, CHUNK, size))


@compiled
def weigh(M, D):
    """M <- M D, number by number."""
    for i in range(0, SQUARE, CHUNK):
        store(M, i, load(fill(CHUNK, ZERO), M, i) * load(fill(CHUNK, ZERO), D, i))


@compiled
def fade_rows(x, first, last, fade, at, width):
    """x[first : last] times one row of decays."""
    for d in range(0, width, LANES):
        a = load(fill(LANES, ZERO), fade, at + d)
        for s in range(first, last):
            store(x, s * width + d, a * load(a, x, s * width + d))


@compiled
def product(x, i, y, j, width):
    """x[i : i + width] · y[j : j + width]"""
    sums = fill(LANES, ZERO)
    for d in range(0, width, LANES):
        sums = sums + load(sums, x, i + d) * load(sums, y, j + d)
    return total(sums)


@compiled
def _scores_of_fading_keys(c, width, n, tokens, delta, early):
    for d in range(0, CHUNK * width, LANES):
        store(c.faded, d, load(fill(LANES, ZERO), c.k, d))
    for t in range(tokens):
        if not early:
            fade_rows(c.faded, 0, t * n, c.fade, t * width, width)
        for s in range(t * n + n):
            c.Mq[t * CHUNK + s] = product(c.q, t * width, c.faded, s * width, width)
        if early:
            c.Mq[t * CHUNK + t] = product(c.q, t * width, c.own, t * width, width)
            fade_rows(c.faded, 0, t, c.fade, t * width, width)
        if delta:
            for r in range(t * n, t * n + n):
                for s in range(r):
                    c.Mk[r * CHUNK + s] = -product(c.k, r * width, c.faded, s * width, width)


@compiled
def weigh_keys(c, width, tokens, weight):
    """c.own, for early queries: every key times the weight, one row."""
    for d in range(0, width, LANES):
        w = load(fill(LANES, ZERO), weight, d)
        for t in range(tokens):
            store(c.own, t * width + d, w * load(w, c.k, t * width + d))
