"""The pairs inside a chunk when a head fades as one, backward: products of tiles. `fading` has those of keys that fade by dimension.

With P[t, s] = dL/dM[t, s] and the letters of `chunk`, a pair of a reader z (a query, or minus a key) and the key k, the writer, gives

    dz_t += sum_s P[t, s] D[t, s] k_s,    dk_s += sum_t P[t, s] D[t, s] z_t                                       (1)

Readers are tokens or steps: row r of P is a reader that sees the writers of its first n (r + 1) columns. In (1) P comes with D in it.

Cost     CHUNK K multiply-adds a step for (1), for each set of scores.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.chunk import CHUNK
from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.lanes import ZERO, fill
from separatrix.recurrence.kernels.tile import LANES, ROWS, load_rows, store_rows, through, tile


@compiled
def to_readers(into, width, rows, P, k, n):
    """into[r] += sum_s P[r, s] k[s]    into [rows, width]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, width, LANES):
        for r in range(0, rows, ROWS):
            found = load_rows(none, into, r * width + d, width)
            found = through(found, P, r * CHUNK, CHUNK, 1, k, d, width, min((r + ROWS) * n, CHUNK))
            store_rows(into, r * width + d, width, found)


@compiled
def to_writers(into, width, steps, P, z, rows, n):
    """into[s] += sum_r P[r, s] z[r] of `rows` readers    into [steps, width]"""
    none = tile(ROWS, fill(LANES, ZERO))
    for d in range(0, width, LANES):
        for s in range(0, steps, ROWS):
            found, r = load_rows(none, into, s * width + d, width), s // n
            found = through(found, P, r * CHUNK + s, 1, CHUNK, z, r * width + d, width, rows - r)
            store_rows(into, s * width + d, width, found)
