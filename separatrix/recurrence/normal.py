"""Normal minus low rank: transitions with an orthonormal basis in which all but a few directions are known.

    A = V (diag(λ) - P Q*) V*          V unitary [N, N], λ [N], P, Q [N, r]; Q* the conjugate transpose            (1)

Every HiPPO matrix is of this kind with Q = P, and so is a normal matrix that r directions perturb. In the basis V it is diagonal plus low
rank, so a scan changes basis once each way and runs there in O(N r) a step; V, being unitary, loses no digit and leaves norms alone.

Paper    Gu et al. 2021 (S4), arXiv:2111.00396 (normal plus low rank).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.dense import Dense, dense_scan
from separatrix.recurrence.diagonal_plus_low_rank import DiagonalPlusLowRank
from separatrix.recurrence.hippo import NormalPlusLowRank
from separatrix.recurrence.low_rank import low_rank_scan
from separatrix.recurrence.transition import Transition, expect_same_size, scan, start, to_complex


@dataclass(frozen=True)
class NormalMinusLowRank(Transition):
    """V (diag(eigenvalues) - left right*) V*.   basis V [..., N, N] unitary, eigenvalues [..., N], left, right [..., N, r], complex

    The eigenvalues are those of the normal part alone; `spectrum` has those of the whole.

    Paper    Gu et al. 2021 (S4), arXiv:2111.00396.
    """

    runs_as = "low_rank_scan"

    basis: Tensor
    eigenvalues: Tensor
    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, system: NormalPlusLowRank) -> NormalMinusLowRank:
        """HiPPO's A from `hippo.nplr`, each pair completed by its conjugate."""
        basis = torch.cat([system.V, system.V.conj()], dim=-1)
        P = torch.cat([system.P, system.P.conj()], dim=-2)
        return cls(basis, torch.cat([system.W, system.W.conj()], dim=-1), P, P)

    @property
    def size(self) -> int:
        return self.eigenvalues.shape[-1]

    def inside(self) -> DiagonalPlusLowRank:
        """What it is in its basis."""
        return DiagonalPlusLowRank(self.eigenvalues, -self.left, self.right.conj())

    def into(self, h: Tensor) -> Tensor:
        """V* h, the state in the basis."""
        return torch.einsum("...ji,...j->...i", self.basis.conj(), h.to(self.basis.dtype))

    def out_of(self, h: Tensor) -> Tensor:
        return torch.einsum("...ij,...j->...i", self.basis, h)

    def apply(self, h: Tensor) -> Tensor:
        return self.out_of(self.inside().apply(self.into(h)))

    def apply_to_columns(self, S: Tensor) -> Tensor:
        return self.basis @ self.inside().apply_to_columns(self.basis.mH @ S.to(self.basis.dtype))

    def compose(self, later: Transition) -> Transition:
        expect_same_size(self, later)
        return Dense(self.dense()).compose(later)

    def spectrum(self) -> Tensor:
        return to_complex(self.inside().spectrum())

    def norm(self) -> Tensor:
        return self.inside().norm()

    def arguments(self) -> tuple[Tensor, ...]:
        return self.inside().arguments()

    def dense(self) -> Tensor:
        return self.basis @ self.inside().dense() @ self.basis.mH


@scan.register
def _(A: NormalMinusLowRank, drive: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    h = start(A, drive, initial_state)
    if A.basis.shape[1] > 1:  # nothing to gain from a basis that changes
        return dense_scan(A.dense(), drive, h, reset)
    first = A.at(0).into(h) if drive.shape[1] else h
    diagonal, left, right = A.arguments()
    states, final = low_rank_scan(diagonal, left, right, A.into(drive), first, reset)
    last = A.at(-1).out_of(final) if drive.shape[1] else h.to(states.dtype)
    return A.out_of(states), last
