"""Tensors as the kernels read them."""

from __future__ import annotations

from math import prod
from typing import overload

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.kernels.lanes import WIDTH


@overload
def flat(x: Tensor) -> np.ndarray: ...
@overload
def flat(x: None) -> None: ...
def flat(x):
    """The numbers of a tensor as one row, shared with numpy; a complex number is two of them."""
    if x is None:
        return None
    if x.requires_grad:
        x = x.detach()
    if not x.is_contiguous():
        x = x.contiguous()
    return (torch.view_as_real(x.resolve_conj()) if x.is_complex() else x).numpy().ravel()


def flags(reset: Tensor | None, batch: int, time: int) -> np.ndarray:
    """[batch * time] uint8"""
    return np.zeros(batch * time, np.uint8) if reset is None else flat(reset.to(torch.uint8))


def strides(x: Tensor, axes: int = 2) -> tuple[int, ...]:
    """How far x, as `flat` gives it, moves along each of its first axes (batch, time, ...), in numbers; 0 where it is shared, of size 1."""
    return tuple(prod(x.shape[axis + 1 :]) if x.shape[axis] > 1 else 0 for axis in range(axes))


def blocks(size: int, lanes: int = WIDTH) -> int:
    return -(-size // lanes)


def checkpoint_shape(keep: bool, x: Tensor, chunk: int, *state: int) -> tuple[int, ...]:
    """Of the states before every chunk-th step of x [B, T, ..., D] and after the last, if they are to be kept: [B, chunks + 1, *state, D].

    No backward reads the last: torch.compile takes a size of one for a constant, and would compile again for lengths of several chunks.
    """
    return (x.shape[0], blocks(x.shape[1], chunk) + 1, *state, x.shape[-1]) if keep else (0,)


# Channels of a unit that walks rows: wide ones read memory in order, narrower ones are made when there would be too few for the threads.
WIDE, NARROW = 512, 128


def row_block(batch: int, channels: int) -> int:
    own = blocks(batch * channels, torch.get_num_threads())
    return min(WIDE, NARROW * max(1, blocks(own, NARROW)))


def per_group(grad: Tensor, groups: int) -> Tensor:
    """Heads that share a query or key add up their gradients."""
    return grad if grad.shape[2] == groups else grad.unflatten(2, (groups, -1)).sum(3)
