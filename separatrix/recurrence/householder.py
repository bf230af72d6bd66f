"""Householder transitions: what the delta rule does to its state.

    A = (I - β k kᵀ) diag(exp g)          k [N], 0 <= β <= 2 / |k|², g <= 0 one number or one per dimension        (1)

    A = (I - β_n k_n k_nᵀ) ... (I - β_1 k_1 k_1ᵀ) diag(exp g)          n reflections, the first acts first           (2)

β |k|² = 1 erases what the state holds along k, 2 reflects it; reflections are what lets a linear recurrence count.

Paper    Yang et al. 2024, arXiv:2406.06484; Grazzi et al. 2024, arXiv:2411.12537 (β up to 2);
         Siems et al. 2025, arXiv:2502.10297 (products).
Cost     O(N) to apply; eigenvalues and norm in closed form for one decay, from a symmetric matrix for one per dimension.
         (2) is I + L Rᵀ with n columns, O(N n) to apply once O(N n²) have found them; its spectrum is that of an n x n matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.diagonal_plus_low_rank import DiagonalPlusLowRank, product
from separatrix.recurrence.transition import Transition, at_least_single, times, to_complex


@dataclass(frozen=True)
class Householder(Transition):
    """(I - β k kᵀ) diag(exp g): the decay acts first.   k [..., N], beta [...], log_decay None, [...] or [..., N]

    Paper    Yang et al. 2024, arXiv:2406.06484; Grazzi et al. 2024, arXiv:2411.12537 (β up to 2).
    """

    runs_as = "low_rank_scan"

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
        return S - self.k.unsqueeze(-1) * (self.beta[..., None, None] * times(self.k.unsqueeze(-2), S))

    def compose(self, later: Transition) -> Transition:
        return product(self, later)

    def spectrum(self) -> Tensor:
        if self.log_decay is not None and self.log_decay.ndim == self.k.ndim:
            # E^(1/2) (I - β k kᵀ) E^(1/2) has the same eigenvalues as (1) and is symmetric
            root = (self.log_decay / 2).exp()
            k = self.k * root
            similar = torch.diag_embed(root * root) - self.beta[..., None, None] * k.unsqueeze(-1) * k.unsqueeze(-2)
            return to_complex(torch.linalg.eigvalsh(at_least_single(similar)))
        along = 1 - self.beta * (self.k * self.k).sum(-1)
        decay = self.decay()
        across = decay * along.unsqueeze(-1)
        return to_complex(torch.cat([decay.expand(*across.shape[:-1], self.size - 1), across], dim=-1))

    def norm(self) -> Tensor:
        if self.log_decay is not None and self.log_decay.ndim == self.k.ndim:
            return torch.linalg.matrix_norm(at_least_single(self.dense()), ord=2)
        along = (1 - self.beta * (self.k * self.k).sum(-1)).abs()
        return self.decay().squeeze(-1) * (along.clamp(min=1) if self.size > 1 else along)

    def dense(self) -> Tensor:
        return DiagonalPlusLowRank(*self.low_rank()).dense()

    def arguments(self) -> tuple[Tensor, ...]:
        return self.low_rank()

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        decay = self.decay() * torch.ones_like(self.k)
        return decay, (-self.beta.unsqueeze(-1) * self.k).unsqueeze(-1), (decay * self.k).unsqueeze(-1)


@dataclass(frozen=True)
class HouseholderProduct(Transition):
    """(I - β_n k_n k_nᵀ) ... (I - β_1 k_1 k_1ᵀ) diag(exp g): the decay acts first, then reflection 1 to n.

    k [..., n, N], beta [..., n], log_decay None, [...] or [..., N].

    Paper    Siems et al. 2025, arXiv:2502.10297.
    """

    runs_as = "low_rank_scan"

    k: Tensor
    beta: Tensor
    log_decay: Tensor | None = None

    @property
    def size(self) -> int:
        return self.k.shape[-1]

    def factors(self) -> list[Householder]:
        """In the order in which they act."""
        n = self.k.shape[-2]
        return [Householder(self.k[..., i, :], self.beta[..., i], self.log_decay if i == 0 else None) for i in range(n)]

    def apply(self, h: Tensor) -> Tensor:
        for factor in self.factors():
            h = factor.apply(h)
        return h

    def apply_to_columns(self, S: Tensor) -> Tensor:
        for factor in self.factors():
            S = factor.apply_to_columns(S)
        return S

    def compose(self, later: Transition) -> Transition:
        if isinstance(later, HouseholderProduct) and later.size == self.size and later.log_decay is None:
            leading = torch.broadcast_shapes(*(x for A in (self, later) for x in (A.k.shape[:-2], A.beta.shape[:-1])))
            k = torch.cat([A.k.expand(*leading, *A.k.shape[-2:]) for A in (self, later)], dim=-2)
            beta = torch.cat([A.beta.expand(*leading, A.beta.shape[-1]) for A in (self, later)], dim=-1)
            return HouseholderProduct(k, beta, self.log_decay)
        return product(self, later)

    def spectrum(self) -> Tensor:
        n, size = self.k.shape[-2:]
        if n >= size or self._decays_per_key():
            return torch.linalg.eigvals(at_least_single(self.dense()))
        left, right = map(at_least_single, self.reflections())
        inside = torch.linalg.eigvals(torch.eye(n, dtype=left.dtype, device=left.device) + right.mT @ left)
        decay = torch.ones_like(self.beta[..., :1]) if self.log_decay is None else self.log_decay.exp().unsqueeze(-1)
        return decay * torch.cat([inside.new_ones(*inside.shape[:-1], size - n), inside], dim=-1)

    def norm(self) -> Tensor:
        n, size = self.k.shape[-2:]
        if n >= size or self._decays_per_key():
            return torch.linalg.matrix_norm(at_least_single(self.dense()), ord=2)
        left, right = map(at_least_single, self.reflections())  # both span the keys: beside them nothing moves
        basis = torch.linalg.qr(at_least_single(self.k.mT)).Q
        inside = torch.eye(n, dtype=left.dtype, device=left.device) + (basis.mT @ left) @ (right.mT @ basis)
        stretch = torch.linalg.matrix_norm(inside, ord=2).clamp(min=1)
        return stretch if self.log_decay is None else stretch * self.log_decay.exp()

    def dense(self) -> Tensor:
        return DiagonalPlusLowRank(*self.low_rank()).dense()

    def arguments(self) -> tuple[Tensor, ...]:
        return self.low_rank()

    def low_rank(self) -> tuple[Tensor, Tensor, Tensor]:
        left, right = self.reflections()
        if self.log_decay is None:
            return torch.ones_like(self.k[..., 0, :]), left, right
        g = self.log_decay if self._decays_per_key() else self.log_decay.unsqueeze(-1)
        decay = g.exp() * torch.ones_like(self.k[..., 0, :])
        return decay, left, decay.unsqueeze(-1) * right

    def reflections(self) -> tuple[Tensor, Tensor]:
        """L, R [..., N, n] of the transition (I + L Rᵀ) diag(exp g): every key goes back through the reflections before it."""
        written = -(self.beta.unsqueeze(-1) * self.k)
        keys = self.k.expand(written.shape).unbind(-2)
        left, right = written.unbind(-2), list[Tensor]()
        for i, key in enumerate(keys):
            for earlier, seen in zip(left[:i], right):
                key = key + seen * (earlier * keys[i]).sum(-1, keepdim=True)
            right.append(key)
        return written.mT, torch.stack(right, dim=-2).mT

    def _decays_per_key(self) -> bool:
        return self.log_decay is not None and self.log_decay.ndim == self.k.ndim - 1
