"""From x' = A x + B u to x_t = a x_{t-1} + b u_t, for a diagonal A and, at the end, for a matrix.

    zoh        a = exp(Δ A)                       b = (exp(Δ A) - 1) / A  B          u constant between steps      (1)
    bilinear   a = (1 + Δ A / 2) / (1 - Δ A / 2)   b = Δ / (1 - Δ A / 2)  B          trapezoid rule                 (2)
    dss        a = exp(Δ A)                       b = (exp(Δ A) - 1) / (A (exp(L Δ A) - 1))  B                     (3)

(3) is the zero-order hold with the kernel normalised over L steps; near a zero of its denominator x the inverse is conj(x) / (|x|² + ε).

A step may differ from sample to sample: dt [B, T, 1] gives a and b at every step.

Paper    Gu et al. 2022, arXiv:2206.11893; Gupta et al. 2022, arXiv:2203.14343;
         Van Loan 1978, IEEE Trans. Autom. Control 23:395-404 (matrices).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from separatrix.recurrence.checks import readable

Discretization = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # (A, B, dt) -> (a, b)


def zoh(A: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """A, B and dt broadcast; -> (a, b). A = 0 is an integrator: b = Δ B."""
    a, grown = exponentials(A, dt)
    z = dt * A
    slow = z.detach().abs() < torch.finfo(z.dtype).eps ** 0.5
    if readable(slow) and not slow.any():
        return a, grown / A * B
    # there the derivative of the quotient is a difference of large numbers
    return a, torch.where(slow, dt * (1 + z / 2 * (1 + z / 3)), grown / torch.where(slow, 1, A)) * B


def exponentials(A: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """exp(Δ A) and exp(Δ A) - 1.

    expm1, not exp - 1: at slow decay the difference loses every digit we need. For complex A in real functions, which are vectorised:
    torch's complex exp is twenty times slower than all of these together.
    """
    if not A.is_complex():
        return torch.exp(dt * A), torch.expm1(dt * A)
    x, half = A.real * dt, A.imag * (dt / 2)
    size, sine, cosine = x.exp(), half.sin(), half.cos()
    turned = 2 * sine * sine * size  # (1 - cos) of the angle, without the difference
    imag = 2 * sine * cosine * size
    return torch.complex(size - turned, imag), torch.complex(torch.expm1(x) - turned, imag)


def bilinear(A: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """A, B and dt broadcast; -> (a, b)."""
    half = dt * A / 2
    return (1 + half) / (1 - half), dt / (1 - half) * B


def dss(A: Tensor, B: Tensor, dt: Tensor, length: int, eps: float = 1e-7) -> tuple[Tensor, Tensor]:
    """A, B and dt broadcast, `length` L is the number of steps the kernel is normalised over; -> (a, b)."""
    z = dt * A
    x = A * torch.expm1(length * z)
    return z.exp(), torch.expm1(z) * x.conj() / (x.real.square() + x.imag.square() + eps) * B


def zoh_matrix(A: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """(1) as the exponential of one matrix, [a, b; 0, 1] = exp Δ[A, B; 0, 0], A singular or not.   A [..., N, N], B [..., N], dt [...]"""
    n = A.shape[-1]
    top = torch.cat([A, B.unsqueeze(-1)], dim=-1)
    whole = torch.linalg.matrix_exp(torch.nn.functional.pad(top * dt[..., None, None], (0, 0, 0, 1)))
    return whole[..., :n, :n], whole[..., :n, n]


def bilinear_matrix(A: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """(2) with a matrix to invert.   A [..., N, N], B [..., N], dt [...]"""
    one, half = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device), dt[..., None, None] / 2 * A
    solved = torch.linalg.solve(one - half, torch.cat([one + half, (dt.unsqueeze(-1) * B).unsqueeze(-1)], dim=-1))
    return solved[..., :-1], solved[..., -1]
