"""Diagonal plus low rank: the widest structure that still applies in O(N R).

    A = diag(d) + L Rᵀ          d [N], L, R [N, r]; plain transpose, conjugate R yourself where the paper has R*   (1)

S4's HiPPO matrices, RWKV-7 (diag(w) + b aᵀ) and products of Householder matrices are of this kind; the product of two has the sum of
their ranks.

Paper    Gu et al. 2021 (S4), arXiv:2111.00396; Peng et al. 2025 (RWKV-7), arXiv:2503.14456.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.dense import Dense
from separatrix.recurrence.transition import Transition, at_least_single, expect_same_size, times


@dataclass(frozen=True)
class DiagonalPlusLowRank(Transition):
    """diag(diagonal) + left rightᵀ.   diagonal [..., N], left, right [..., N, R]

    Paper    Gu et al. 2021 (S4), arXiv:2111.00396; Peng et al. 2025 (RWKV-7), arXiv:2503.14456.
    """

    runs_as = "low_rank_scan"

    diagonal: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def of_rank_one(cls, log_decay: Tensor, a: Tensor, b: Tensor) -> DiagonalPlusLowRank:
        """diag(exp w) + b aᵀ, what `dplr` does to its state.   log_decay, a, b [..., N]"""
        return cls(log_decay.exp(), b.unsqueeze(-1), a.unsqueeze(-1))

    @property
    def size(self) -> int:
        return self.diagonal.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return self.apply_to_columns(h.unsqueeze(-1)).squeeze(-1)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return self.diagonal.unsqueeze(-1) * S + times(self.left, times(self.right.transpose(-1, -2), S))

    def compose(self, later: Transition) -> Transition:
        return product(self, later)

    def spectrum(self) -> Tensor:
        return torch.linalg.eigvals(at_least_single(self.dense()))

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(at_least_single(self.dense()), ord=2)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.diagonal) + self.left @ self.right.transpose(-1, -2)

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.diagonal, self.left, self.right


def product(first: Transition, later: Transition) -> Transition:
    """later · first, diagonal plus low rank as long as that is smaller than a matrix.

    (D₂ + L₂R₂ᵀ)(D₁ + L₁R₁ᵀ) = D₂D₁ + (D₂L₁ + L₂(R₂ᵀL₁)) R₁ᵀ + L₂ (D₁R₂)ᵀ
    """
    expect_same_size(first, later)
    one, two = first.low_rank(), later.low_rank()
    if one is None or two is None or one[1].shape[-1] + two[1].shape[-1] >= first.size:
        return Dense(first.dense()).compose(later)
    leading = torch.broadcast_shapes(*(x.shape[:axes] for parts in (one, two) for x, axes in zip(parts, (-1, -2, -2))))
    dtype = torch.promote_types(one[0].dtype, two[0].dtype)
    (d1, L1, R1), (d2, L2, R2) = (
        [x.to(dtype).expand(*leading, *x.shape[axes:]) for x, axes in zip(parts, (-1, -2, -2))] for parts in (one, two)
    )
    left = torch.cat([d2.unsqueeze(-1) * L1 + L2 @ (R2.transpose(-1, -2) @ L1), L2], dim=-1)
    right = torch.cat([R1, d1.unsqueeze(-1) * R2], dim=-1)
    return DiagonalPlusLowRank(d2 * d1, left, right)
