"""Spectral filters: fixed convolutions in which every slowly forgetting linear system is a short sum.

    Z = ∫₀¹ m(a) m(a)ᵀ da,   m_i(a) = (1 - a) aⁱ⁻¹,   Z_ij = 2 / ((i+j)³ - (i+j)),   Z φ_k = σ_k φ_k                (1)
    U_k = φ_k * u,   and with the twin (-1)ᵗ φ_k(t) for negative eigenvalues                                       (2)

A symmetric system of any size answers a pulse with a mixture of powers aⁱ, and σ_k falls so fast (at 1,000 steps by a factor of 3 or more
every k) that 20 numbers of (2) hold it. For asymmetric systems, eigenvalues within the sector |arg α| <= β of the disc, the target is made
forgetful first,

    ỹ_t = y_t + sum_i c_i y_{t-i},   x^n + c_1 x^{n-1} + ... = 2^{1-n} T_n(x), the monic Chebyshev polynomial p       (3)
    Z = ∫ |p(α)|² m(α) m(α)* dα over the sector,   m_i(α) = α^{i-1}                                                 (4)

since convolving the target with c applies p to the hidden matrix, and |p| <= 2^{1-n} on [-1, 1].

As a matrix of floating point numbers Z has no eigenvectors below the 20th. It is never formed: (1) has a factor in closed form, the
coefficients of aⁱ⁻¹(1-a) in orthonormal Legendre polynomials, (4) one of quadrature nodes, and the singular vectors of a factor are
good to about 1e-16 sqrt(σ_1/σ_k).

Paper    Hazan et al. 2017, arXiv:1711.00946 (spectral filtering); Agarwal et al. 2023, arXiv:2312.06837 (STU);
         Marsden & Hazan 2025, arXiv:2502.06545 (Chebyshev).
Departs  the filters are not scaled by σ_k^(1/4); the measure of (4) is the area.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_axes, expect_shape
from separatrix.recurrence.convolution import long_convolution


def hankel_filters(length: int, count: int) -> tuple[Tensor, Tensor]:
    """The leading eigenpairs of (1), the largest entry of an eigenvector positive.   -> σ [count], φ [length, count] float64"""
    return _leading(_hankel, length, count)


def chebyshev_filters(length: int, count: int, degree: int, angle: float) -> tuple[Tensor, Tensor]:
    """The leading eigenpairs of (4), p of `degree`, the sector |arg| <= `angle`.   -> σ [count], φ [length, count] float64"""
    if degree < 0 or not 0 < angle <= np.pi:
        raise ValueError(f"degree is {degree} and angle is {angle}, expected degree >= 0 and 0 < angle <= pi")
    return _leading(_sector, length, count, degree, float(angle))


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


def _leading(factor, length: int, count: int, *options) -> tuple[Tensor, Tensor]:
    if not 0 < count <= length:
        raise ValueError(f"count is {count}, expected between 1 and the length {length}")
    sigma, phi = _eigenpairs(factor, length, *options)
    if count > len(sigma):
        raise ValueError(f"count is {count}, expected at most {len(sigma)} at length {length}: what follows is lost to rounding")
    return torch.from_numpy(sigma[:count].copy()), torch.from_numpy(phi[:, :count].copy())


@lru_cache(maxsize=8)
def _eigenpairs(factor, length: int, *options) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import svd  # here: whoever runs another recurrence does not wait for scipy

    # gesvd, not the divide and conquer that is everybody's default: it loses two digits of the 24th vector at length 256
    phi, s, _ = svd(factor(length, *options), full_matrices=False, lapack_driver="gesvd")
    known = s > 10 * np.finfo(s.dtype).eps * s[0]  # of the others not one digit is right
    s, phi = s[known], phi[:, known]
    largest = np.abs(phi).argmax(axis=0)
    return s**2, phi * np.sign(phi[largest, np.arange(phi.shape[1])])


def _hankel(length: int) -> np.ndarray:
    """M with M Mᵀ = Z of (1): column k holds sqrt(2k+1) ∫ a^j (1 - a) P_k(2a - 1) da, j = i - 1, every entry to full relative accuracy.

    ∫ a^j P_k(2a - 1) da = (j!)² / ((j-k)! (j+k+1)!) =: r_k(j), and r_k(j) - r_k(j+1) has the factor (j+1) - k(k+1) in closed form.
    """
    j = np.arange(length, dtype=np.float64)
    here, after, columns = 1 / (j + 1), 1 / (j + 2), []
    for k in range(length + 1):
        missing = j + 1 == k
        difference = here * ((j + 1) - k * (k + 1)) / (np.where(missing, 1, j + 1 - k) * (j + k + 2))
        columns.append(np.sqrt(2 * k + 1) * np.where(missing, -after, difference))
        here, after = here * (j - k) / (j + k + 2), after * (j + 1 - k) / (j + k + 3)
        if k > 8 and np.linalg.norm(columns[-1]) < 1e-24:
            break
    return np.stack(columns, axis=1)


def _sector(length: int, degree: int, angle: float) -> np.ndarray:
    """M with M Mᵀ = Z of (4): Gauss-Legendre nodes in radius and angle; a conjugate pair of nodes is a real and an imaginary column."""
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
