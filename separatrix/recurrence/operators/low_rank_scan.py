"""`torch.ops.separatrix.low_rank_scan`: the scan of `kernels/low_rank.py`, single and double precision."""

from torch import Tensor

from separatrix.recurrence.kernels import low_rank
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def low_rank_scan(diagonal: Tensor, left: Tensor, right: Tensor, x: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   diagonal, x [B, T, H, N], left, right [B, T, H, N, r], state [B, H, N], all of one dtype."""
    B, T, H, N = x.shape
    h, final = blank(x), blank(x, state.shape)
    share(
        low_rank.forward,
        B * H,
        _work(x, left),
        (T, H, N, left.shape[-1]),
        flat(diagonal),
        flat(left),
        flat(right),
        flat(x),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(final),
    )
    return h, final


@low_rank_scan.register_fake
def _(diagonal, left, right, x, state, reset):
    return x.new_empty(x.shape), x.new_empty(state.shape)


@Operator
def low_rank_scan_backward(
    grad_h: Tensor,
    grad_final: Tensor,
    diagonal: Tensor,
    left: Tensor,
    right: Tensor,
    state: Tensor,
    reset: Tensor | None,
    h: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (diagonal, left, right, x, state)."""
    B, T, H, N = h.shape
    grad_diagonal, grad_x, grad_state = blank(h), blank(h), blank(h, state.shape)
    grad_left, grad_right = (blank(h, left.shape) for _ in range(2))
    share(
        low_rank.backward,
        B * H,
        3 * _work(h, left),
        (T, H, N, left.shape[-1]),
        flat(diagonal),
        flat(left),
        flat(right),
        flags(reset, B, T),
        flat(state),
        flat(h),
        flat(grad_h),
        flat(grad_final),
        flat(grad_diagonal),
        flat(grad_left),
        flat(grad_right),
        flat(grad_x),
        flat(grad_state),
    )
    return grad_diagonal, grad_left, grad_right, grad_x, grad_state


@low_rank_scan_backward.register_fake
def _(grad_h, grad_final, diagonal, left, right, state, reset, h):
    return tuple(h.new_empty(x.shape) for x in (h, left, right, h, state))


@low_rank_scan.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    *factors, _, state, reset = inputs
    return *low_rank_scan_backward(*grads, *factors, state, reset, *kept), None


def _work(x: Tensor, left: Tensor) -> float:
    """The memory sets the pace, and the sums over the state."""
    return x.numel() * (20.0 + 10.0 * left.shape[-1])
