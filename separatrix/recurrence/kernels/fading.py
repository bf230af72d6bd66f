"""The pairs inside a chunk when every key dimension fades by itself, backward: what their scores are worth, passed on.

With P[t, s] = dL/dM[t, s] and the letters of `chunk`, a pair of a reader z (a query, or minus a key) and the key k gives

    dz_t += P[t, s] D[t, s] ⊙ k_s,    dk_s += P[t, s] D[t, s] ⊙ z_t                                                (1)
    dL/dlog a_r += P[t, s] z_t ⊙ D[t, s] ⊙ k_s        for every decay on the way, s < r <= t                       (2)

(1) is a matrix product for each key dimension. Keys fade row by row as readers go on, and readers as writers go back, so D is never formed;
(2) is summed on the way. For early queries t - 1 stands for t in D and in (2).

Cost     CHUNK K multiply-adds a step for (1) and half as many for (2), for each set of scores.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.chunk import CHUNK, ONE, fade_rows
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import ZERO, fill, load, store
from separatrix.recurrence.kernels.tile import LANES


@compiled
def among_fading(ddecay, c, width, n, delta, early, Pq, Pk, dq, dk):
    """(1) and (2) added to dq, dk and ddecay; q and k of the chunk are used up. The own pair of an early query is left to `own_pairs`."""
    tokens, ahead = CHUNK // n, 1 if early else 0
    for d in range(0, CHUNK * width, LANES):
        store(c.faded, d, load(fill(LANES, ZERO), c.k, d))
    for t in range(tokens):  # readers, looking back at keys that fade as time goes on
        if not early:
            fade_rows(c.faded, 0, t * n, c.fade, t * width, width)
        look_back(dq, t, Pq, ONE, c.q, c.faded, width, max(0, t - ahead), t if early else t * n + n, n, ddecay)
        if early:
            fade_rows(c.faded, 0, t, c.fade, t * width, width)
        if delta:
            for r in range(t * n, t * n + n):
                look_back(dk, r, Pk, -ONE, c.k, c.faded, width, t, r, n, ddecay)
    for d in range(0, CHUNK * width, LANES):
        store(c.faded, d, load(fill(LANES, ZERO), c.k, d))
    for t in range(tokens - 1, -1, -1):  # writers, looking ahead at readers that fade as time goes back
        for s in range(t * n, t * n + n):
            look_ahead(dk, s, Pq, ONE, c.q, t + ahead, tokens, width)
            if delta:
                look_ahead(dk, s, Pk, -ONE, c.faded, s + 1, tokens * n, width)
        fade_rows(c.q, t + ahead, tokens, c.fade, t * width, width)
        fade_rows(c.faded, t * n, tokens * n, c.fade, t * width, width)


@compiled
def own_pairs(c, width, tokens, Pq, own, dq, dk, down):
    """What an early query makes of its own key.    down += dL/dw"""
    for t in range(tokens):
        worth = Pq[t * CHUNK + t]
        for d in range(0, width, LANES):
            at, w = t * width + d, load(fill(LANES, ZERO), own, d)
            q, k = load(w, c.q, at) * worth, load(w, c.k, at)
            store(down, d, load(w, down, d) + q * k)
            store(dq, at, load(w, dq, at) + w * k * worth)
            store(dk, at, load(w, dk, at) + w * q)


@compiled
def look_back(into, r, P, sign, readers, faded, width, token, end, n, ddecay):
    """into[r] += sum_{s < end} sign P[r, s] faded[s], and what of it crossed the decays between s and that of `token`."""
    zero = fill(LANES, ZERO)
    for d in range(0, width, LANES):
        reader, crossed, found = load(zero, readers, r * width + d), zero, load(zero, into, r * width + d)
        for earlier in range(token):
            for s in range(earlier * n, earlier * n + n):
                x = load(zero, faded, s * width + d) * (sign * P[r * CHUNK + s])
                found = found + x
                crossed = crossed + reader * x
            at = (earlier + 1) * width + d
            store(ddecay, at, load(zero, ddecay, at) + crossed)
        for s in range(token * n, end):
            found = found + load(zero, faded, s * width + d) * (sign * P[r * CHUNK + s])
        store(into, r * width + d, found)


@compiled
def look_ahead(into, s, P, sign, readers, first, last, width):
    """into[s] += sum_{first <= r < last} sign P[r, s] readers[r]"""
    zero = fill(LANES, ZERO)
    for d in range(0, width, LANES):
        found = load(zero, into, s * width + d)
        for r in range(first, last):
            found = found + load(zero, readers, r * width + d) * (sign * P[r * CHUNK + s])
        store(into, s * width + d, found)
