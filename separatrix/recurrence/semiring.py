"""The (max, min) semiring: max for plus, min for times.

    (A ⊗ h)[i] = max_j min(A[i, j], h[j]),      (A' ⊗ A)[i, k] = max_j min(A'[i, j], A[j, k])                        (1)

and who is taken where two are equal, which numbers do not show and gradients do: the past. Of equal h and a in min(a, h) it is h, of
equal min and b in max(min, b) the min, of equal entries of a row in (1) the one with the lowest j. A NaN stays one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.tree import Semiring


def least(a: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
    """min(a, h), or for a matrix max_j min(a[i, j], h[j]) and the j it is; ties as the rule says.   h [..., N]"""
    if a.ndim == h.ndim:
        return torch.where(is_kept_below(a, h), h, a), None
    wide = h.unsqueeze(-2)
    pairs = torch.where(is_kept_below(a, wide), wide, a)
    chosen = pairs.argmax(-1)  # the first of equal ones
    return pairs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1), chosen


def is_kept_below(a: Tensor, h: Tensor) -> Tensor:
    """Whether min(a, h) is h."""
    return (h <= a) | h.isnan()


def is_kept(low: Tensor, floor: Tensor) -> Tensor:
    """Whether max(low, floor) is low."""
    return (low >= floor) | low.isnan()


def apply_diagonal(a: Tensor, h: Tensor) -> Tensor:
    return torch.minimum(a, h)


def apply_matrix(A: Tensor, h: Tensor) -> Tensor:
    """A ⊗ h: max_j min(A[i, j], h[j]).   A [..., N, N], h [..., N]"""
    return torch.minimum(A, h.unsqueeze(-2)).amax(-1)


def multiply_matrices(later: Tensor, first: Tensor) -> Tensor:
    """later ⊗ first: max_j min(later[i, j], first[j, k]), one j after another so that nothing of size N³ is made."""
    best = torch.minimum(later[..., :, :1], first[..., :1, :])
    for j in range(1, later.shape[-1]):
        best = torch.maximum(best, torch.minimum(later[..., :, j : j + 1], first[..., j : j + 1, :]))
    return best


DIAGONAL = Semiring(apply_diagonal, torch.minimum, torch.maximum, -torch.inf)
MATRICES = Semiring(apply_matrix, multiply_matrices, torch.maximum, -torch.inf)
