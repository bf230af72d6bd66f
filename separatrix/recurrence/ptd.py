"""Perturb, then diagonalise: modes for a matrix whose own eigenvectors are useless.

    A + E = V diag(W) V^-1,   |E|₂ = ε                                                                            (1)

HiPPO-LegS has eigenvalues -1 ... -N and eigenvectors that cannot be written down in float64: their condition is beyond 10^19 at N = 64. A
random E of absolute size ε brings it down (10^5 at ε = 0.1), and the transfer function moves by about ε, uniformly over all frequencies.
Dropping LegS' low rank instead, as S4D and S5 do, moves it by several times its own size at the resonances of the modes.

Paper    Yu et al. 2023, arXiv:2310.01698.
Departs  E is a random matrix; the paper also minimises the condition over E.
Cost     O(N³), once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Diagonalised(NamedTuple):
    """V diag(W) V_inverse, and how far to trust it. The modes of C (s - A)^-1 B are W with weights (C V) (V_inverse B).

    W, V and V_inverse hold all N modes; those of a real A come in conjugate pairs and single real ones, so that the output of a real
    system is Re(sum over all of them).
    """

    W: Tensor  # [N] complex
    V: Tensor  # [N, N] complex, columns of unit length
    V_inverse: Tensor  # [N, N] complex
    condition: float  # of V, in the spectral norm
    backward_error: float  # |A - V diag(W) V_inverse|, in the spectral norm: ε and what rounding adds


def ptd(A: Tensor, eps: float, generator: Generator | None = None) -> Diagonalised:
    """The modes of A + E for one random E (real where A is) of spectral norm `eps`.   A [N, N]

    `eps` is absolute. LegS tolerates about 1 whatever its size; as a share of |A|, which grows with N, 1% would already be unstable.
    """
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not (A.is_floating_point() or A.is_complex()):
        raise ValueError(f"A is {list(A.shape)} of {A.dtype}, expected one square matrix of numbers")
    if not eps >= 0:
        raise ValueError(f"eps is {eps}, expected 0 or more: the spectral norm of the perturbation")
    A = A.to(torch.complex128 if A.is_complex() else torch.float64)
    E = torch.randn(A.shape, dtype=A.dtype, generator=generator)
    W, V = torch.linalg.eig(A + eps / torch.linalg.matrix_norm(E, 2) * E)
    V_inverse = torch.linalg.inv(V)
    stretched = torch.linalg.svdvals(V)
    error = torch.linalg.matrix_norm((V * W) @ V_inverse - A, 2)
    return Diagonalised(W, V, V_inverse, float(stretched[0] / stretched[-1]), float(error))
