"""Spectral filters: fixed convolutions in which every slowly forgetting linear system is a short sum.

    Z = ∫₀¹ m(a) m(a)ᵀ da,   m_i(a) = (1 - a) aⁱ⁻¹,   Z_ij = 2 / ((i+j)³ - (i+j)),   Z φ_k = σ_k φ_k                (1)
    U_k = φ_k * u,   and with the twin (-1)ᵗ φ_k(t) for negative eigenvalues                                       (2)

A symmetric system of any size answers a pulse with a mixture of powers aⁱ, and σ_k falls so fast (at 1,000 steps by a factor of 3 or more
every k) that 20 numbers of (2) hold it. For asymmetric systems, eigenvalues within the sector |arg α| <= β of the disc, the target is made
forgetful first,

    ỹ_t = y_t + sum_i c_i y_{t-i},   x^n + c_1 x^{n-1} + ... = 2^{1-n} T_n(x), the monic Chebyshev polynomial p       (3)
    Z = ∫ |p(α)|² m(α) m(α)* dα over the sector,   m_i(α) = α^{i-1}                                                 (4)

since convolving the target with c applies p to the hidden matrix, and |p| <= 2^{1-n} on [-1, 1].

As a matrix of floating point numbers Z has no eigenvectors below the 20th. It is never formed: (1) has a factor M = B D in closed form, D
diagonal and B well conditioned, whose singular vectors one-sided Jacobi finds to 1e-14, however small σ_k is, and σ_k to 1e-14 of itself.
The factor of (4) is one of quadrature nodes, good to 1e-16 of its largest singular value: there σ_k and φ_k lose sqrt(σ_1/σ_k).

Paper    Hazan et al. 2017, arXiv:1711.00946 (spectral filtering); Agarwal et al. 2023, arXiv:2312.06837 (STU);
         Marsden & Hazan 2025, arXiv:2502.06545 (Chebyshev); Demmel 1999 (Accurate singular value decompositions of structured matrices);
         Borwein, Erdélyi & Zhang 1994 (Müntz-Legendre polynomials); Drmač & Veselić 2008 (New fast and accurate Jacobi SVD algorithm).
Departs  the filters are not scaled by σ_k^(1/4); the measure of (4) is the area.
Cost     (1) O(L K²) with K about count + 50: 0.3 s for 63 filters of 16,384 steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_axes, expect_shape
from separatrix.recurrence.convolution import long_convolution
from separatrix.recurrence.plan import runs_as

SMALLEST = 1e-140  # singular value of (1): σ is its square, and columns of 1e-150 still count


def hankel_filters(length: int, count: int) -> tuple[Tensor, Tensor]:
    """The leading eigenpairs of (1), the largest entry of an eigenvector positive.   -> σ [count], φ [length, count] float64

    σ_k to 1e-14 of itself, φ_k to 1e-14 of its length.
    """
    return _leading(length, count, lambda: _hankel_pairs(length, count), "what follows is below the range of float64")


def chebyshev_filters(length: int, count: int, degree: int, angle: float) -> tuple[Tensor, Tensor]:
    """The leading eigenpairs of (4), p of `degree`, the sector |arg| <= `angle`.   -> σ [count], φ [length, count] float64

    Both to about 1e-15 sqrt(σ_1/σ_k).
    """
    if degree < 0 or not 0 < angle <= np.pi:
        raise ValueError(f"degree is {degree} and angle is {angle}, expected degree >= 0 and 0 < angle <= pi")
    return _leading(length, count, lambda: _sector_pairs(length, degree, float(angle)), "what follows is lost to rounding")


@runs_as("long_convolution")
def spectral_convolution(
    u: Tensor, filters: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None, *, alternating: bool = False
) -> tuple[Tensor, Tensor]:
    """U_k = φ_k * u, every channel through every filter; `alternating` takes the twins (-1)ᵗ φ_k(t).

    u [B, T, D], filters [L, K], initial_state [B, L - 1, D], the inputs before u, reset [B, T] bool
    ->  U [B, T, K, D], final state [B, L - 1, D].

    Paper    Hazan et al. 2017, arXiv:1711.00946; Agarwal et al. 2023 (STU), arXiv:2312.06837.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_axes("u", u, "batch, time, channels")
    expect_axes("filters", filters, "taps, filters")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (u.shape[0], len(filters) - 1, u.shape[2]), "batch, taps - 1, channels")
    count, channels = filters.shape[1], u.shape[2]
    if alternating:
        filters = filters * (1 - 2 * (torch.arange(len(filters), device=filters.device) % 2)).unsqueeze(1)
    kernel = filters.T.repeat_interleave(channels, dim=0)
    state = None if initial_state is None else initial_state.repeat(1, 1, count)
    U, state = long_convolution(kernel, u.repeat(1, 1, count), state, reset)
    return U.unflatten(-1, (count, channels)), state[..., :channels]


def chebyshev(degree: int) -> Tensor:
    """c_1 ... c_n of (3).   [degree] float64"""
    return torch.from_numpy(_monic(degree)[1:].copy())


def precondition(
    y: Tensor, coefficients: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """ỹ of (3).   y [B, T, D], coefficients [n], initial_state [B, n, D], the y before -> ỹ [B, T, D], final state [B, n, D]"""
    expect_axes("y", y, "batch, time, channels")
    kernel = torch.cat([coefficients.new_ones(1), coefficients])
    return long_convolution(kernel.expand(y.shape[2], -1), y, initial_state, reset)


def _leading(length: int, count: int, pairs, why: str) -> tuple[Tensor, Tensor]:
    if not 0 < count <= length:
        raise ValueError(f"count is {count}, expected between 1 and the length {length}")
    s, phi = pairs()
    if count > len(s):
        raise ValueError(f"count is {count}, expected at most {len(s)} at length {length}: {why}")
    phi = phi[:, :count]
    largest = np.abs(phi).argmax(axis=0)
    return torch.from_numpy(s[:count] ** 2), torch.from_numpy(phi * np.sign(phi[largest, np.arange(count)]))


@lru_cache(maxsize=8)
def _hankel_pairs(length: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg.lapack import dgejsv  # here: whoever runs another recurrence does not wait for scipy

    # A = B D to the accuracy of B (C), left vectors (U, N), columns down to 1e-154 (R), A as it stands (N, N)
    s, phi, _, scale, _, failed = dgejsv(_hankel(length, count), joba=0, jobu=0, jobv=3, jobr=1, jobt=1, jobp=1)
    if failed:
        raise RuntimeError(f"dgejsv did not converge (info {failed}) at length {length}")
    s = s * (scale[1] / scale[0])
    known = s > SMALLEST
    return s[known], phi[:, known]


@lru_cache(maxsize=8)
def _sector_pairs(length: int, degree: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import svd

    # gesvd, not the divide and conquer that is everybody's default: it loses two digits of the 24th vector at length 256
    phi, s, _ = svd(_sector(length, degree, angle), full_matrices=False, lapack_driver="gesvd")
    known = s > 10 * np.finfo(s.dtype).eps * s[0]  # of the others not one digit is right
    return s[known], phi[:, known]


def _hankel(length: int, count: int) -> np.ndarray:
    """M with M Mᵀ = Z of (1), as far as it matters to `count` pairs; every column is right to 1e-15 of its norm.

    Powers a^{q-1}, orthogonalized on [0, 1] one after another, are the Müntz-Legendre polynomials. Their products with a^{i-1} are

        C_k(i) = w_k g_k(i) / (i + q_k - 1),   g_k(i) = ∏_{m<k} (i - q_m) / (i + q_m - 1),   w_k² = 2 q_k - 1,

    the columns of the Cholesky factor of the Hilbert matrix 1/(i + j - 1) with pivots q_1, q_2, ...; q_k is where g_k(q)² / (2q - 1), what
    the columns so far leave of the diagonal, is largest. The difference C_k(i) - C_k(i+1) is a factor of Z, but (1 - a) aⁱ⁻¹ vanishes at 1,
    where the k-th polynomial is w_k: one combination of its columns is zero. In the orthonormal basis of what is orthogonal to w,
    (w_k w_1, ..., w_k w_{k-1}, -W²_{k-1}, 0, ...) / (W_{k-1} W_k) with W_k² = sum_{m<=k} w_m², sums telescope, w_k C_k = g_k - g_{k+1}, and
    column k is, up to its sign,

        w_k / (W_{k-1} W_k) (h_k(i) - h_k(i+1)),   h_k(i) = g_k(i) (1 + W²_{k-1} / (i + q_k - 1)),   k = 2 ... L + 1.

    The pivots make unit columns independent: down to a column of 1e-32, κ(B) is 12 at L = 40 and 67 at L = 16,384, where the natural
    order q = 1, 2, 3, ... (Legendre) has 1e11 and more.
    """
    i = np.arange(1, length + 2, dtype=np.float64)
    g, step, W2, columns, norms = np.ones(length + 1), np.zeros(length), 0.0, [], []  # step: g(i) - g(i+1), free of cancellation
    for k in range(length + 1):
        q = i[np.argmax(np.abs(g) / np.sqrt(2 * i - 1))]
        w2, over = 2 * q - 1, 1 / (i + q - 1)
        both = over[:-1] * over[1:]
        if k > 0:
            column = ((1 + W2 * over[:-1]) * step + W2 * both * g[1:]) * np.sqrt(w2 / (W2 * (W2 + w2)))
            columns.append(column)
            norms.append(np.linalg.norm(column))
            if norms[-1] < 1e-10 * max(SMALLEST, norms[count - 1] if k > count else 0.0):  # what is left out is 1e-20 of σ
                break
        t = (i - q) * over
        step = np.where(np.abs(t[:-1]) < np.abs(t[1:]), t[:-1] * step - w2 * both * g[1:], t[1:] * step - w2 * both * g[:-1])
        g, W2 = g * t, W2 + w2
    return np.array(columns).T


def _sector(length: int, degree: int, angle: float) -> np.ndarray:
    """M with M Mᵀ = Z of (4): Gauss-Legendre nodes in radius and angle; a conjugate pair of nodes is a real and an imaginary column.

    Good to rounding of its largest singular value only: the columns are many and nearly dependent, and QR and SVD thin them out.
    """
    taps = length + degree
    r, over_r = np.polynomial.legendre.leggauss(min(taps + 1, 64 + int(6 * taps**0.5)))  # r^2L is 1/2L wide, the last nodes 1/m² apart
    t, over_t = np.polynomial.legendre.leggauss(16 + int(0.6 * taps * angle))
    r, over_r, t, over_t = (r + 1) / 2, over_r / 2, angle * (t + 1) / 2, over_t * angle / 2
    powers = _thinned(r ** np.arange(taps)[:, None] * np.sqrt(2 * over_r * r))  # the radii of one angle, as far as they differ
    turned = np.exp(1j * np.arange(taps)[:, None] * t) * np.sqrt(over_t)
    weighted = [c * turned[k : k + length, :, None] * powers[k : k + length, None, :] for k, c in enumerate(_monic(degree)[::-1])]
    columns = torch.from_numpy(sum(weighted).reshape(length, -1))
    return _thinned(torch.linalg.qr(torch.cat([columns.real, columns.imag], dim=1).T, mode="r")[1].T.numpy())


def _thinned(factor: np.ndarray) -> np.ndarray:
    """A factor of the same matrix without columns that are below its rounding."""
    U, s, _ = np.linalg.svd(factor, full_matrices=False)
    return (U * s)[:, s > 1e-16 * s[0]]


def _monic(degree: int) -> np.ndarray:
    """Coefficients of 2^{1-n} T_n, the highest power first."""
    series = np.polynomial.chebyshev.cheb2poly([0] * degree + [1])
    return series[::-1] / series[-1]
