"""Piecewise-linear recurrent networks: models of dynamical systems that can be read.

    z' = A z + W φ(z) + h + x                   A [M] a diagonal, W [M, M], h [M]                                 (1)

    PLRNN           φ(z) = relu(z); the first `linear` units pass unchanged (almost linear: AL-RNN)
    DendriticPLRNN  φ(z) = sum_b α_b relu(z + θ_b); clipped, minus sum_b α_b relu(z)
    ShallowPLRNN    W_1 relu(W_2 z + h_2) in place of W φ(z); clipped, W_1 (relu(W_2 z + h_2) - relu(W_2 z))

Clipped, the map is bounded where A contracts. Inside a region of the state space where no unit changes its sign (1) is affine, so its
Jacobian, fixed points and cycles are those of a matrix: diag(A) + W diag(φ'(z)).

Paper    Durstewitz 2017, doi:10.1371/journal.pcbi.1005542 (PLRNN); Brenner et al. 2022, arXiv:2207.02542 (dendritic);
         Hess et al. 2023, arXiv:2306.04406 (shallow, clipped); Brenner et al. 2024, arXiv:2410.14240 (almost linear).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separatrix.recurrence.cell import Cell, Operands
from separatrix.recurrence.dense import Dense
from separatrix.recurrence.transition import Transition


def on(x: Tensor, like: Tensor) -> Tensor:
    """The derivative of relu, 0 at 0 as torch has it."""
    return (x > 0).to(like.dtype)


@dataclass(frozen=True)
class PLRNN(Cell):
    """z' = A z + W relu(z) + h + x.   A, h [M], W [M, M]; the first `linear` units are not rectified

    Paper    Durstewitz 2017, doi:10.1371/journal.pcbi.1005542; Brenner et al. 2024, arXiv:2410.14240 (almost linear).
    """

    A: Tensor
    W: Tensor
    h: Tensor
    linear: int = 0

    @property
    def size(self) -> int:
        return self.A.shape[0]

    @property
    def width(self) -> int:
        return self.A.shape[0]

    def operands(self) -> Operands:
        return Operands("plrnn", self.W, vectors=(self.A, self.h), linear=self.linear)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        active = torch.cat([z[..., : self.linear], z[..., self.linear :].relu()], dim=-1)
        return self.A * z + active @ self.W.T + self.h + x

    def linearize(self, z: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        slope = torch.cat([torch.ones_like(z[..., : self.linear]), on(z[..., self.linear :], z)], dim=-1)
        return self.step(z, x), Dense(torch.diag(self.A) + self.W * slope.unsqueeze(-2))


@dataclass(frozen=True)
class DendriticPLRNN(Cell):
    """z' = A z + W φ(z) + h + x,  φ(z) = sum_b α_b relu(z + θ_b); clipped, minus sum_b α_b relu(z).

    A, h [M], W [M, M], alpha [bases], theta [M, bases].

    Paper    Brenner et al. 2022, arXiv:2207.02542; Hess et al. 2023, arXiv:2306.04406 (clipped).
    """

    A: Tensor
    W: Tensor
    h: Tensor
    alpha: Tensor
    theta: Tensor
    clipped: bool = False

    @property
    def size(self) -> int:
        return self.A.shape[0]

    @property
    def width(self) -> int:
        return self.A.shape[0]

    def operands(self) -> Operands:
        return Operands("plrnn", self.W, None, (self.A, self.h), self.alpha, self.theta.T, clipped=self.clipped)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        bases = (z.unsqueeze(-1) + self.theta).relu()
        if self.clipped:
            bases = bases - z.unsqueeze(-1).relu()
        return self.A * z + (bases @ self.alpha) @ self.W.T + self.h + x

    def linearize(self, z: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        slopes = on(z.unsqueeze(-1) + self.theta, z)
        if self.clipped:
            slopes = slopes - on(z.unsqueeze(-1), z)
        return self.step(z, x), Dense(torch.diag(self.A) + self.W * (slopes @ self.alpha).unsqueeze(-2))


@dataclass(frozen=True)
class ShallowPLRNN(Cell):
    """z' = A z + W_1 relu(W_2 z + h_2) + h_1 + x; clipped, W_1 (relu(W_2 z + h_2) - relu(W_2 z)).

    A, h1 [M], W1 [M, L], W2 [L, M], h2 [L].

    Paper    Hess et al. 2023, arXiv:2306.04406.
    """

    A: Tensor
    W1: Tensor
    h1: Tensor
    W2: Tensor
    h2: Tensor
    clipped: bool = False

    @property
    def size(self) -> int:
        return self.A.shape[0]

    @property
    def width(self) -> int:
        return self.A.shape[0]

    def operands(self) -> Operands:
        return Operands("plrnn", self.W1, self.W2, (self.A, self.h1), shifts=self.h2.unsqueeze(0), clipped=self.clipped)

    def step(self, z: Tensor, x: Tensor) -> Tensor:
        hidden = z @ self.W2.T
        active = (hidden + self.h2).relu()
        if self.clipped:
            active = active - hidden.relu()
        return self.A * z + active @ self.W1.T + self.h1 + x

    def linearize(self, z: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        hidden = z @ self.W2.T
        slope = on(hidden + self.h2, z)
        if self.clipped:
            slope = slope - on(hidden, z)
        return self.step(z, x), Dense(torch.diag(self.A) + (self.W1 * slope.unsqueeze(-2)) @ self.W2)
