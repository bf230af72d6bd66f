"""A reset: before these steps the state is put back to rest, because another sequence begins there.

    reset    [B, T] bool, or None where nothing begins

What a step must not see is written over, never multiplied by zero: 0 times a NaN is a NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cleared(S: Tensor, reset: Tensor | None, t: int, rest: float = 0) -> Tensor:
    """The state before step t, at rest where it is reset.   S [B, ...]"""
    return S if reset is None else S.masked_fill(reset[:, t].reshape(-1, *[1] * (S.ndim - 1)), rest)


def filled(x: Tensor, reset: Tensor | None, value: float) -> Tensor:
    """x, and `value` at every step that is reset.   x [B, T, ...]"""
    return x if reset is None else x.masked_fill(beside(reset, x), value)


def beside(reset: Tensor, x: Tensor) -> Tensor:
    """reset with as many axes as x, which begins with the same."""
    return reset.reshape(*reset.shape, *[1] * (x.ndim - reset.ndim))


def sequences(reset: Tensor, before: int) -> Tensor:
    """Which sequence every step is of, counted from 0; the state holds `before` steps of the first.   [B, T] -> [B, before + T]"""
    return torch.cat([reset.new_zeros(reset.shape[0], before, dtype=torch.long), reset.cumsum(1)], dim=1)


def parted(reset: Tensor) -> Tensor:
    """Whether a reset lies between step t and the initial state (column 0) or input s (column s + 1).   [B, T] -> [B, T, T + 1]"""
    sequence = sequences(reset, 1)
    return sequence[:, 1:].unsqueeze(2) != sequence.unsqueeze(1)
