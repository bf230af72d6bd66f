"""`torch.ops.separatrix.least_squares`: the kernels of `kernels/least_squares.py`."""

from torch import Tensor

from separatrix.recurrence.kernels import least_squares as kernel
from separatrix.recurrence.kernels import least_squares_backward as gradients
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def least_squares(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    rest: Tensor,
    Q: Tensor,
    W: Tensor,
    reset: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """o, the last Q and W, and if they are to be kept u and r.   Q [B,H,K,K] symmetric, rest [H,K] the diagonal of Λ⁻¹"""
    (B, T, H, K), V = k.shape, v.shape[3]
    o, final, learnt = blank(v), blank(Q), blank(W)
    u, r = blank(k, k.shape if keep else (0,)), blank(v, v.shape if keep else (0,))
    share(
        kernel.forward,
        B * H,
        6.0 * B * T * H * K * (K + V),
        (T, H, K, V),
        flat(q),
        flat(k),
        flat(v),
        flat(beta),
        flat(log_decay),
        flat(rest),
        flags(reset, B, T),
        flat(Q),
        flat(W),
        flat(o),
        flat(u) if keep else None,
        flat(r) if keep else None,
        flat(final),
        flat(learnt),
    )
    return o, final, learnt, u, r


@least_squares.register_fake
def _(q, k, v, beta, log_decay, rest, Q, W, reset, keep):
    kept = k.new_empty(k.shape if keep else 0), v.new_empty(v.shape if keep else 0)
    return v.new_empty(v.shape), Q.new_empty(Q.shape), W.new_empty(W.shape), *kept


@Operator
def least_squares_backward(
    grad_o: Tensor,
    grad_final: Tensor,
    grad_learnt: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    rest: Tensor,
    Q: Tensor,
    W: Tensor,
    reset: Tensor | None,
    u: Tensor,
    r: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, beta, log_decay, rest, Q, W); that of the decay is empty where there is none."""
    (B, T, H, K), V = k.shape, v.shape[3]
    grad_q, grad_k, grad_v, grad_beta = (blank(x) for x in (q, k, v, beta))
    grad_decay, grad_rest = blank(beta, (0,) if log_decay is None else beta.shape), blank(rest, (B, H, K))
    grad_Q, grad_W = blank(Q), blank(W)
    share(
        gradients.backward,
        B * H,
        16.0 * B * T * H * K * (K + V),
        (T, H, K, V),
        flat(q),
        flat(k),
        flat(beta),
        flat(log_decay),
        flat(rest),
        flags(reset, B, T),
        flat(Q),
        flat(W),
        flat(u),
        flat(r),
        flat(grad_o),
        flat(grad_final + grad_final.mT),
        flat(grad_learnt),
        flat(grad_q),
        flat(grad_k),
        flat(grad_v),
        flat(grad_beta),
        None if log_decay is None else flat(grad_decay),
        flat(grad_rest),
        flat(grad_Q),
        flat(grad_W),
    )
    return grad_q, grad_k, grad_v, grad_beta, grad_decay, grad_rest.sum(0), grad_Q, grad_W


@least_squares_backward.register_fake
def _(grad_o, grad_final, grad_learnt, q, k, v, beta, log_decay, rest, Q, W, reset, u, r):
    decay = beta.new_empty(0 if log_decay is None else beta.shape)
    return *(x.new_empty(x.shape) for x in (q, k, v, beta)), decay, *(x.new_empty(x.shape) for x in (rest, Q, W))


@least_squares.register_gradient(keep=(3, 4))
def _(wanted, inputs, kept, grad_o, grad_final, grad_learnt, *_):
    grads = least_squares_backward(grad_o, grad_final, grad_learnt, *inputs[:-1], *kept)
    return *(None if x is None else grad for x, grad in zip(inputs, grads)), None, None
