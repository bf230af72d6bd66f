"""S4: a state space whose matrix is diagonal plus low rank, seen through its kernel.

    x' = (Λ - P P*) x + B u,   y = C x          of size N, kept as one of each conjugate pair: Λ, B, C [N/2], P [r, N/2]     (1)
    K_l = C aˡ b,   (a, b) the bilinear rule or the zero-order hold of (1) with step Δ                                    (2)

As a real system of size N, the states' real parts and then their imaginary parts, (1) is a matrix; discretised it runs as `dense_ssm`, one
step after another or in chunks, and (2) is √L powers times √L powers (`dense_ssm.dense_kernel`). The way of the paper is `cauchy_kernel`:
under the bilinear rule the generating function of K,

    K̂(z) = C (I - a^L) ((1 - z) - (1 + z) Δ/2 (Λ - P P*))^-1 Δ B          z the L-th roots of unity                        (3)

needs only sums over n of 1 / ((1 - z) - (1 + z) Δ/2 Λ_n), after Woodbury's formula has taken P out of the inverse; K is its inverse Fourier
transform.

Paper    Gu et al. 2021, arXiv:2111.00396; Goel et al. 2022, arXiv:2202.09729 (the sign of P P* that keeps it stable).
Departs  C is the output vector itself, not C (I - a^L): it means the same at every length. P Q* is P P*.
Cost     a channel: N L multiplications in matrix products and log L products of N x N for (2); N L divisions, and the same powers to have
         a^L, for (3). Neither keeps anything of size state x length.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from separatrix.recurrence.autocast import outside_autocast
from separatrix.recurrence.checks import complex_of, expect_axes, expect_numbers, expect_shape, working_dtype
from separatrix.recurrence.dense_ssm import dense_kernel
from separatrix.recurrence.discretize import Discretization, bilinear_matrix


@outside_autocast
def s4_system(
    A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor, discretize: Discretization = bilinear_matrix
) -> tuple[Tensor, Tensor, Tensor]:
    """The discretised system as real a [D, N, N], b [D, N], c [D, N], to be run by `dense_ssm`.

    A the diagonal Λ, B, C [D, N/2] complex, P [r, D, N/2] complex, dt [D]; discretize zoh_matrix or bilinear_matrix.
    """
    A, B, C, P, dt = _enter(A, B, C, P, dt)
    low = torch.cat([P.real, P.imag], dim=-1)  # Re(P* x) is a product with this row
    fade, turn = torch.diag_embed(A.real), torch.diag_embed(A.imag)
    normal = torch.cat([torch.cat([fade, -turn], dim=-1), torch.cat([turn, fade], dim=-1)], dim=-2)
    a, b = discretize(normal - 2 * torch.einsum("rdn,rdm->dnm", low, low), torch.cat([B.real, B.imag], dim=-1), dt)
    return a, b, 2 * torch.cat([C.real, -C.imag], dim=-1)


@outside_autocast
def s4_kernel(A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor, length: int, discretize: Discretization = bilinear_matrix) -> Tensor:
    """K [D, L] of (2); arguments as in `s4_system`."""
    return dense_kernel(*s4_system(A, B, C, P, dt, discretize), length)


@outside_autocast
def cauchy_kernel(A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor, length: int, chunk: int = 512) -> Tensor:
    """The same under the bilinear rule, by (3), `chunk` frequencies at a time."""
    A, B, C, P, dt = _enter(A, B, C, P, dt)
    if length == 0:
        return dt.new_zeros(dt.shape[0], 0)
    a, _, c = s4_system(A, B, C, P, dt)
    real, imag = (c - (torch.linalg.matrix_power(a, length).mT @ c.unsqueeze(-1)).squeeze(-1)).chunk(2, dim=-1)
    left = torch.cat([torch.complex(real, -imag).unsqueeze(0) / 2, P.conj()])
    above = left.unsqueeze(1) * torch.cat([B.unsqueeze(0), P]).unsqueeze(0)  # [1 + r, 1 + r, D, N/2]
    turn = torch.arange(length // 2 + 1, dtype=dt.dtype, device=dt.device) * (-2 * torch.pi / length)
    spectrum = torch.cat([checkpoint(_generating, A, above, dt, part, use_reentrant=False) for part in turn.split(chunk)], dim=-1)
    return torch.fft.irfft(spectrum, n=length)


def _generating(A: Tensor, above: Tensor, dt: Tensor, turn: Tensor) -> Tensor:
    """K̂ at z = exp(i turn).   turn [F] -> [D, F]"""
    z = torch.exp(1j * turn)
    alpha, beta = (1 - z).unsqueeze(0), (1 + z) * (dt / 2).unsqueeze(-1)
    # v / (α - βΛ) and its conjugate twin have the common denominator α² - 2 Re(Λ) αβ + |Λ|² β², which has real coefficients
    square = A.real.square() + A.imag.square()
    aa, ab, bb = ((x * y).unsqueeze(1) for x, y in ((alpha, alpha), (alpha, beta), (beta, beta)))
    poles = torch.view_as_real(1 / (aa - 2 * A.real.unsqueeze(-1) * ab + square.unsqueeze(-1) * bb)).flatten(-2)  # [D, N/2, 2F]
    coefficients = torch.stack([2 * above.real, -2 * (above * A.conj()).real])  # of α and of β
    pairs = torch.einsum("kpqdn,dnf->kpqdf", coefficients, poles).unflatten(-1, (-1, 2)).contiguous()
    of_alpha, of_beta = torch.view_as_complex(pairs)
    sums = of_alpha * alpha + of_beta * beta  # [1 + r, 1 + r, D, F]
    rank = above.shape[0] - 1
    through = torch.eye(rank, dtype=sums.dtype, device=sums.device) + (beta * sums[1:, 1:]).permute(2, 3, 0, 1)
    detour = torch.linalg.solve(through, sums[1:, 0].permute(1, 2, 0).unsqueeze(-1)).squeeze(-1)
    return dt.unsqueeze(-1) * (sums[0, 0] - beta * (sums[0, 1:].permute(1, 2, 0) * detour).sum(-1))


def _enter(A: Tensor, B: Tensor, C: Tensor, P: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Everything in the working precision, shapes checked."""
    expect_numbers("A", A, B=B, C=C, P=P, dt=dt)
    expect_axes("A", A, "channels, modes")
    expect_shape("B", B, A.shape, "channels, modes")
    expect_shape("C", C, A.shape, "channels, modes")
    expect_shape("P", P, (P.shape[0], *A.shape), "rank, channels, modes")
    expect_shape("dt", dt, A.shape[:1], "channels")
    real = working_dtype(A, B, C, P, dt)
    A, B, C, P = (x.to(complex_of(real)) for x in (A, B, C, P))
    return A, B, C, P, dt.to(real)
