"""`torch.ops.separatrix.rms_norm`: the norm of `kernels/rms_norm.py`, with its gate."""

import numpy as np
from torch import Tensor

from separatrix.recurrence.kernels import rms_norm as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

BLOCK = 32  # rows of a unit


def _shape(x: Tensor, weight: Tensor) -> tuple[int, int, int]:
    groups, size = weight.shape
    return x.numel() // max(weight.numel(), 1), groups, size


def _gate(z: Tensor | None) -> np.ndarray:
    return np.empty(0, np.float32) if z is None else flat(z)


@Operator
def rms_norm(x: Tensor, weight: Tensor, z: Tensor | None, eps: float) -> Tensor:
    """y.    x, z [..., groups * size], weight [groups, size]"""
    shape, y = _shape(x, weight), blank(x)
    work = (6.0 + 20.0 * (z is not None)) * x.numel()
    share(kernel.forward, blocks(shape[0], BLOCK), work, shape, BLOCK, flat(x), flat(weight), _gate(z), eps, flat(y))
    return y


@rms_norm.register_fake
def _(x, weight, z, eps):
    return x.new_empty(x.shape)


@Operator
def rms_norm_backward(grad: Tensor, x: Tensor, weight: Tensor, z: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (x, weight, z); that of an absent gate is empty."""
    shape = _shape(x, weight)
    units = blocks(shape[0], BLOCK)
    grad_x, grad_z, grad_weight = blank(x), x.new_empty(0) if z is None else blank(x), weight.new_zeros(units, *weight.shape)
    share(
        kernel.backward,
        units,
        (15.0 + 30.0 * (z is not None)) * x.numel(),
        shape,
        BLOCK,
        flat(x),
        flat(weight),
        _gate(z),
        eps,
        flat(grad),
        flat(grad_x),
        flat(grad_z),
        flat(grad_weight),
    )
    return grad_x, grad_weight.sum(0), grad_z


@rms_norm_backward.register_fake
def _(grad, x, weight, z, eps):
    return x.new_empty(x.shape), weight.new_empty(weight.shape), x.new_empty(0 if z is None else x.shape)


@rms_norm.register_gradient()
def _(wanted, inputs, kept, grad):
    grad_x, grad_weight, grad_z = rms_norm_backward(grad, *inputs)
    return grad_x, grad_weight, None if inputs[2] is None else grad_z, None
