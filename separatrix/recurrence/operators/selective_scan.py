"""`torch.ops.separatrix.selective_scan`: the scan of `kernels/selective.py`, with its softplus and its gate."""

from torch import Tensor

from separatrix.recurrence.kernels import selective
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, checkpoint_shape, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    bias: Tensor,
    softplus: bool,
    state: Tensor,
    reset: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the final state, and, to keep for the backward, the state before every CHUNK-th step."""
    (batch, T, channels), N = u.shape, A.shape[1]
    y, final, checkpoints = blank(u), blank(state), blank(u, checkpoint_shape(keep, u, selective.CHUNK, N))
    share(
        selective.forward,
        batch * blocks(channels, selective.LANES),
        14.0 * batch * T * channels * N,
        (T, channels, N),
        *_flat(u, delta, A, B, C, D, z, bias),
        softplus,
        flags(reset, batch, T),
        flat(state),
        flat(y),
        flat(final),
        flat(checkpoints) if keep else None,
    )
    return y, final, checkpoints


def _flat(u, delta, A, B, C, D, z, bias):
    return flat(u), flat(delta), flat(A), flat(B), flat(C), flat(D), flat(z), flat(bias)


@selective_scan.register_fake
def _(u, delta, A, B, C, D, z, bias, softplus, state, reset, keep):
    return u.new_empty(u.shape), state.new_empty(state.shape), u.new_empty(checkpoint_shape(keep, u, selective.CHUNK, A.shape[1]))


@Operator
def selective_scan_backward(
    grad_y: Tensor,
    grad_final: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    bias: Tensor,
    soft: bool,
    state: Tensor,
    reset: Tensor | None,
    checkpoints: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, delta, A, B, C, D, z, bias, state); that of an absent z is empty."""
    (batch, T, channels), N = u.shape, A.shape[1]
    group = selective.group_width(batch, channels)
    groups = blocks(channels, group)
    grad_u, grad_delta, grad_state = blank(u), blank(u), blank(state)
    grad_A, grad_D, grad_bias = blank(u, (batch, N, channels)), blank(u, (batch, channels)), blank(u, (batch, channels))
    grad_B, grad_C = blank(u, (groups, *B.shape)), blank(u, (groups, *C.shape))
    grad_z = blank(u, (0,) if z is None else u.shape)
    share(
        selective.backward,
        batch * groups,
        40.0 * batch * T * channels * N,
        (batch, T, channels, N),
        group,
        flat(u),
        flat(delta),
        flat(A),
        flat(B),
        flat(C),
        flat(D),
        flat(z),
        flat(bias),
        soft,
        flags(reset, batch, T),
        flat(checkpoints),
        flat(grad_y),
        flat(grad_final),
        flat(grad_u),
        flat(grad_delta),
        flat(grad_A),
        flat(grad_B),
        flat(grad_C),
        flat(grad_D),
        None if z is None else flat(grad_z),
        flat(grad_bias),
        flat(grad_state),
    )
    return (
        grad_u,
        grad_delta,
        grad_A.sum(0).T.contiguous(),
        grad_B.sum(0),
        grad_C.sum(0),
        grad_D.sum(0),
        grad_z,
        grad_bias.sum(0),
        grad_state,
    )


@selective_scan_backward.register_fake
def _(grad_y, grad_final, u, delta, A, B, C, D, z, bias, soft, state, reset, checkpoints):
    grads = [x.new_empty(x.shape) for x in (u, delta, A, B, C, D)]
    return *grads, u.new_empty(0 if z is None else z.shape), bias.new_empty(bias.shape), state.new_empty(state.shape)


@selective_scan.register_gradient(keep=(2,))
def _(wanted, inputs, kept, grad_y, grad_final, _):
    *grads, grad_z, grad_bias, grad_state = selective_scan_backward(grad_y, grad_final, *inputs[:-1], *kept)
    return *grads, None if inputs[6] is None else grad_z, grad_bias, None, grad_state, None, None
