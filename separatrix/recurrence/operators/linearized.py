"""`torch.ops.separatrix.diagonal_gru_linearized` and `diagonal_lstm_linearized`: `kernels/linearized.py`. They have no gradient."""

from torch import Tensor

from separatrix.recurrence.kernels import linearized as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def diagonal_gru_linearized(h: Tensor, x: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """The next states and the Jacobian's diagonals.   h [..., N], x [..., 3 N], A [3, N]"""
    N = A.shape[1]
    value, jacobian = blank(h), blank(h)
    share(kernel.gru, h.numel() // max(N, 1), 100.0 * h.numel(), N, *map(flat, (x, A, h, value, jacobian)))
    return value, jacobian


@diagonal_gru_linearized.register_fake
def _(h, x, A):
    return h.new_empty(h.shape), h.new_empty(h.shape)


@Operator
def diagonal_lstm_linearized(h: Tensor, x: Tensor, A: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """The next states and the Jacobian's blocks [..., 2, 2, N].   h [..., 2 N], x [..., 3 N], A [3, N], C [2, N]"""
    N = A.shape[1]
    value, jacobian = blank(h), blank(h, (*h.shape[:-1], 2, 2, N))
    share(kernel.lstm, h.numel() // max(2 * N, 1), 70.0 * h.numel(), N, *map(flat, (x, A, C, h, value, jacobian)))
    return value, jacobian


@diagonal_lstm_linearized.register_fake
def _(h, x, A, C):
    return h.new_empty(h.shape), h.new_empty((*h.shape[:-1], 2, 2, A.shape[1]))
