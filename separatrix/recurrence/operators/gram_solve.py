"""`torch.ops.separatrix.gram_solve`: the elimination of `kernels/gram.py`."""

from torch import Tensor

from separatrix.recurrence.kernels import gram
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat
from separatrix.recurrence.operators.matrix_state import matrix_state, matrix_state_backward
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def gram_solve(
    q: Tensor, k: Tensor, beta: Tensor, log_decay: Tensor | None, ridge: Tensor, state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x with (P_t + Λ_t) x_t = q_t, and the last P.   q, k, x [B,T,H,K]; ridge [H,K], or [B,T,H]: the same in all dimensions of a step."""
    B, T, H, K = q.shape
    x, final = blank(q), blank(state)
    constant = ridge.ndim == 2
    kernel, units, first = (gram.solve_one, blocks(B * H, gram.STEPS), B * H) if T == 1 else (gram.solve, B * H, T)
    share(
        kernel,
        units,
        B * T * H * K * K * (K / 3.0 + gram.STEPS + 8),
        (first, H, K),
        flat(q),
        flat(k),
        flat(beta),
        flat(log_decay),
        flat(ridge) if constant else None,
        None if constant else flat(ridge),
        flags(reset, B, T),
        flat(state),
        flat(x),
        flat(final),
    )
    return x, final


@gram_solve.register_fake
def _(q, k, beta, log_decay, ridge, state, reset):
    return q.new_empty(q.shape), state.new_empty(state.shape)


@gram_solve.register_gradient(keep=(0,))
def _(wanted, inputs, kept, grad, grad_final):
    """One more solve, y, and the gradient of -y·(P_t + Λ_t) x_t as a function of Λ and of P, which is linear attention."""
    (_, k, beta, log_decay, ridge, state, reset), (x,) = inputs, kept
    y, _ = gram_solve(grad, k, beta, log_decay, ridge, state, reset)
    keys = k.unsqueeze(2)
    applied = (x, keys, keys, beta.unsqueeze(2), log_decay, None, None, 1.0, state.mT.contiguous(), reset, False)
    _, _, *kept = matrix_state(*applied, True)
    _, grad_k, grad_v, grad_beta, grad_decay, _, _, grad_state = matrix_state_backward(-y, grad_final.mT.contiguous(), *applied, *kept)
    return (
        y,
        (grad_k + grad_v).squeeze(2),
        grad_beta.squeeze(2),
        None if log_decay is None else grad_decay,
        -(x * y).sum((0, 1) if ridge.ndim == 2 else -1),
        grad_state.mT,
        None,
    )
