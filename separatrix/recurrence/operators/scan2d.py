"""`torch.ops.separatrix.scan2d`: the scan of `kernels/scan2d.py`, single and double."""

import torch
from torch import Tensor

from separatrix.recurrence.kernels import scan2d as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat, strides
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

# Channels of a unit; narrow ones where wide ones would be fewer than the threads.
BLOCK, NARROW = 512, 64


@Operator
def scan2d(a: Tensor, x: Tensor, state: Tensor, edge: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last line; no axis is empty.

    a [B or 1, T or 1, V or 1, 2, 2, D], x [B, T, V, 2 D], state [B, V, 2 D], edge [B, T, 2 D]
    """
    B, T, V, D = *x.shape[:3], x.shape[3] // 2
    h, final = blank(x), blank(state)
    block = _block(x)
    share(
        kernel.forward,
        B * blocks(D, block),
        _work(x),
        (T, V, D),
        block,
        *strides(a, 3),
        flat(a),
        flat(x),
        flags(reset, B, T),
        flat(state),
        flat(edge),
        flat(h),
        flat(final),
    )
    return h, final


@scan2d.register_fake
def _(a, x, state, edge, reset):
    return x.new_empty(x.shape), x.new_empty(state.shape)


@Operator
def scan2d_backward(
    grad_h: Tensor, grad_final: Tensor, a: Tensor, state: Tensor, edge: Tensor, reset: Tensor | None, h: Tensor, with_a: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (a, x, state, edge); that of a is empty when it is not needed."""
    B, T, V, D = *h.shape[:3], h.shape[3] // 2
    grad_x, grad_state, grad_edge = blank(h), blank(state), blank(edge)
    grad_a = blank(h, (B if with_a else 0, *a.shape[1:]))
    block = _block(h)
    share(
        kernel.backward,
        B * blocks(D, block),
        2 * _work(h),
        (T, V, D),
        block,
        *strides(a, 3),
        flat(a),
        flags(reset, B, T),
        flat(state) if with_a else None,
        flat(edge) if with_a else None,
        flat(h) if with_a else None,
        flat(grad_h),
        flat(grad_final),
        flat(grad_x),
        flat(grad_a) if with_a else None,
        *strides(a, 3)[1:],
        flat(grad_state),
        flat(grad_edge),
    )
    return grad_a if grad_a.shape[0] in (0, a.shape[0]) else grad_a.sum(0, keepdim=True), grad_x, grad_state, grad_edge


@scan2d_backward.register_fake
def _(grad_h, grad_final, a, state, edge, reset, h, with_a):
    grad_a = h.new_empty(a.shape if with_a else (0, *a.shape[1:]))
    return grad_a, h.new_empty(h.shape), h.new_empty(state.shape), h.new_empty(edge.shape)


@scan2d.register_gradient(keep=(0,))
def _(wanted, inputs, kept, grad_h, grad_final):
    a, _, state, edge, reset = inputs
    grad_a, grad_x, grad_state, grad_edge = scan2d_backward(grad_h, grad_final, a, state, edge, reset, *kept, wanted[0])
    return grad_a if wanted[0] else None, grad_x, grad_state, grad_edge, None


def _block(x: Tensor) -> int:
    return BLOCK if x.shape[0] * blocks(x.shape[3] // 2, BLOCK) >= torch.get_num_threads() else NARROW


def _work(x: Tensor) -> float:
    """The memory sets the pace, as in diagonal_scan; a cell reads three times as much."""
    return x.numel() * 60.0
