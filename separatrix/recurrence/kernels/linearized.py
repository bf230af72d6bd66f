"""Cells with diagonal weights at given states: where each goes and how that depends on it, for all steps of a guess at once.

With the letters of `gated`, and s = tanh c' for the LSTM

GRU     dh'/dh = 1 - z + (n - h) z (1 - z) A_z + z (1 - n²) A_n (r + h r (1 - r) A_r)                              (1)
LSTM    φ = (c - g) f (1 - f),   dc'/dc = f + φ C_f,   dc'/dh = φ A_f + (1 - f) (1 - g²) A_g                       (2)
        ρ = o (1 - s²) + s o (1 - o) C_o,   dh'/dc = ρ dc'/dc,   dh'/dh = s o (1 - o) A_o + ρ dc'/dh

This is the larger part of an iteration of Newton's; as operations of torch it walks through memory some twenty times.

Arrays   flat float32.  x [R,3,N], A [3,N], C [2,N];  states, values [R,k,N], k = 1 or 2 (h, c);  jacobian [R,N], or [R,2,2,N] for an LSTM.
Units    rows: steps of all sequences.
"""

from __future__ import annotations

from separatrix.recurrence.kernels.gated import LANES, ONE, gru_gates, lstm_gates
from separatrix.recurrence.kernels.gates import tanh
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import ZERO, fill, load_first, store_first
from separatrix.recurrence.kernels.parallel import shared


@shared
@njit(cache=True, nogil=True)
def gru(first, last, N, x, A, states, values, jacobian):
    """(1)"""
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    for row in range(first, last):
        for d in range(0, N, LANES):
            m, i, j = N - d, row * 3 * N + d, row * N + d
            h = load_first(zero, states, j, m)
            A_z, A_r, A_n = load_first(zero, A, d, m), load_first(zero, A, N + d, m), load_first(zero, A, 2 * N + d, m)
            z, r, n = gru_gates(x, i, A, d, N, h, m)
            store_first(values, j, (one - z) * h + z * n, m)
            by_n = z * (one - n * n) * A_n * (r + h * r * (one - r) * A_r)
            store_first(jacobian, j, one - z + (n - h) * z * (one - z) * A_z + by_n, m)


@shared
@njit(cache=True, nogil=True)
def lstm(first, last, N, x, A, C, states, values, jacobian):
    """(2)"""
    zero, one = fill(LANES, ZERO), fill(LANES, ONE)
    for row in range(first, last):
        for d in range(0, N, LANES):
            m, i, j, entry = N - d, row * 3 * N + d, row * 2 * N + d, row * 4 * N + d
            h, before = load_first(zero, states, j, m), load_first(zero, states, j + N, m)
            A_f, A_g, A_o = load_first(zero, A, d, m), load_first(zero, A, N + d, m), load_first(zero, A, 2 * N + d, m)
            C_f, C_o = load_first(zero, C, d, m), load_first(zero, C, N + d, m)
            f, g, o, c = lstm_gates(x, i, A, C, d, N, h, before, m)
            s = tanh(c)
            store_first(values, j, o * s, m)
            store_first(values, j + N, c, m)
            forget, gate = (before - g) * f * (one - f), s * o * (one - o)
            read = o * (one - s * s) + gate * C_o
            c_by_h, c_by_c = forget * A_f + (one - f) * (one - g * g) * A_g, f + forget * C_f
            store_first(jacobian, entry, gate * A_o + read * c_by_h, m)
            store_first(jacobian, entry + N, read * c_by_c, m)
            store_first(jacobian, entry + 2 * N, c_by_h, m)
            store_first(jacobian, entry + 3 * N, c_by_c, m)
