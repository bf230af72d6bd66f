"""`torch.ops.separatrix.selective_scan2d`: the scan of `kernels/selective2d.py`."""

import torch
from torch import Tensor

from separatrix.recurrence.kernels import selective2d
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, checkpoint_shape, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

LOG2E = 1.4426950408889634
LEAST = 1e-30  # of |A|: below, a step takes all it is given, and 1 / A is still a number


@Operator
def selective_scan2d(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, reset: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y without the skip, the last line, and, to keep for the backward, the line before every CHUNK-th. No axis is empty.

    A [2, 2, N, D], state [B, V, 2, N, D], the others as in `selective2d.py`
    """
    y, final = blank(u), blank(state)
    lines = blank(u, checkpoint_shape(keep, u, selective2d.CHUNK, *state.shape[1:-1]))
    share(
        selective2d.forward,
        u.shape[0] * blocks(u.shape[3], selective2d.LANES),
        40.0 * u.numel() * 2 * A.shape[2],
        (*u.shape[1:], A.shape[2]),
        *_rates(u, delta, A),
        flat(B),
        flat(C),
        flags(reset, *u.shape[:2]),
        flat(state),
        flat(y),
        flat(final),
        flat(lines) if keep else None,
    )
    return y, final, lines


@selective_scan2d.register_fake
def _(u, delta, A, B, C, state, reset, keep):
    lines = u.new_empty(checkpoint_shape(keep, u, selective2d.CHUNK, *state.shape[1:-1]))
    return u.new_empty(u.shape), state.new_empty(state.shape), lines


@Operator
def selective_scan2d_backward(
    grad_y: Tensor, grad_final: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, reset: Tensor | None, lines: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, delta, A, B, C, state)."""
    units = blocks(u.shape[3], selective2d.LANES)
    grad_u, grad_delta, grad_state = blank(u), blank(u, delta.shape), blank(u, grad_final.shape)
    grad_A, grad_B, grad_C = blank(u, (u.shape[0], *A.shape)), blank(u, (units, *B.shape)), blank(u, (units, *C.shape))
    share(
        selective2d.backward,
        u.shape[0] * units,
        130.0 * u.numel() * 2 * A.shape[2],
        (*u.shape, A.shape[2]),
        *_rates(u, delta, A),
        flat(B),
        flat(C),
        flags(reset, *u.shape[:2]),
        flat(lines),
        flat(grad_y),
        flat(grad_final),
        flat(grad_u),
        flat(grad_delta),
        flat(grad_A),
        flat(grad_B),
        flat(grad_C),
        flat(grad_state),
    )
    return grad_u, grad_delta, grad_A.sum(0), grad_B.sum(0), grad_C.sum(0), grad_state


@selective_scan2d_backward.register_fake
def _(grad_y, grad_final, u, delta, A, B, C, reset, lines):
    return tuple(x.new_empty(x.shape) for x in (u, delta, A, B, C, grad_final))


@selective_scan2d.register_gradient(keep=(2,))
def _(wanted, inputs, kept, grad_y, grad_final, _):
    *factors, _, reset, _ = inputs
    return *selective_scan2d_backward(grad_y, grad_final, *factors, reset, *kept), None, None


def _rates(u, delta, A):
    """u, delta, A, A log2(e), 1 / A."""
    A = torch.where(A.abs() < LEAST, LEAST, A.detach())
    return flat(u), flat(delta), flat(A), flat(A * LOG2E), flat(1 / A)
