"""`torch.ops.separatrix.minmax_scan`: the scan of `kernels/minmax.py`, single and double precision."""

import math

from torch import Tensor

from separatrix.recurrence.kernels import minmax
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat, row_block
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def minmax_scan(a: Tensor, b: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   a, b [B, T, ...], state [B, ...], all of one dtype."""
    B, T, D = *b.shape[:2], math.prod(b.shape[2:])
    block = row_block(B, D)
    h, final = blank(b), blank(state)
    share(
        minmax.forward,
        B * blocks(D, block),
        20.0 * b.numel(),
        (T, D),
        block,
        flat(a),
        flat(b),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(final),
    )
    return h, final


@minmax_scan.register_fake
def _(a, b, state, reset):
    return b.new_empty(b.shape), b.new_empty(state.shape)


@Operator
def minmax_scan_backward(
    grad_h: Tensor, grad_final: Tensor, a: Tensor, b: Tensor, state: Tensor, reset: Tensor | None, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (a, b, state)."""
    B, T, D = *b.shape[:2], math.prod(b.shape[2:])
    block = row_block(B, D)
    grad_a, grad_b, grad_state = blank(b), blank(b), blank(state)
    share(
        minmax.backward,
        B * blocks(D, block),
        40.0 * b.numel(),
        (T, D),
        block,
        flat(a),
        flat(b),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(grad_h),
        flat(grad_final),
        flat(grad_a),
        flat(grad_b),
        flat(grad_state),
    )
    return grad_a, grad_b, grad_state


@minmax_scan_backward.register_fake
def _(grad_h, grad_final, a, b, state, reset, h):
    return b.new_empty(b.shape), b.new_empty(b.shape), b.new_empty(state.shape)


@minmax_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    return *minmax_scan_backward(*grads, *inputs, *kept), None
