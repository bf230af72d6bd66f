"""`torch.ops.separatrix.diagonal_scan`: the scan of `kernels/diagonal.py`, real and complex, single and double."""

import math

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.kernels import diagonal
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat, row_block, strides
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def diagonal_scan(a: Tensor, x: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   a [B or 1, T or 1, ...], x [B, T, ...], state [B, ...], all of one dtype."""
    B, T, D = _sizes(x)
    h, final = blank(x), blank(state)
    block = row_block(B, D)
    share(
        diagonal.forward,
        B * blocks(D, block),
        _work(x),
        (T, D),
        block,
        *strides(a),
        _numbers(a),
        _numbers(x),
        flags(reset, B, T),
        _numbers(state),
        _numbers(h),
        _numbers(final),
    )
    return h, final


@diagonal_scan.register_fake
def _(a, x, state, reset):
    return x.new_empty(x.shape), x.new_empty(state.shape)


@Operator
def diagonal_scan_backward(
    grad_h: Tensor, grad_final: Tensor, a: Tensor, state: Tensor, reset: Tensor | None, h: Tensor, with_a: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (a, x, state); that of a is empty when it is not needed."""
    B, T, D = _sizes(h)
    grad_x, grad_state, grad_a = blank(h), blank(state), blank(h, (B if with_a else 0, *a.shape[1:]))
    block = row_block(B, D)
    share(
        diagonal.backward,
        B * blocks(D, block),
        2 * _work(h),
        (T, D),
        block,
        *strides(a),
        _numbers(a),
        flags(reset, B, T),
        _numbers(state),
        _numbers(h) if with_a else None,
        _numbers(grad_h),
        _numbers(grad_final),
        _numbers(grad_x),
        _numbers(grad_a) if with_a else None,
        _numbers(grad_state),
    )
    return grad_a if grad_a.shape[0] in (0, a.shape[0]) else grad_a.sum(0, keepdim=True), grad_x, grad_state


@diagonal_scan_backward.register_fake
def _(grad_h, grad_final, a, state, reset, h, with_a):
    return h.new_empty(a.shape if with_a else (0, *a.shape[1:])), h.new_empty(h.shape), h.new_empty(state.shape)


@diagonal_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, grad_h, grad_final):
    a, _, state, reset = inputs
    grad_a, grad_x, grad_state = diagonal_scan_backward(grad_h, grad_final, a, state, reset, *kept, wanted[0])
    return grad_a if wanted[0] else None, grad_x, grad_state, None


def _numbers(x: Tensor) -> np.ndarray:
    """As `flat`, but a complex number is one."""
    return flat(x).view(np.complex64 if x.dtype is torch.complex64 else np.complex128) if x.is_complex() else flat(x)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    """Batch, time, and all other axes as one."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _work(x: Tensor) -> float:
    """The memory sets the pace: a number costs some ten floating point operations' time."""
    return x.numel() * (40.0 if x.is_complex() else 20.0)
