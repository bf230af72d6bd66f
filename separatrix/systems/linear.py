"""A linear system: the one world where every answer is known.

    x_{t+1} = A x_t + B u_t,      y_t = C x_t + D u_t                                                          (1)
    from x' = A_c x + B_c u with u held over a step (zero-order hold):
        exp [A_c dt, B_c dt; 0, 0] = [A, B; 0, I]                                                              (2)

Paper    Van Loan 1978, Computing integrals involving the matrix exponential, IEEE Trans. Autom. Control 23:395-404, for (2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_positive
from separatrix.systems.system import expect_finite, expect_width


@dataclass(frozen=True)
class LinearSystem:
    """x_{t+1} = A x_t + B u_t,  y_t = C x_t + D u_t.    A [n, n], B [n, m], C [p, n], D [p, m]

    B and D default to no input, C to seeing the whole state.

    dt      time per step.

    Paper    Van Loan 1978, IEEE Trans. Autom. Control 23:395-404, for `from_continuous`.
    Raises   ValueError for shapes that do not fit, NaN, dt <= 0; TypeError unless all are real floats of one dtype.
    """

    A: Tensor
    B: Tensor | None = None
    C: Tensor | None = None
    D: Tensor | None = None
    dt: float = 1.0

    def __post_init__(self) -> None:
        A = _real("A", self.A)
        if A.ndim != 2 or A.shape[0] != A.shape[1] or len(A) == 0:
            raise ValueError(f"A is {tuple(A.shape)}, expected a square matrix [n, n].")
        n = len(A)
        B = A.new_zeros(n, 0) if self.B is None else _real("B", self.B)
        C = torch.eye(n, dtype=A.dtype, device=A.device) if self.C is None else _real("C", self.C)
        if B.ndim != 2 or B.shape[0] != n or C.ndim != 2 or C.shape[1] != n:
            raise ValueError(f"with A {tuple(A.shape)}, B is {tuple(B.shape)} and C {tuple(C.shape)}: expected [{n}, m] and [p, {n}].")
        D = A.new_zeros(C.shape[0], B.shape[1]) if self.D is None else _real("D", self.D)
        if D.shape != (C.shape[0], B.shape[1]):
            raise ValueError(f"D is {tuple(D.shape)}, expected [p, m] = {(C.shape[0], B.shape[1])}.")
        expect_positive("dt", self.dt, "time per step")
        for name, matrix in (("A", A), ("B", B), ("C", C), ("D", D)):
            if matrix.dtype != A.dtype:
                raise TypeError(f"{name} is {matrix.dtype} but A is {A.dtype}. Convert one of them.")
            object.__setattr__(self, name, matrix)

    @classmethod
    def from_continuous(
        cls, A: Tensor, B: Tensor | None = None, C: Tensor | None = None, D: Tensor | None = None, *, dt: float
    ) -> LinearSystem:
        """x' = A x + B u sampled every `dt` with the input held in between, by (2)."""
        given = cls(A, B, C, D, dt)
        n, B = given.dimension, _matrix(given.B)
        generator = torch.cat([torch.cat([A, B], 1), A.new_zeros(B.shape[1], n + B.shape[1])]) * dt
        moved = torch.linalg.matrix_exp(generator)
        return cls(moved[:n, :n].clone(), moved[:n, n:].clone(), C, D, dt)

    @property
    def dimension(self) -> int:
        return self.A.shape[0]

    def step(self, state: Tensor, input: Tensor | None = None) -> Tensor:
        """A x + B u.    [..., n], [..., m] -> [..., n]"""
        moved = state @ self.A.mT
        if input is None:
            return moved
        B = _matrix(self.B)
        expect_width(input, B.shape[1])
        return moved + input @ B.mT

    def observe(self, state: Tensor) -> Tensor:
        """C x.    [..., n] -> [..., p]"""
        return state @ _matrix(self.C).mT

    def jacobian_vector(self, state: Tensor, v: Tensor, input: Tensor | None = None) -> Tensor:
        """A v, wherever the state is.    state [n], v [..., n] -> [..., n]"""
        return v @ self.A.mT

    def eigenvalues(self) -> Tensor:
        """Eigenvalues of A, largest modulus first, in double precision.    -> [n] complex, per step"""
        values = torch.linalg.eigvals(self.A.double())
        return values[values.abs().argsort(descending=True, stable=True)]

    def eigenvalue_errors(self) -> Tensor:
        """How far rounding may have moved each of `eigenvalues`.    -> [n], per step

        To first order ε |A| / |y* x|, with x and y the unit eigenvectors of both sides; of eigenvalues that would be one, where this has
        no end, at most |A| ε^(1/n).

        Paper    Wilkinson 1965, The Algebraic Eigenvalue Problem, ch. 2; Henrici 1962, Numer. Math. 4:24.
        """
        A = np.asarray(self.A.detach().cpu().double())
        values, left, right = scipy.linalg.eig(A, left=True, right=True)
        order = torch.from_numpy(values).abs().argsort(descending=True, stable=True)
        rounding = len(A) * np.finfo(float).eps
        condition = 1 / np.maximum(np.abs((left.conj() * right).sum(0)), np.finfo(float).tiny)
        size = float(np.linalg.norm(A, 2))
        return torch.from_numpy(np.minimum(rounding * size * condition, size * rounding ** (1 / len(A))))[order]

    def frequency_response(self, frequency: Tensor) -> Tensor:
        """C (z I - A)^-1 B + D at z = exp(i ω).    ω [...] in radians per step -> [..., p, m] complex"""
        z = torch.exp(1j * frequency.to(self.A.dtype))[..., None, None]
        complex_type = z.dtype
        A, B, C, D = (_matrix(M).to(complex_type) for M in (self.A, self.B, self.C, self.D))
        return C @ torch.linalg.solve(z * torch.eye(self.dimension, dtype=complex_type, device=A.device) - A, B) + D


def _matrix(M: Tensor | None) -> Tensor:
    assert M is not None  # filled in by __post_init__
    return M


def _real(name: str, matrix: Tensor) -> Tensor:
    expect_finite(name, matrix, "Build the system from finite numbers.")
    return matrix
