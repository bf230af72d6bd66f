"""`torch.ops.separatrix.diagonal_ssm`: the recurrence of `kernels/diagonal_ssm.py`."""

import torch
from torch import Tensor

from separatrix.recurrence.kernels import diagonal_ssm as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, checkpoint_shape, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def diagonal_ssm(
    u: Tensor, a: Tensor, c: Tensor, skip: Tensor, state: Tensor, reset: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the final state, and, to keep for the backward, the state before every CHUNK-th step."""
    (B, T, D), N = u.shape, a.shape[1]
    y, final, checkpoints = blank(u), blank(state), blank(u, checkpoint_shape(keep, u, kernel.CHUNK, N, 2))
    share(
        kernel.forward,
        B * blocks(D, kernel.LANES),
        12.0 * B * T * D * N,
        (T, D, N),
        flat(u),
        flat(a),
        flat(c),
        flat(skip),
        flags(reset, B, T),
        flat(state),
        flat(y),
        flat(final),
        flat(checkpoints) if keep else None,
    )
    return y, final, checkpoints


@diagonal_ssm.register_fake
def _(u, a, c, skip, state, reset, keep):
    return u.new_empty(u.shape), state.new_empty(state.shape), u.new_empty(checkpoint_shape(keep, u, kernel.CHUNK, a.shape[1], 2))


@Operator
def diagonal_ssm_backward(
    grad_y: Tensor,
    grad_final: Tensor,
    u: Tensor,
    a: Tensor,
    c: Tensor,
    skip: Tensor,
    state: Tensor,
    reset: Tensor | None,
    checkpoints: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, a, c, skip, state)."""
    (B, T, D), N = u.shape, a.shape[1]
    grad_u, grad_skip, grad_state = blank(u), u.new_empty(B, D), blank(state)
    grad_a, grad_c = u.new_empty(B, N, 2, D), u.new_empty(B, N, 2, D)
    share(
        kernel.backward,
        B * blocks(D, kernel.LANES),
        42.0 * B * T * D * N,
        (T, D, N),
        flat(u),
        flat(a),
        flat(c),
        flat(skip),
        flags(reset, B, T),
        flat(checkpoints),
        flat(grad_y),
        flat(grad_final),
        flat(grad_u),
        flat(grad_a),
        flat(grad_c),
        flat(grad_skip),
        flat(grad_state),
    )
    return grad_u, _complex(grad_a), _complex(grad_c), grad_skip.sum(0), grad_state


@diagonal_ssm_backward.register_fake
def _(grad_y, grad_final, u, a, c, skip, state, reset, checkpoints):
    return tuple(x.new_empty(x.shape) for x in (u, a, c, skip, state))


@diagonal_ssm.register_gradient(keep=(2,))
def _(wanted, inputs, kept, grad_y, grad_final, _):
    return *diagonal_ssm_backward(grad_y, grad_final, *inputs[:-1], *kept), None, None


def _complex(planes: Tensor) -> Tensor:
    """[B, N, 2, D], summed over the batch, as [D, N] complex."""
    return torch.view_as_complex(planes.sum(0).permute(2, 0, 1).contiguous())
