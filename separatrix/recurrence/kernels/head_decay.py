"""A head that fades as one: its decays in a chunk are numbers, one a token (letters as in `chunk`, a step of CHUNK).

    D[t, s] = a_{s+1} ... a_t                          left at step t of what was there after step s                          (1)
    dL/dlog a_t = pairs[t] + passing + sum_{i >= t} reading[i] + sum_{i < t} writing[i]                                 (2)

In (2) everything is counted that crosses the decay of token t: pairs inside the chunk (`crossing`), what passes from the state before to
the state after, what token i reads of the one, and what it writes into the other. All are sums: nothing is subtracted from something
nearly equal.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.across import products_after, products_until, total
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.exponential import exp
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, load_first, store, with_lane
from separatrix.recurrence.kernels.tile import LANES

CHUNK = 16
ONE = np.float32(1)


@compiled
def enter_decays(fade, arrive, leave, decay, at, heads, tokens, n):
    """a_t, D[t, 0] and D[end, s], a number a step; a token decays at the first of its n steps. log a of the first of `tokens` stands at
    decay[at], the next one `heads` further; beyond them, and where decay is empty, nothing fades."""
    store(fade, 0, fill(CHUNK, ZERO))
    if decay.size > 0:
        for i in range(tokens):
            fade[i * n] = decay[at + i * heads]
    a = exp(load(fill(CHUNK, ZERO), fade, 0))
    store(fade, 0, a)
    store(arrive, 0, products_until(a))
    store(leave, 0, products_after(a))


@compiled
def left_at(Dq, Dk, n, fade):
    """(1) among the steps of the chunk, zero where s has not been yet: Dq a row a token, after its steps; Dk a row a step, negative."""
    row = fill(CHUNK, ZERO)
    for t in range(CHUNK // n):
        for s in range(t * n, t * n + n):
            row = row * fade[s]
            store(Dk, s * CHUNK, row * -ONE)
            row = with_lane(row, s, ONE)
        store(Dq, t * CHUNK, row)


@compiled
def fade_each(into, x, rows, width, factors, apart, sign):
    """Row i of into = sign factors[i apart] times that of x."""
    for i in range(rows):
        factor = sign * factors[i * apart]
        for d in range(i * width, i * width + width, LANES):
            store(into, d, load(fill(LANES, ZERO), x, d) * factor)


@njit(cache=True, nogil=True)
def crossing(pairs, M, P, n, each):
    """Add to pairs[t] all M P of readers at token t or later and writers before it; `each` readers are a token, n writers too."""
    zero = fill(CHUNK, ZERO)
    sums, found = zero, np.zeros(CHUNK, np.float32)
    for t in range(CHUNK // n - 1, -1, -1):
        for r in range(t * each, t * each + each):
            sums = sums + load(zero, M, r * CHUNK) * load(zero, P, r * CHUNK)
        store(found, 0, sums)
        pairs[t] += total(load_first(zero, found, 0, t * n))


@compiled
def decay_gradients(into, at, heads, tokens, pairs, passing, reading, writing):
    """(2), into[at :], the next token `heads` further; pairs is used up."""
    for i in range(tokens - 1, -1, -1):
        passing += reading[i]
        pairs[i] += passing
    passing = ZERO
    for i in range(tokens):
        into[at + i * heads] = pairs[i] + passing
        passing += writing[i]
