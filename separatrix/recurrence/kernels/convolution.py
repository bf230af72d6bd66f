"""A causal convolution as long as the sequence, by blocks of short Fourier transforms with channels along the lanes.

    y_t[d] = sum_l k_l[d] x_{t-l}[d]                                                                              (1)
    dx_t   = sum_l k_l dy_{t+l},         dk_l = sum over batch and t of x_t dy_{t+l}                               (2)

Sequence and kernel are cut into blocks of n / 2 steps. With F the transform of length n, x_r the r-th block, k_p the p-th:

    y_r  = first half of F⁻¹ sum_p F(k_p, 0) F(x_r, x_{r-1})_{r-p}                                                (3)
    dx_r = first half of F⁻¹ sum_p conj F(k_p, 0) V_{r+p},      V_r = F(dy_r, dy_{r+1})                            (4)
    dk_p = first half of F⁻¹ sum_r conj F(x_r, 0) V_{r+p}                                                          (5)

A real kernel acts on real and imaginary part alone, so two rows of the batch travel as one complex sequence; in (5) the real part is their
sum. Each hears the other's roundings, so rows of different size, or with a NaN, travel alone. Every lane is a channel: nothing is shuffled,
and the transforms of LANES channels stay in the L2 cache. Going out (decimation in frequency) leaves frequencies in bit-reversed order and
coming back takes them so, products do not mind, and no step sorts anything.

Paper    Cooley and Tukey 1965; Stockham 1966 (blocks); Fu et al. 2023, arXiv:2311.05908 (long convolutions as short transforms).
Arrays   flat float32.  x, dx [B,S+T,D], y, dy [B,T,D]: S steps come before the first output;  k [D,L];  dk [D,L], written for
         l < S + T;  twiddle [n,2] from `twiddles`.
Units    blocks of LANES channels.
Cost     about 20 log2(n) operations an output and row forward, 33 backward, and 4 n P more for a kernel of P blocks.
"""

from __future__ import annotations

import functools

import numpy as np

from separatrix.recurrence.kernels.compiled import compiled
from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.lanes import WIDTH, ZERO, fill, get, load, load_first, magnitude, scratch, store, store_first
from separatrix.recurrence.kernels.parallel import shared
from separatrix.recurrence.kernels.transpose import transpose

LANES = WIDTH // 4  # one register: the four complex numbers of a butterfly and its factors fit into sixteen
SHORTEST, LONGEST, MOST_BLOCKS = 32, 2048, 64
ALIKE = np.float32(64)  # rows whose sizes differ by more travel alone: the smaller one would lose this factor of its precision


def transform_length(taps: int, steps: int) -> int:
    """n: twice the kernel or the sequence; not beyond the L2 cache, unless the products of blocks would then outweigh the transforms."""
    need = max(1, min(taps, steps))
    n = LONGEST
    while need > MOST_BLOCKS * n // 2:
        n *= 2
    return min(n, max(SHORTEST, 2 << (need - 1).bit_length()))


@functools.lru_cache(maxsize=8)
def twiddles(n: int) -> np.ndarray:
    """exp(-2 pi i j / n) as pairs (re, im), rounded once."""
    angle = -2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32).ravel()


@compiled
def _pair(like, z, i):
    return load(like, z, i), load(like, z, i + LANES)


@compiled
def _put(z, i, re, im):
    store(z, i, re)
    store(z, i + LANES, im)


@compiled
def _turn(re, im, w_re, w_im):
    return re * w_re - im * w_im, re * w_im + im * w_re


@compiled
def outward(z, at, n, twiddle):
    """F of the n complex numbers at z[at:], in place, four quarters at a time; frequencies come out in bit-reversed order."""
    zero, size, m = fill(LANES, ZERO), 2 * LANES, n
    while m >= 4:
        q, stride = m // 4 * size, n // m
        for j in range(m // 4):
            w1_re, w1_im = get(twiddle, 2 * j * stride), get(twiddle, 2 * j * stride + 1)
            w2_re, w2_im = get(twiddle, 4 * j * stride), get(twiddle, 4 * j * stride + 1)
            w3_re, w3_im = get(twiddle, 6 * j * stride), get(twiddle, 6 * j * stride + 1)
            for i in range(at + j * size, at + n * size, m * size):
                a_re, a_im = _pair(zero, z, i)
                c_re, c_im = _pair(zero, z, i + 2 * q)
                s_re, s_im, a_re, a_im = a_re + c_re, a_im + c_im, a_re - c_re, a_im - c_im
                b_re, b_im = _pair(zero, z, i + q)
                d_re, d_im = _pair(zero, z, i + 3 * q)
                c_re, c_im, b_re, b_im = b_re + d_re, b_im + d_im, b_im - d_im, d_re - b_re  # the second is -i (b - d)
                _put(z, i, s_re + c_re, s_im + c_im)
                c_re, c_im = _turn(s_re - c_re, s_im - c_im, w2_re, w2_im)
                _put(z, i + q, c_re, c_im)
                s_re, s_im = _turn(a_re + b_re, a_im + b_im, w1_re, w1_im)
                _put(z, i + 2 * q, s_re, s_im)
                a_re, a_im = _turn(a_re - b_re, a_im - b_im, w3_re, w3_im)
                _put(z, i + 3 * q, a_re, a_im)
        m //= 4
    if m == 2:
        _pairs(z, at, n)


@compiled
def homeward(z, at, n, twiddle):
    """n F⁻¹ of what `outward` left, in place."""
    zero, size = fill(LANES, ZERO), 2 * LANES
    m = n
    while m >= 4:
        m //= 4
    if m == 2:
        _pairs(z, at, n)
    m *= 4
    while m <= n:
        q, stride = m // 4 * size, n // m
        for j in range(m // 4):
            w1_re, w1_im = get(twiddle, 2 * j * stride), -get(twiddle, 2 * j * stride + 1)
            w2_re, w2_im = get(twiddle, 4 * j * stride), -get(twiddle, 4 * j * stride + 1)
            w3_re, w3_im = get(twiddle, 6 * j * stride), -get(twiddle, 6 * j * stride + 1)
            for i in range(at + j * size, at + n * size, m * size):
                a_re, a_im = _pair(zero, z, i)
                b_re, b_im = _pair(zero, z, i + q)
                b_re, b_im = _turn(b_re, b_im, w2_re, w2_im)
                s_re, s_im, a_re, a_im = a_re + b_re, a_im + b_im, a_re - b_re, a_im - b_im
                c_re, c_im = _pair(zero, z, i + 2 * q)
                c_re, c_im = _turn(c_re, c_im, w1_re, w1_im)
                d_re, d_im = _pair(zero, z, i + 3 * q)
                d_re, d_im = _turn(d_re, d_im, w3_re, w3_im)
                b_re, b_im, c_re, c_im = c_re + d_re, c_im + d_im, d_im - c_im, c_re - d_re  # the second is i (c - d)
                _put(z, i, s_re + b_re, s_im + b_im)
                _put(z, i + 2 * q, s_re - b_re, s_im - b_im)
                _put(z, i + q, a_re + c_re, a_im + c_im)
                _put(z, i + 3 * q, a_re - c_re, a_im - c_im)
        m *= 4


@compiled
def _pairs(z, at, n):
    """Sums and differences of neighbours."""
    zero, size = fill(LANES, ZERO), 2 * LANES
    for i in range(at, at + n * size, 2 * size):
        a_re, a_im = _pair(zero, z, i)
        b_re, b_im = _pair(zero, z, i + size)
        _put(z, i, a_re + b_re, a_im + b_im)
        _put(z, i + size, a_re - b_re, a_im - b_im)


@compiled
def alike(x, first, apart, D, lanes, steps, sizes):
    """Whether a row and the one `apart` numbers further, from x[first :], are finite and of about one size in every lane."""
    zero = fill(LANES, ZERO)
    one, other = zero, zero
    for t in range(first, first + steps * D, D):
        one = one + magnitude(load_first(zero, x, t, lanes))
        other = other + magnitude(load_first(zero, x, t + apart, lanes))
    store(sizes, 0, one)
    store(sizes, LANES, other)
    for i in range(lanes):
        mine, others = sizes[i], sizes[LANES + i]
        if not (mine <= ALIKE * others and others <= ALIKE * mine and mine < np.inf):
            return False
    return True


@compiled
def _rows_in(x, first, apart, both, D, lanes, start, low, high, z, at, h):
    """z[i] = step start + i of a row and, if `both`, of the one `apart` numbers further, as one complex number, for i < h.

    first: where step 0 of the row lies in x. Steps outside of low <= start + i < high are 0.
    """
    zero = fill(LANES, ZERO)
    for i in range(h):
        t, re, im = start + i, zero, zero
        if low <= t < high:
            re = load_first(zero, x, first + t * D, lanes)
            if both:
                im = load_first(zero, x, first + t * D + apart, lanes)
        _put(z, at + 2 * LANES * i, re, im)


@compiled
def _rows_out(z, scale, y, first, apart, both, D, lanes, start, low, high, h):
    """The other way, times `scale`; steps outside of low <= start + i < high are dropped."""
    zero = fill(LANES, ZERO)
    for i in range(max(0, low - start), min(h, high - start)):
        re, im = _pair(zero, z, 2 * LANES * i)
        store_first(y, first + (start + i) * D, re * scale, lanes)
        if both:
            store_first(y, first + (start + i) * D + apart, im * scale, lanes)


@compiled
def _add_product(out, to, a, at, b, bt, n, conjugate):
    """out += a b, or conj(a) b, for the n complex numbers at out[to:], a[at:] and b[bt:]."""
    zero = fill(LANES, ZERO)
    for i in range(0, n * 2 * LANES, 2 * LANES):
        a_re, a_im = _pair(zero, a, at + i)
        b_re, b_im = _pair(zero, b, bt + i)
        re, im = _pair(zero, out, to + i)
        if conjugate:
            _put(out, to + i, re + a_re * b_re + a_im * b_im, im + a_re * b_im - a_im * b_re)
        else:
            _put(out, to + i, re + a_re * b_re - a_im * b_im, im + a_re * b_im + a_im * b_re)


@compiled
def _clear(z, at, n):
    for i in range(at, at + n * 2 * LANES, LANES):
        store(z, i, fill(LANES, ZERO))


@compiled
def _kernel_in(k, L, taps, d, lanes, parts, n, twiddle, z):
    """F(k_p, 0) for all parts of the first `taps` taps."""
    h = n // 2
    _clear(z, 0, parts * n)
    for p in range(parts):
        at = p * n * 2 * LANES
        transpose(k, d * L + p * h, L, lanes, min(h, taps - p * h), z, at, 2 * LANES)
        outward(z, at, n, twiddle)


@shared
@njit(cache=True, nogil=True)
def forward(first, last, shape, n, twiddle, k, x, y):
    """Equation (3).   shape (B, S, T, D, L)"""
    B, S, T, D, L = shape
    h, steps, size = n // 2, S + T, n * 2 * LANES
    taps = min(L, steps)
    blocks, parts = (steps + h - 1) // h, (taps + h - 1) // h
    scale = np.float32(1 / n)
    kernels, seen, z, sizes = scratch(parts * size), scratch(parts * size), scratch(size), scratch(2 * LANES)
    for unit in range(first, last):
        d = unit * LANES
        lanes = min(LANES, D - d)
        _kernel_in(k, L, taps, d, lanes, parts, n, twiddle, kernels)
        b = 0
        while b < B:
            row = b * steps * D + d
            both = b + 1 < B and alike(x, row, steps * D, D, lanes, steps, sizes)
            for r in range(blocks):
                now = r % parts * size  # a ring: older blocks are out of the kernel's reach
                _rows_in(x, row, steps * D, both, D, lanes, r * h, 0, steps, seen, now, h)
                _rows_in(x, row, steps * D, both, D, lanes, r * h - h, 0, steps, seen, now + size // 2, h)
                outward(seen, now, n, twiddle)
                if (r + 1) * h <= S:
                    continue
                _clear(z, 0, n)
                for p in range(min(parts, r + 1)):
                    _add_product(z, 0, kernels, p * size, seen, (r - p) % parts * size, n, False)
                homeward(z, 0, n, twiddle)
                _rows_out(z, scale, y, (b * T - S) * D + d, T * D, both, D, lanes, r * h, S, steps, h)
            b += 2 if both else 1


@shared
@njit(cache=True, nogil=True)
def backward(first, last, shape, n, twiddle, k, x, dy, dx, dk):
    """Equations (4) and (5).   shape (B, S, T, D, L)"""
    B, S, T, D, L = shape
    h, steps, size = n // 2, S + T, n * 2 * LANES
    taps = min(L, steps)
    blocks, parts = (steps + h - 1) // h, (taps + h - 1) // h
    scale = np.float32(1 / n)
    kernels, sums, seen = scratch(parts * size), scratch(parts * size), scratch(parts * size)
    z, own, sizes, zero = scratch(size), scratch(size), scratch(2 * LANES), fill(LANES, ZERO)
    for unit in range(first, last):
        d = unit * LANES
        lanes = min(LANES, D - d)
        _kernel_in(k, L, taps, d, lanes, parts, n, twiddle, kernels)
        _clear(sums, 0, parts * n)
        b = 0
        while b < B:
            row, row_y = b * steps * D + d, (b * T - S) * D + d
            both = b + 1 < B and alike(x, row, steps * D, D, lanes, steps, sizes)
            both = both and alike(dy, row_y + S * D, T * D, D, lanes, T, sizes)
            for r in range(blocks - 1, -1, -1):
                now = r % parts * size
                _rows_in(dy, row_y, T * D, both, D, lanes, r * h, S, steps, seen, now, h)
                _rows_in(dy, row_y, T * D, both, D, lanes, r * h + h, S, steps, seen, now + size // 2, h)
                outward(seen, now, n, twiddle)
                _rows_in(x, row, steps * D, both, D, lanes, r * h, 0, steps, own, 0, h)
                _clear(own, size // 2, h)
                outward(own, 0, n, twiddle)
                _clear(z, 0, n)
                for p in range(min(parts, blocks - r)):
                    later = (r + p) % parts * size
                    _add_product(z, 0, kernels, p * size, seen, later, n, True)
                    _add_product(sums, p * size, own, 0, seen, later, n, True)
                homeward(z, 0, n, twiddle)
                _rows_out(z, scale, dx, row, steps * D, both, D, lanes, r * h, 0, steps, h)
            b += 2 if both else 1
        for p in range(parts):
            homeward(sums, p * size, n, twiddle)
            some = min(h, taps - p * h)
            for i in range(p * size, p * size + some * 2 * LANES, 2 * LANES):
                store(sums, i, load(zero, sums, i) * scale)
            transpose(sums, p * size, 2 * LANES, some, lanes, dk, d * L + p * h, L)
