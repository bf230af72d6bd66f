"""`torch.ops.separatrix.short_convolution`: the convolution of `kernels/short_convolution.py`, with its silu."""

from torch import Tensor

from separatrix.recurrence.kernels import short_convolution as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

LEAST, MOST = 64, 8  # steps of a stretch, stretches of a row: each repeats K - 1 steps of its neighbour in the backward


def _steps(time: int) -> int:
    return max(LEAST, blocks(time, MOST))


@Operator
def short_convolution(u: Tensor, weight: Tensor, bias: Tensor, silu: bool, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """y and the final state.   u [B, T, C], weight [C, K], bias [C], state [B, K - 1, C]"""
    (B, T, C), K = u.shape, weight.shape[1]
    steps = _steps(T)
    y, final = blank(u), blank(state)
    share(
        kernel.forward,
        B * blocks(T, steps),
        (2.0 * K + 20.0 * silu) * u.numel(),
        (T, C, K),
        steps,
        flat(u),
        flat(weight.T),
        flat(bias),
        silu,
        flags(reset, B, T),
        flat(state),
        flat(y),
        flat(final),
    )
    return y, final


@short_convolution.register_fake
def _(u, weight, bias, silu, state, reset):
    return u.new_empty(u.shape), state.new_empty(state.shape)


@Operator
def short_convolution_backward(
    grad_y: Tensor, grad_final: Tensor, u: Tensor, weight: Tensor, bias: Tensor, silu: bool, state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (u, weight, bias, state)."""
    (B, T, C), K = u.shape, weight.shape[1]
    steps = _steps(T)
    units = B * blocks(T, steps)
    grad_u, grad_state = blank(u), blank(state)
    grad_weight, grad_bias = u.new_zeros(units, K, C), u.new_zeros(units, C)
    share(
        kernel.backward,
        units,
        (6.0 * K + 30.0 * silu) * u.numel(),
        (T, C, K),
        steps,
        flat(u),
        flat(weight.T),
        flat(bias),
        silu,
        flags(reset, B, T),
        flat(state),
        flat(grad_y),
        flat(grad_final),
        flat(grad_u),
        flat(grad_weight),
        flat(grad_bias),
        flat(grad_state),
    )
    return grad_u, grad_weight.sum(0).T.contiguous(), grad_bias.sum(0), grad_state


@short_convolution_backward.register_fake
def _(grad_y, grad_final, u, weight, bias, silu, state, reset):
    return u.new_empty(u.shape), weight.new_empty(weight.shape), bias.new_empty(bias.shape), state.new_empty(state.shape)


@short_convolution.register_gradient()
def _(wanted, inputs, kept, *grads):
    grad_u, grad_weight, grad_bias, grad_state = short_convolution_backward(*grads, *inputs)
    return grad_u, grad_weight, grad_bias, None, grad_state, None
