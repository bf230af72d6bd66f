"""`torch.ops.separatrix.longhorn`: the two updates of `kernels/longhorn.py`."""

from torch import Tensor

from separatrix.recurrence.kernels import longhorn as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, checkpoint_shape, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def longhorn(
    q: Tensor, k: Tensor, x: Tensor, step: Tensor, diagonal: bool, state: Tensor, reset: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """o, the final state, and, to keep for the backward, the state before every CHUNK-th step.   state [B,N,D]"""
    (B, T, D), N = x.shape, q.shape[2]
    o, final = blank(x), blank(state)
    checkpoints = blank(x, checkpoint_shape(keep, x, kernel.CHUNK, N))
    share(
        kernel.forward,
        B * blocks(D, kernel.LANES),
        6.0 * B * T * D * N,
        (T, D, N),
        diagonal,
        flat(q),
        flat(k),
        flat(x),
        flat(step),
        flags(reset, B, T),
        flat(state),
        flat(o),
        flat(final),
        flat(checkpoints) if keep else None,
    )
    return o, final, checkpoints


@longhorn.register_fake
def _(q, k, x, step, diagonal, state, reset, keep):
    return x.new_empty(x.shape), state.new_empty(state.shape), x.new_empty(checkpoint_shape(keep, x, kernel.CHUNK, q.shape[2]))


@Operator
def longhorn_backward(
    grad_o: Tensor,
    grad_final: Tensor,
    q: Tensor,
    k: Tensor,
    x: Tensor,
    step: Tensor,
    diagonal: bool,
    state: Tensor,
    reset: Tensor | None,
    checkpoints: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, x, step, state)."""
    (B, T, D), N = x.shape, q.shape[2]
    group = kernel.group_width(B, D)
    groups = blocks(D, group)
    grad_q, grad_k = blank(q, (groups, *q.shape)), blank(q, (groups, *q.shape))
    grad_x, grad_step, grad_state = blank(x), blank(x), blank(state)
    share(
        kernel.backward,
        B * groups,
        30.0 * B * T * D * N,
        (B, T, D, N),
        group,
        diagonal,
        flat(q),
        flat(k),
        flat(x),
        flat(step),
        flags(reset, B, T),
        flat(checkpoints),
        flat(grad_o),
        flat(grad_final),
        flat(grad_q),
        flat(grad_k),
        flat(grad_x),
        flat(grad_step),
        flat(grad_state),
    )
    return grad_q.sum(0), grad_k.sum(0), grad_x, grad_step, grad_state


@longhorn_backward.register_fake
def _(grad_o, grad_final, q, k, x, step, diagonal, state, reset, checkpoints):
    return tuple(y.new_empty(y.shape) for y in (q, k, x, step, state))


@longhorn.register_gradient(keep=(2,))
def _(wanted, inputs, kept, grad_o, grad_final, _):
    *grads, grad_state = longhorn_backward(grad_o, grad_final, *inputs[:-1], *kept)
    return *grads, None, grad_state, None, None
