"""Householder transitions: what the delta rule does to its state.

    A = (I - β k kᵀ) diag(exp g)          k [N], 0 <= β <= 2 / |k|², g <= 0 one number or one per dimension        (1)

β |k|² = 1 erases what the state holds along k, 2 reflects it; reflections are what lets a linear recurrence count.

Paper    Yang et al. 2024, arXiv:2406.06484; Grazzi et al. 2024, arXiv:2411.12537 (β up to 2).
Cost     O(N) to apply; eigenvalues and norm in closed form for one decay, from a symmetric matrix for one per dimension.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.dplr import DiagonalPlusLowRank, product
from separatrix.recurrence.transition import Transition, to_complex


@dataclass(frozen=True)
class Householder(Transition):
    """(I - β k kᵀ) diag(exp g): the decay acts first.   k [..., N], beta [...], log_decay None, [...] or [..., N]"""

    k: Tensor
    beta: Tensor
    log_decay: Tensor | None = None

    @property
    def size(self) -> int:
        return self.k.shape[-1]

    def decay(self) -> Tensor:
        """exp(g), [..., 1] or [..., N]."""
        if self.log_decay is None:
            return torch.ones_like(self.beta).unsqueeze(-1)
        return (self.log_decay if self.log_decay.ndim == self.k.ndim else self.log_decay.unsqueeze(-1)).exp()

    def apply(self, h: Tensor) -> Tensor:
        h = self.decay() * h
        return h - self.k * (self.beta * (self.k * h).sum(-1)).unsqueeze(-1)

    def apply_to_columns(self, S: Tensor) -> Tensor:
        S = self.decay().unsqueeze(-1) * S
        return S - self.k.unsqueeze(-1) * (self.beta[..., None, None] * (self.k.unsqueeze(-2) @ S))

    def compose(self, later: Transition) -> Transition:
        return product(self, later)

    def spectrum(self) -> Tensor:
        if self.log_decay is not None and self.log_decay.ndim == self.k.ndim:
            # E^(1/2) (I - β k kᵀ) E^(1/2) has the same eigenvalues as (1) and is symmetric
            root = (self.log_decay / 2).exp()
            k = self.k * root
            return to_complex(
                torch.linalg.eigvalsh(torch.diag_embed(root * root) - self.beta[..., None, None] * k.unsqueeze(-1) * k.unsqueeze(-2))
            )
        along = 1 - self.beta * (self.k * self.k).sum(-1)
        decay = self.decay()
        return to_complex(torch.cat([decay.expand(*self.k.shape[:-1], self.size - 1), decay * along.unsqueeze(-1)], dim=-1))

    def norm(self) -> Tensor:
        if self.log_decay is not None and self.log_decay.ndim == self.k.ndim:
            return torch.linalg.matrix_norm(self.dense(), ord=2)
        along = (1 - self.beta * (self.k * self.k).sum(-1)).abs()
        return self.decay().squeeze(-1) * (along.clamp(min=1) if self.size > 1 else along)

    def dense(self) -> Tensor:
        return DiagonalPlusLowRank(*self.low_rank()).dense()

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        decay = self.decay().expand(self.k.shape)
        return decay, (-self.beta.unsqueeze(-1) * self.k).unsqueeze(-1), (decay * self.k).unsqueeze(-1)
