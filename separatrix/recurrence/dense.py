"""A transition without structure: the matrix itself.

    h_t = A_t h_{t-1} + x_t          A [..., N, N]                                                               (1)

Every structure is one of these, and an instrument that knows nothing better makes it one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.transition import Transition, expect_same_size


@dataclass(frozen=True)
class Dense(Transition):
    """A.   A [..., N, N], real or complex"""

    A: Tensor

    @property
    def size(self) -> int:
        return self.A.shape[-1]

    def apply(self, h: Tensor) -> Tensor:
        return (self.A @ h.unsqueeze(-1)).squeeze(-1)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return self.A @ S

    def compose(self, later: Transition) -> Transition:
        expect_same_size(self, later)
        after = later.dense()
        dtype = torch.promote_types(after.dtype, self.A.dtype)
        return Dense(after.to(dtype) @ self.A.to(dtype))

    def spectrum(self) -> Tensor:
        return torch.linalg.eigvals(self.A)

    def norm(self) -> Tensor:
        return torch.linalg.matrix_norm(self.A, ord=2)

    def dense(self) -> Tensor:
        return self.A
