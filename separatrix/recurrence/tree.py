"""All states of a linear recurrence at once, as a tree of pairs, in whatever "times" and "plus" its states live in.

    h_t = A_t h_{t-1} + x_t          (A, x) then (A', x')  is one step  (A' A, A' x + x')                          (1)

Two neighbours are one step by (1), which leaves a problem half as long for every second state; the others are one step from those. At
a reset the old state is replaced by the semiring's zero before anything is multiplied, so that a NaN there touches neither states nor
gradients.

Paper    Blelloch 1990, "Prefix sums and their applications"; Martin and Cundy 2018, arXiv:1709.04057.
Cost     O(T) applications and products, log2(T) of them one after another; where all steps share A, one product a level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.resets import filled

BinaryOperation = Callable[[Tensor, Tensor], Tensor]


class Semiring(NamedTuple):
    """What (1) means."""

    apply: BinaryOperation  # A h
    product: BinaryOperation  # A' A
    plus: BinaryOperation
    zero: float

    def cleared(self, x: Tensor, where: Tensor | None) -> Tensor:
        """where [B, T] bool"""
        return filled(x, where, self.zero)


NUMBERS = Semiring(torch.mul, torch.mul, torch.add, 0.0)


def tree(semiring: Semiring, A: Tensor, x: Tensor, h: Tensor, reset: Tensor | None) -> Tensor:
    """All states after h.   A [B, T, ...] or 1 for axes that share it, x [B, T > 0, ...], h [B, ...], reset [B, T] -> [B, T, ...]"""
    return _tree(semiring, A, x, h.unsqueeze(1), reset)


def _tree(semiring: Semiring, A: Tensor, x: Tensor, h: Tensor, reset: Tensor | None) -> Tensor:
    time, before = x.shape[1], h
    pairs = time // 2
    first, second = (A, A) if A.shape[1] == 1 else (A[:, 0::2], A[:, 1::2])
    early, late = (None, None) if reset is None else (reset[:, 0::2], reset[:, 1::2])
    if pairs:
        either = None if early is None or late is None else early[:, :pairs] | late
        through = semiring.product(second, semiring.cleared(first[:, :pairs], either))
        passed = semiring.apply(second, semiring.cleared(x[:, : 2 * pairs : 2], late))
        odd = _tree(semiring, through, semiring.plus(passed, x[:, 1::2]), h, either)
        before = torch.cat([h, odd[:, : (time - 1) // 2]], dim=1)
    even = semiring.plus(semiring.apply(first, semiring.cleared(before, early)), x[:, 0::2])
    if not pairs:
        return even
    woven = torch.stack([even[:, :pairs], odd], dim=2).flatten(1, 2)
    return woven if time % 2 == 0 else torch.cat([woven, even[:, -1:]], dim=1)
