"""`torch.ops.separatrix.dplr`: the sweeps of `kernels/dplr.py`."""

from torch import Tensor

from separatrix.recurrence.kernels import dplr as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank


@Operator
def dplr(
    r: Tensor, log_decay: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, scale: float, state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """o, the final state, and what `a` read [B,T,H,V], which the backward needs.   log_decay [B,T,H,K]"""
    (B, T, H, K), V = r.shape, v.shape[3]
    o, fed, final = blank(v), blank(v), blank(state)
    share(
        kernel.sweep,
        B * H * blocks(V, kernel.PART),
        9.0 * B * T * H * K * V,
        (T, H, K, V),
        False,
        flat(k),
        flat(v),
        flat(b),
        flat(a),
        flat(r),
        flat(log_decay),
        flags(reset, B, T),
        1.0,
        scale,
        flat(state),
        flat(o),
        flat(fed),
        flat(final),
    )
    return o, final, fed


@dplr.register_fake
def _(r, log_decay, k, v, a, b, scale, state, reset):
    return v.new_empty(v.shape), state.new_empty(state.shape), v.new_empty(v.shape)


@Operator
def dplr_backward(
    grad_o: Tensor,
    grad_final: Tensor,
    r: Tensor,
    log_decay: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    scale: float,
    state: Tensor,
    reset: Tensor | None,
    fed: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (r, log_decay, k, v, a, b, state)."""
    (B, T, H, K), V = r.shape, v.shape[3]
    r_, k_, a_, b_, decay, clear, do = flat(r), flat(k), flat(a), flat(b), flat(log_decay), flags(reset, B, T), flat(grad_o)
    grad_v, grad_fed, grad_state = blank(v), blank(v), blank(state)
    work = 9.0 * B * T * H * K * V
    share(
        kernel.sweep,
        B * H * blocks(V, kernel.PART),
        work,
        (T, H, K, V),
        True,
        r_,
        do,
        a_,
        b_,
        k_,
        decay,
        clear,
        scale,
        1.0,
        flat(grad_final),
        flat(grad_v),
        flat(grad_fed),
        flat(grad_state),
    )
    grad_r, grad_decay, grad_k, grad_a, grad_b = (blank(r) for _ in range(5))
    share(
        kernel.key_gradients,
        B * H * blocks(K, kernel.LANES),
        3 * work,
        (T, H, K, V),
        r_,
        k_,
        flat(v),
        a_,
        b_,
        decay,
        clear,
        scale,
        flat(fed),
        flat(state.mT),
        do,
        flat(grad_fed),
        flat(grad_final.mT),
        flat(grad_r),
        flat(grad_k),
        flat(grad_a),
        flat(grad_b),
        flat(grad_decay),
    )
    return grad_r, grad_decay, grad_k, grad_v, grad_a, grad_b, grad_state


@dplr_backward.register_fake
def _(grad_o, grad_final, r, log_decay, k, v, a, b, scale, state, reset, fed):
    return tuple(x.new_empty(x.shape) for x in (r, log_decay, k, v, a, b, state))


@dplr.register_gradient(keep=(2,))
def _(wanted, inputs, kept, grad_o, grad_final, _):
    *grads, grad_state = dplr_backward(grad_o, grad_final, *inputs, *kept)
    return *grads, None, grad_state, None
