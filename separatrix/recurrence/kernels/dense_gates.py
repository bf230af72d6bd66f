"""What a register of units of a dense cell does in one step, forward and backward: the cells of `dense_cell` differ in this alone.

p is what the weights make of the state, x what comes in; their parts for gates lie n apart, beginning at p[j] and x[i] for these units, of
which m are left. The backward hears grad = dL/dh' and gives dL/dp to worth[j] and dL/dx to dx[i]; what reaches the state past the weights
it returns.
"""

from __future__ import annotations

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.gates import sigmoid, tanh
from separatrix.recurrence.kernels.lanes import ZERO, fill, load_first, store_first, where_negative
from separatrix.recurrence.kernels.tile import LANES

ONE = np.float32(1)
ELMAN, GRU, LSTM, PLRNN = 0, 1, 2, 3


@compiled
def elman(p, j, x, i, m):
    """h' = tanh(p + x)"""
    zero = fill(LANES, ZERO)
    return tanh(load_first(zero, p, j, m) + load_first(zero, x, i, m))


@compiled
def elman_backward(grad, new, worth, j, dx, i, m):
    _give(worth, j, dx, i, grad * (fill(LANES, ONE) - new * new), m)


@compiled
def _gru_gates(p, j, x, i, bias, d, n, m):
    """r, z, p_n + d and n"""
    zero = fill(LANES, ZERO)
    reads = sigmoid(load_first(zero, p, j, m) + load_first(zero, x, i, m))
    keeps = sigmoid(load_first(zero, p, j + n, m) + load_first(zero, x, i + n, m))
    heard = load_first(zero, p, j + 2 * n, m) + load_first(zero, bias, d, m)
    return reads, keeps, heard, tanh(load_first(zero, x, i + 2 * n, m) + reads * heard)


@compiled
def gru(p, j, x, i, bias, d, n, m, before):
    """h' = n + z (h - n),   r, z = σ(p + x),  n = tanh(x_n + r (p_n + d))"""
    _, keeps, _, new = _gru_gates(p, j, x, i, bias, d, n, m)
    return new + keeps * (before - new)


@compiled
def gru_backward(grad, p, q, x, i, bias, d, n, m, before, worth, j, dx):
    """The part of dL/dh that does not pass the weights.    p[q], as x[i]"""
    one = fill(LANES, ONE)
    reads, keeps, said, new = _gru_gates(p, q, x, i, bias, d, n, m)
    by_new = grad * (one - keeps) * (one - new * new)
    by_keeps = grad * (before - new) * keeps * (one - keeps)
    by_reads = by_new * said * reads * (one - reads)
    _give(worth, j, dx, i, by_reads, m)
    _give(worth, j + n, dx, i + n, by_keeps, m)
    store_first(worth, j + 2 * n, by_new * reads, m)
    store_first(dx, i + 2 * n, by_new, m)
    return grad * keeps


@compiled
def _lstm_gates(p, j, x, i, n, m):
    """i, f, g and o"""
    zero = fill(LANES, ZERO)
    enters = sigmoid(load_first(zero, p, j, m) + load_first(zero, x, i, m))
    keeps = sigmoid(load_first(zero, p, j + n, m) + load_first(zero, x, i + n, m))
    comes = tanh(load_first(zero, p, j + 2 * n, m) + load_first(zero, x, i + 2 * n, m))
    return enters, keeps, comes, sigmoid(load_first(zero, p, j + 3 * n, m) + load_first(zero, x, i + 3 * n, m))


@compiled
def lstm(p, j, x, i, n, m, memory):
    """h' = o tanh(c') and c' = f c + i g,   i, f, o = σ(p + x),  g = tanh(p_g + x_g)"""
    enters, keeps, comes, shows = _lstm_gates(p, j, x, i, n, m)
    memory = keeps * memory + enters * comes
    return shows * tanh(memory), memory


@compiled
def lstm_backward(grad, later, p, q, x, i, n, m, before, after, worth, j, dx):
    """dL/dc.    p[q], as x[i]; later the dL/dc' of the steps after this one; before, after the memory, c and c'"""
    one = fill(LANES, ONE)
    enters, keeps, comes, shows = _lstm_gates(p, q, x, i, n, m)
    shown = tanh(after)
    memory = later + grad * shows * (one - shown * shown)
    _give(worth, j, dx, i, memory * comes * enters * (one - enters), m)
    _give(worth, j + n, dx, i + n, memory * before * keeps * (one - keeps), m)
    _give(worth, j + 2 * n, dx, i + 2 * n, memory * enters * (one - comes * comes), m)
    _give(worth, j + 3 * n, dx, i + 3 * n, grad * shown * shows * (one - shows), m)
    return memory * keeps


@compiled
def plrnn(p, j, x, i, vectors, d, n, m, before):
    """h' = A h + p + x + b,   A, b = vectors"""
    zero = fill(LANES, ZERO)
    new = load_first(zero, p, j, m) + load_first(zero, x, i, m) + load_first(zero, vectors, n + d, m)
    return new + load_first(zero, vectors, d, m) * before


@compiled
def plrnn_backward(grad, vectors, d, m, worth, j, dx, i):
    """The part of dL/dh that does not pass the weights."""
    _give(worth, j, dx, i, grad, m)
    return grad * load_first(fill(LANES, ZERO), vectors, d, m)


@compiled
def _give(worth, j, dx, i, grad, m):
    """To a gate that only hears the sum of p and x."""
    store_first(worth, j, grad, m)
    store_first(dx, i, grad, m)


@compiled
def phi(s, slopes, shifts, leak, clip, d, L):
    """φ(s) = sum_b α_b relu(s + θ_b) - clip relu(s) + leak min(s, 0),   α = slopes, θ = shifts"""
    zero, n = fill(LANES, ZERO), L - d
    value = where_negative(s, s * load_first(zero, leak, d, n), zero) - _relu(s) * clip
    for base in range(slopes.size):
        value = value + _relu(s + load_first(zero, shifts, base * L + d, n)) * slopes[base]
    return value


@compiled
def slope(s, slopes, shifts, leak, clip, d, L):
    """φ'"""
    zero, one, n = fill(LANES, ZERO), fill(LANES, ONE), L - d
    value = (one - _on(s)) * load_first(zero, leak, d, n) - _on(s) * clip
    for base in range(slopes.size):
        value = value + _on(s + load_first(zero, shifts, base * L + d, n)) * slopes[base]
    return value


@compiled
def _relu(s):
    return where_negative(s, fill(LANES, ZERO), s)


@compiled
def _on(s):
    """The derivative of relu, 0 at 0."""
    return where_negative(fill(LANES, ZERO) - s, fill(LANES, ONE), fill(LANES, ZERO))
