"""`torch.ops.separatrix.log_scan`: the diagonal scan on logarithms of `kernels/log_scan.py`."""

import math

from torch import Tensor

from separatrix.recurrence.kernels.log_scan import backward, forward
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat, row_block
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def log_scan(log_a: Tensor, log_x: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one, as logs.   log_a, log_x [B, T, ...], state [B, ...]; T is at least 1."""
    B, T, D = *log_x.shape[:2], math.prod(log_x.shape[2:])
    h, final, block = blank(log_x), blank(state), row_block(B, D)
    share(
        forward,
        B * blocks(D, block),
        40.0 * log_x.numel(),
        (T, D),
        block,
        flat(log_a),
        flat(log_x),
        flags(reset, B, T),
        *(flat(x) for x in (state, h, final)),
    )
    return h, final


@log_scan.register_fake
def _(log_a, log_x, state, reset):
    return log_x.new_empty(log_x.shape), state.new_empty(state.shape)


@Operator
def log_scan_backward(
    grad_h: Tensor, grad_final: Tensor, log_a: Tensor, log_x: Tensor, state: Tensor, reset: Tensor | None, h: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (log_a, log_x, state)."""
    B, T, D = *log_x.shape[:2], math.prod(log_x.shape[2:])
    grads, block = (blank(log_x), blank(log_x), blank(state)), row_block(B, D)
    share(
        backward,
        B * blocks(D, block),
        60.0 * log_x.numel(),
        (T, D),
        block,
        flat(log_a),
        flat(log_x),
        flags(reset, B, T),
        *(flat(x) for x in (state, h, grad_h, grad_final, *grads)),
    )
    return grads


@log_scan_backward.register_fake
def _(grad_h, grad_final, log_a, log_x, state, reset, h):
    return tuple(x.new_empty(x.shape) for x in (log_a, log_x, state))


@log_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    return *log_scan_backward(*grads, *inputs, *kept), None
