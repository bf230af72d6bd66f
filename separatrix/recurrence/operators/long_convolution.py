"""`torch.ops.separatrix.long_convolution`: the blocks of transforms of `kernels/convolution.py`."""

from torch import Tensor

from separatrix.recurrence.kernels import convolution
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def long_convolution(kernel: Tensor, x: Tensor, before: int) -> Tensor:
    """y [B, T, D] of x [B, before + T, D], kernel [D, L]."""
    (B, steps, D), taps = x.shape, kernel.shape[1]
    y, n = blank(x, (B, steps - before, D)), convolution.transform_length(taps, steps)
    share(
        convolution.forward,
        blocks(D, convolution.LANES),
        200.0 * B * steps * D,
        (B, before, steps - before, D, taps),
        n,
        convolution.twiddles(n),
        flat(kernel),
        flat(x),
        flat(y),
    )
    return y


@long_convolution.register_fake
def _(kernel, x, before):
    return x.new_empty(x.shape[0], x.shape[1] - before, x.shape[2])


@Operator
def long_convolution_backward(grad_y: Tensor, kernel: Tensor, x: Tensor, before: int) -> tuple[Tensor, Tensor]:
    """Gradients of (kernel, x)."""
    (B, steps, D), taps = x.shape, kernel.shape[1]
    grad_x, grad_kernel = blank(x), blank(kernel)
    if taps > steps:
        grad_kernel[:, steps:] = 0  # out of everybody's reach
    n = convolution.transform_length(taps, steps)
    share(
        convolution.backward,
        blocks(D, convolution.LANES),
        400.0 * B * steps * D,
        (B, before, steps - before, D, taps),
        n,
        convolution.twiddles(n),
        flat(kernel),
        flat(x),
        flat(grad_y),
        flat(grad_x),
        flat(grad_kernel),
    )
    return grad_kernel, grad_x


@long_convolution_backward.register_fake
def _(grad_y, kernel, x, before):
    return kernel.new_empty(kernel.shape), x.new_empty(x.shape)


@long_convolution.register_gradient()
def _(wanted, inputs, kept, grad_y):
    return *long_convolution_backward(grad_y, *inputs), None
