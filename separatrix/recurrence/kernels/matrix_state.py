"""A matrix state, forward: linear attention and the delta rule are one kernel.

    S'_t = diag(a_t) S_{t-1}          a_t: 1, one number a head, or one a key dimension
    S_t  = S'_t + k_t u_tᵀ            u_t = v_t, β_t v_t, or β_t e_t with the prediction error e_t = v_t - S'_tᵀ k_t          (1)
    o_t  = scale · S_tᵀ q_t + D v_t   D: one number a head, or none

With a bonus w, a row of K numbers a head, a query is early: o_t = scale · (S_{t-1} + (w ⊙ k_t) u_tᵀ)ᵀ q_t.

CHUNK steps go at once, as products of tiles (letters as in `chunk`, S the state before):

    e = v + sees S + Mk u             row after row, in triangles of ROWS steps
    o = reads S + Mq u
    S = passed ⊙ S + writesᵀ u                                                                                     (2)

so a number of the state is loaded twice and stored once in CHUNK steps, and what (1) would spend on decays is spent on vectors.
There is one machine code for all kinds of decay and update: what differs is decided once a chunk.

Cost     2 K V multiply-adds a step, 3 for the delta rule, whatever the decay, and about CHUNK (K + V) / 2 for each set of scores.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.chunk import CHUNK, NOTHING, ONE, enter_keys, enter_queries, new_chunk, together, weigh_keys, zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fetch, fill, load, store
from separatrix.recurrence.kernels.parallel import shared
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
    triangle,
    unpack,
)

# The backward starts again from the state before every STRETCH-th chunk: the first, which is known, and the marks.
STRETCH = 16

# Keys and values of so many numbers have left the cache when their turn comes. Rows of one head lie too far apart for a processor to guess.
DISTANT = 1 << 21


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, q, k, v, beta, delta, skip, bonus, kind, decay, reset, scale, start, keep, o, error, marks, final):
    """Units (batch, head, part of the values).  Flat float32 arrays: q [B,T,G,K]; k [B,T,n,G,K]; v, error [B,T,n,H,V]; beta [B,T,n,H] or
    empty, with prediction errors if `delta`; skip [H], D, or empty; bonus [H,K], w, or empty, only with n = 1, decays of every key
    dimension and no prediction errors; decay empty, [B,T,H] or [B,T,H,K], as `kind` says; o [B,T,H,V]; start [B,H,K,V] or empty for
    rest; final [B,H,K,V]; marks [B,H,stretches - 1,K,V]; reset [B,T] uint8.  Head h reads group h // (H // G).  error and marks are
    written if `keep`."""
    _, T, n, G, H, K, V, part = shape
    weighted, early, parts, whole = beta.size > 0, bonus.size > 0, (V + part - 1) // part, CHUNK // n
    width, wide, stretch = padded(K, LANES), padded(part, LANES), whole * STRETCH
    c, S, e, out = new_chunk(width, n, kind, early), zeros(width * wide), zeros(CHUNK * wide), zeros(CHUNK * wide)
    u = zeros((CHUNK + ROWS * n) * wide)  # a tile of queries may reach beyond the last step
    values, weight, own = e if weighted else u, np.zeros(CHUNK, np.float32), zeros(width)
    distant = k.size + v.size > DISTANT
    at_once = ROWS if distant else K
    for unit in range(first, last):
        b, h, left = unit // (H * parts), unit // parts % H, unit % parts * part
        group, lanes = h // (H // G), min(part, V - left)
        pack(start, (b * H + h) * K * V + left, V, K if start.size else 0, lanes, ONE, S, width, wide)
        pack(bonus, h * K, K, 1 if early else 0, K, ONE, own, 1, width)
        now = 0
        while now < T:
            t = b * T + now
            tokens = together(reset, t, min(whole - now % whole, T - now))
            steps, row = tokens * n, (t * n * H + h) * V + left
            if keep and now > 0 and now % stretch == 0:
                mark = (b * H + h) * ((T - 1) // stretch) + now // stretch - 1
                unpack(S, wide, K, lanes, ONE, marks, mark * K * V + left, V)
            if reset[t]:
                S[:] = ZERO
            enter_keys(c, width, n, tokens, k, (t * n * G + group) * K, G * K, K, kind, decay, t * H + h, H)
            if early:
                weigh_keys(c, width, tokens, own)
            enter_queries(c, width, n, tokens, q, (t * G + group) * K, G * K, K, scale, kind, delta, early)
            pack(v, row, H * V, steps, lanes, ONE, values, CHUNK, wide)
            if weighted:
                weights(beta, t * n * H + h, H, steps, weight)
            if delta:
                correct(e, u, wide, steps, c.sees, width, K, S, c.Mk, weight)
                if keep:
                    unpack(e, wide, steps, lanes, ONE, error, row, H * V)
            elif weighted:
                weigh_rows(e, weight, u, wide)
            observe(out, wide, tokens, c.reads, width, K, S, c.Mq, u, n)
            if skip.size > 0:
                add(out, skip[h], values, tokens * wide)
            unpack(out, wide, tokens, lanes, ONE, o, (t * H + h) * V + left, H * V)
            # Meanwhile the memory is asked for the next chunk, a few rows at a time: all of them at once would wait for each other.
            now, t = now + tokens, t + tokens
            key, query, row, out_row = (t * n * G + group) * K, (t * G + group) * K, (t * n * H + h) * V + left, (t * H + h) * V + left
            for r in range(0, K, at_once):
                if distant:
                    for s in range(r * CHUNK // K, min((T - now) * n, (r + at_once) * CHUNK // K)):
                        fetch(k, key + s * G * K, K)
                        fetch(v, row + s * H * V, lanes)
                        if s % n == 0:
                            fetch(q, query + s // n * G * K, K)
                            fetch(o, out_row + s // n * H * V, lanes)
                move(S, wide, r, min(r + at_once, K), kind != NOTHING, c.passed, c.writes, width, u, steps)
        unpack(S, wide, K, lanes, ONE, final, (b * H + h) * K * V + left, V)


@compiled
def weights(beta, at, stride, steps, weight):
    """β of the chunk's steps, zeros beyond them."""
    for s in range(CHUNK):
        weight[s] = beta[at + s * stride] if s < steps else ZERO


@compiled
def weigh_rows(e, weight, u, wide):
    """u = β e"""
    for s in range(CHUNK):
        for d in range(s * wide, s * wide + wide, LANES):
            store(u, d, load(fill(LANES, ZERO), e, d) * weight[s])


@compiled
def add(x, a, y, n):
    """x[:n] <- x + a y"""
    for d in range(0, n, LANES):
        store(x, d, load(fill(LANES, ZERO), x, d) + load(fill(LANES, ZERO), y, d) * a)


@compiled
def correct(e, u, wide, steps, sees, width, K, S, Mk, weight):
    """e = v + sees S + Mk u and u = β e, both [CHUNK, wide]; v comes in e."""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, wide, LANES):
        for r in range(0, steps, ROWS):
            rows = load_rows(none, e, r * wide + d, wide)
            rows = through(rows, sees, r * width, width, 1, S, d, wide, K)
            rows = through(rows, Mk, r * CHUNK, CHUNK, 1, u, d, wide, r)
            rows = solved(rows, Mk, r * CHUNK + r, CHUNK, 1, weight, r, 1)
            store_rows(e, r * wide + d, wide, rows)
            store_rows(u, r * wide + d, wide, scaled(rows, weight, r, 1))


@compiled
def observe(out, wide, tokens, reads, width, K, S, Mq, u, n):
    """out = reads S + Mq u"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, wide, LANES):
        for r in range(0, tokens, ROWS):
            rows = through(none, reads, r * width, width, 1, S, d, wide, K)
            rows = through(rows, Mq, r * CHUNK, CHUNK, 1, u, d, wide, r * n)
            for j in range(r * n, r * n + n):
                rows = triangle(rows, Mq, r * CHUNK + j, CHUNK, n, u, j * wide + d, n * wide)
            store_rows(out, r * wide + d, wide, rows)


@compiled
def move(S, wide, first, last, fading, passed, writes, width, u, steps):
    """Rows of keys, from the first to the last, of S <- passed ⊙ S + writesᵀ u"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, wide, LANES):
        for r in range(first, last, ROWS):
            rows = load_rows(none, S, r * wide + d, wide)
            if fading:
                rows = scaled(rows, passed, r, 1)
            store_rows(S, r * wide + d, wide, through(rows, writes, r, 1, width, u, d, wide, steps))
