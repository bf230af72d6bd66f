"""CHUNK steps of log-linear attention, backward: letters as in `fenwick`, and what one chunk gives back.

R_b is never touched, so neither is its adjoint A_b = dL/dR_b until the chunk that made it: readers add to it, and the digits that a new
one took up get theirs from it. With G = dL/do, u = v, C = (G uᵀ) ⊙ D ⊙ W and the sums over the digits b of P and the new digits m

    dq = C k + sum_b λ_b D[t, 0] f_b ⊙ (G R_bᵀ)             dλ_b = D[t, 0] f_b q·(G R_bᵀ)            A_b += reads_bᵀ G
    dk = Cᵀ q + sum_m D[end, s] ⊙ (u A_mᵀ)                   dv = Mᵀ G + sum_m writes_m A_m           A_b = f_b D[end, 0] A_m      (1)

What passes through the decay of step t is, in parts: from the R_b to what comes after the chunk, Z_b = <R_b, A_b>, which adds up along with
A_b; from the R_b to readers at t and later; from the writers before t to the A_m; from those writers to those readers, pair by pair. All
are sums, so nothing is subtracted from something nearly equal.

A stretch is the chunks between two multiples of SPAN. Its digits are made again, chunk after chunk, before (1) takes the chunks from last
to first; they are kept transposed, as (1) reads them.

Sizes    (K, lanes, L, width, wide): numbers of a key and of a value, digits, and the first two padded to whole lanes.
Cost     2 K V multiply-adds a step and digit that is 1, 3 K V for the new digits and one transpose a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from separatrix.recurrence.kernels.chunk import CHUNK, ONE, SQUARE, product, scores, weigh, zeros
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.fenwick import (
    DIGITS,
    SPAN,
    enter_digit,
    enter_writes,
    first_of,
    holds,
    join,
    level_of,
    new_digit,
    parts_of,
)
from separatrix.recurrence.kernels.head_decay import crossing
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, store
from separatrix.recurrence.kernels.scores_backward import to_readers, to_writers
from separatrix.recurrence.kernels.tile import LANES, ROWS, load_rows, scaled, store_rows, through, tile
from separatrix.recurrence.kernels.transpose import transpose_squares

# Where digits of a stretch are kept: those made in it by the chunk that made them, those of the initial state below CHUNK, larger ones.
MADE = SPAN // CHUNK


class Scratch(NamedTuple):
    """Rows are steps, padded to whole lanes."""

    R: np.ndarray  # the digits of a stretch, transposed, [wide, width] each
    f: np.ndarray  # L numbers for every chunk of the stretch and one after the last
    A: np.ndarray  # [width, wide] each
    turned_A: np.ndarray  # one of them, transposed
    Z: np.ndarray
    u: np.ndarray
    turned_u: np.ndarray
    G: np.ndarray
    C: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray
    dscale: np.ndarray
    y: np.ndarray  # what rows of G or u see of one matrix
    among: np.ndarray  # of the decays: from writers to readers,
    reading: np.ndarray  # from R to readers,
    writing: np.ndarray  # from writers to A
    digits: np.ndarray  # that a new one takes up,
    places: np.ndarray  # where they are,
    factors: np.ndarray  # and what is left of them


@njit(cache=True, nogil=True)
def new_scratch(width, wide, L):
    size = width * wide
    return Scratch(
        zeros((MADE + L) * size),
        zeros((MADE + 1) * L),
        zeros(L * size),
        zeros(size),
        zeros(L),
        zeros(CHUNK * wide),
        zeros(CHUNK * wide),
        zeros(CHUNK * wide),
        zeros(SQUARE),
        zeros(CHUNK * width),
        zeros(CHUNK * width),
        zeros(CHUNK * wide),
        zeros(CHUNK * L),
        zeros(CHUNK * width),
        zeros(CHUNK),
        zeros(CHUNK),
        zeros(CHUNK),
        np.zeros(L, np.int64),
        np.zeros(L, np.int64),
        zeros(L),
    )


@compiled
def place_of(P, b):
    """Of digit b of P, among the matrices of a stretch."""
    if b < DIGITS:
        return MADE + b
    made = P >> b << b
    return made // CHUNK % MADE if made % SPAN else MADE + b


@compiled
def make_digits(s, c, sizes, P, n, j):
    """The digits that chunk j of a stretch brings to 1, and every f after it; after `enter_keys` and u."""
    _, _, L, width, wide = sizes
    size, after = width * wide, P + n
    for m in range(L):
        fading = s.f[j * L + m] * c.arrive[CHUNK - 1]
        s.f[(j + 1) * L + m] = fading if holds(P, m) else ONE
        if new_digit(P, after, m):
            count = parts_of(P, after, m, s.digits)
            for i in range(count):
                s.places[i], s.factors[i] = place_of(P, s.digits[i]) * size, s.f[j * L + s.digits[i]] * c.arrive[CHUNK - 1]
            enter_writes(c, width, P, n, after, m)
            join(s.R, place_of(after, m) * size, s.places, s.factors, count, wide, s.u, wide, width, c.writes, n)
            s.f[(j + 1) * L + m] = 1


@njit(cache=True, nogil=True)
def back_to_scores(s, c, sizes):
    """C = G uᵀ, as yet without D and W, and what it says of the decays between."""
    _, lanes, _, _, wide = sizes
    transpose_squares(s.u, 0, wide, CHUNK, wide, s.turned_u, CHUNK)
    scores(s.G, wide, s.turned_u, lanes, CHUNK, 1, s.C)
    s.among[:] = 0
    s.reading[:] = 0
    s.writing[:] = 0
    crossing(s.among, c.M, s.C, 1, 1)


@compiled
def back_inside(s, c, sizes, P, n):
    """(1) among the steps of the chunk: where all their gradients begin."""
    _, _, L, width, wide = sizes
    weigh(c.N, s.C)
    levels_inside(s.dscale, L, c.N, P, n)
    weigh(s.C, c.D)
    weigh(s.C, c.W)
    s.dq[:] = 0
    s.dk[:] = 0
    s.dv[:] = 0
    to_readers(s.dq, width, n, s.C, c.k, 1)
    to_writers(s.dk, width, n, s.C, c.q, n, 1)
    to_writers(s.dv, wide, n, c.M, s.G, n, 1)


@compiled
def back_to_writers(s, c, sizes, P, n, j):
    """(1) of what the chunk leaves: from the digits that it made to its steps and to the digits that they took up."""
    K, lanes, L, width, wide = sizes
    size, after = width * wide, P + n
    for m in range(L):
        if new_digit(P, after, m):
            enter_writes(c, width, P, n, after, m)
            transpose_squares(s.A, m * size, wide, width, wide, s.turned_A, width)
            see(s.dv, wide, n, c.writes, width, K, s.A, m * size, c.weight, True)
            see(s.y, width, n, s.u, wide, lanes, s.turned_A, 0, c.left, False)
            gather(s.dk, s.writing, s.y, c.k, n, width)
            for i in range(parts_of(P, after, m, s.digits)):
                d = s.digits[i]
                factor = s.f[j * L + d] * c.arrive[CHUNK - 1]
                s.Z[d] = factor * product(s.R, place_of(P, d) * size, s.turned_A, 0, size)
                copy(s.A, d * size, m * size, factor, size)


@compiled
def drop_digits(s, sizes, P):
    """What a chunk leaves at the end of a sequence, nobody hears."""
    _, _, L, width, wide = sizes
    size = width * wide
    for m in range(L):
        if holds(P, m):
            s.Z[m] = 0
            s.A[m * size : m * size + size] = 0


@compiled
def back_to_reads(s, c, sizes, P, n, j, scale, levels, heads):
    """(1) of what the chunk reads.   -> what passes all of its decays, the sum of Z"""
    K, lanes, L, width, wide = sizes
    size, passed = width * wide, ZERO
    for m in range(L):
        if holds(P, m):
            passed += s.Z[m]
            enter_digit(c, width, P, n, m, s.f[j * L + m], scale, levels, heads * L, L)
            see(s.y, width, n, s.G, wide, lanes, s.R, place_of(P, m) * size, c.seen, False)
            levels_read(s.dscale, L, s.reading, s.Z, c, s.y, P, n, m, width)
            fold(s.dq, s.y, c.weight, n, width)
            grow(s.A, m * size, K, wide, c.reads, width, s.G, n)
    return passed


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
