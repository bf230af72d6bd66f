"""`torch.ops.separatrix.block_scan`: the scan of `kernels/blocks.py`, single and double."""

from torch import Tensor

from separatrix.recurrence.kernels import blocks as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat, row_block, strides
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def block_scan(A: Tensor, x: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   A [B or 1, T or 1, k, k, n], x [B, T, k, n], state [B, k, n], all of one dtype."""
    B, T, k, n = x.shape
    h, final, block = blank(x), blank(x, state.shape), row_block(B, n)
    share(
        kernel.forward,
        B * blocks(n, block),
        20.0 * k * x.numel(),
        (T, k, n),
        block,
        *strides(A),
        flat(A),
        flat(x),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(final),
    )
    return h, final


@block_scan.register_fake
def _(A, x, state, reset):
    return x.new_empty(x.shape), x.new_empty(state.shape)


@Operator
def block_scan_backward(
    grad_h: Tensor, grad_final: Tensor, A: Tensor, state: Tensor, reset: Tensor | None, h: Tensor, with_A: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (A, x, state); that of A is empty when it is not needed."""
    B, T, k, n = h.shape
    block = row_block(B, n)
    grad_x, grad_state, grad_A = blank(h), blank(h, state.shape), blank(h, (B if with_A else 0, T, k, k, n))
    share(
        kernel.backward,
        B * blocks(n, block),
        40.0 * k * h.numel(),
        (T, k, n),
        block,
        *strides(A),
        flat(A),
        flags(reset, B, T),
        flat(state),
        flat(h) if with_A else None,
        flat(grad_h),
        flat(grad_final),
        flat(grad_x),
        flat(grad_A) if with_A else None,
        flat(grad_state),
    )
    shared = tuple(axis for axis in (0, 1) if with_A and A.shape[axis] == 1)
    return grad_A.sum(shared, keepdim=True) if shared else grad_A, grad_x, grad_state


@block_scan_backward.register_fake
def _(grad_h, grad_final, A, state, reset, h, with_A):
    return h.new_empty(A.shape if with_A else (0, h.shape[1], *A.shape[2:])), h.new_empty(h.shape), h.new_empty(state.shape)


@block_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, grad_h, grad_final):
    A, _, state, reset = inputs
    grad_A, grad_x, grad_state = block_scan_backward(grad_h, grad_final, A, state, reset, *kept, wanted[0])
    return grad_A if wanted[0] else None, grad_x, grad_state, None
