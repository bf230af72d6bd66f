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
from separatrix.recurrence.transition import Transition


@dataclass(frozen=True)
class DiagonalPlusLowRank(Transition):
    """diag(diagonal) + left rightᵀ.   diagonal [..., N], left, right [..., N, R]"""

    diagonal: Tensor
    left: Tensor
    right: Tensor

    @property
    def size(self) -> int:
        return self.diagonal.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return self.apply_to_columns(h.unsqueeze(-1)).squeeze(-1)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return self.diagonal.unsqueeze(-1) * S + self.left @ (self.right.transpose(-1, -2) @ S)

    def compose(self, later: Transition) -> Transition:
        return Dense(self.dense()).compose(later)

    def spectrum(self) -> Tensor:
        return torch.linalg.eigvals(self.dense())

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(self.dense(), ord=2)

    def dense(self) -> Tensor:
        return torch.diag_embed(self.diagonal) + self.left @ self.right.transpose(-1, -2)
