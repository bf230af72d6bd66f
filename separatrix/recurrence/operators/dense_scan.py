"""`torch.ops.separatrix.dense_scan`: the scan of `kernels/dense.py`, single and double precision."""

import math

from torch import Tensor

from separatrix.recurrence.kernels import dense
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flags, flat, strides
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def dense_scan(A: Tensor, b: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   A [B or 1, T or 1, ..., N, N], b [B, T, ..., N], state [B, ..., N], all of one dtype."""
    B, T, H, N = _sizes(b)
    h, final, (matrices, turned) = blank(b), blank(state), _as_it_lies(A)
    share(
        dense.forward,
        B * H,
        _work(A, b),
        (T, H, N),
        *strides(A),
        turned,
        flat(matrices),
        flat(b),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(final),
    )
    return h, final


@dense_scan.register_fake
def _(A, b, state, reset):
    return b.new_empty(b.shape), b.new_empty(state.shape)


@Operator
def dense_scan_backward(
    grad_h: Tensor, grad_final: Tensor, A: Tensor, state: Tensor, reset: Tensor | None, h: Tensor, with_A: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (A, b, state); that of A is empty when it is not needed."""
    B, T, H, N = _sizes(h)
    (a_batch, a_time), (matrices, turned) = strides(A), _as_it_lies(A)
    group = B if a_time and not a_batch else 1
    grad_A = blank(h, (-(-B // max(group, 1)) if with_A else 0, *A.shape[1:]))
    grad_b, grad_state = blank(h), blank(state)
    share(
        dense.backward,
        -(-B // max(group, 1)) * H,
        2 * _work(A, h),
        (B, T, H, N),
        group,
        a_batch,
        a_time,
        turned,
        flat(matrices),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(grad_h),
        flat(grad_final),
        flat(grad_b),
        flat(grad_A) if with_A else None,
        flat(grad_state),
    )
    if grad_A.shape[0] not in (0, A.shape[0]):
        grad_A = grad_A.sum(0, keepdim=True)
    return grad_A.mT if turned else grad_A, grad_b, grad_state


@dense_scan_backward.register_fake
def _(grad_h, grad_final, A, state, reset, h, with_A):
    grad_A = h.new_empty(A.shape[0] if with_A else 0, *A.shape[1:])
    return grad_A.mT if _as_it_lies(A)[1] else grad_A, h.new_empty(h.shape), h.new_empty(state.shape)


@dense_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, grad_h, grad_final):
    A, _, state, reset = inputs
    grad_A, grad_b, grad_state = dense_scan_backward(grad_h, grad_final, A, state, reset, *kept, wanted[0])
    return grad_A if wanted[0] else None, grad_b, grad_state, None


def _sizes(b: Tensor) -> tuple[int, int, int, int]:
    """Batch, time, all axes between them and the state as one, state."""
    return b.shape[0], b.shape[1], math.prod(b.shape[2:-1]), b.shape[-1]


def _as_it_lies(A: Tensor) -> tuple[Tensor, bool]:
    """A, or its transpose where that is what lies in memory; and whether."""
    turned = A.mT.is_contiguous() and not A.is_contiguous()
    return (A.mT if turned else A), turned


def _work(A: Tensor, b: Tensor) -> float:
    """Reading a matrix costs more than its multiply-adds unless all steps share it."""
    return b.numel() * A.shape[-1] * (4.0 if A.shape[1] > 1 else 2.0)
