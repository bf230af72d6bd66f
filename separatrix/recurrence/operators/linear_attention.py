"""`torch.ops.separatrix.linear_attention`: the sweeps of `kernels/linear.py`."""

import torch
from torch import Tensor

from separatrix.recurrence.kernels import linear
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, decays, differentiable, flags, flat, per_group


@torch.library.custom_op(
    "separatrix::linear_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? log_decay, float scale, Tensor state, Tensor? reset) -> (Tensor, Tensor)",
)
def linear_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, scale: float, state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """o and the final state."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    o, final = v.new_empty(v.shape), state.new_empty(state.shape)
    head, key = decays(log_decay)
    share(
        linear.sweep_shared,
        B * H * blocks(V),
        6.0 * B * T * H * K * V,
        (T, H, K, V, G, H, G),
        False,
        False,
        flat(k),
        flat(v),
        flat(q),
        head,
        key,
        None,
        flags(reset, B, T),
        1.0,
        scale,
        flat(state),
        flat(o),
        flat(final),
    )
    return o, final


@linear_attention.register_fake
def _(q, k, v, log_decay, scale, state, reset):
    return v.new_empty(v.shape), state.new_empty(state.shape)


@torch.library.custom_op(
    "separatrix::linear_attention_backward",
    mutates_args=(),
    schema="(Tensor grad_o, Tensor grad_final, Tensor q, Tensor k, Tensor v, Tensor? log_decay, float scale, Tensor state, Tensor? reset, "
    "Tensor final) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def linear_attention_backward(
    grad_o: Tensor,
    grad_final: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    scale: float,
    state: Tensor,
    reset: Tensor | None,
    final: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, log_decay, state); an absent input's is empty."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    q_, k_, v_, do, reset_, (head, key) = flat(q), flat(k), flat(v), flat(grad_o), flags(reset, B, T), decays(log_decay)
    work = 6.0 * B * T * H * K * V
    grad_v, grad_state = v.new_empty(v.shape), state.new_empty(state.shape)
    share(
        linear.sweep_shared,
        B * H * blocks(V),
        work,
        (T, H, K, V, G, H, G),
        True,
        False,
        q_,
        do,
        k_,
        head,
        key,
        None,
        reset_,
        scale,
        1.0,
        flat(grad_final),
        flat(grad_v),
        flat(grad_state),
    )
    grad_q, grad_k, unused = v.new_empty(B, T, H, K), v.new_empty(B, T, H, K), flat(state.new_empty(state.shape))
    share(
        linear.sweep_shared,
        B * H * blocks(K),
        work,
        (T, H, V, K, H, G, H),
        True,
        True,
        do,
        q_,
        v_,
        head,
        None,
        key,
        reset_,
        scale,
        1.0,
        flat(grad_final.mT),
        flat(grad_k),
        unused,
    )
    share(
        linear.sweep_shared,
        B * H * blocks(K),
        work,
        (T, H, V, K, H, G, H),
        False,
        True,
        v_,
        k_,
        do,
        head,
        None,
        key,
        reset_,
        1.0,
        scale,
        flat(state.mT),
        flat(grad_q),
        unused,
    )
    grad_decay = v.new_empty(0 if log_decay is None else log_decay.shape)
    share(
        linear.complete_shared,
        B * H,
        20.0 * B * T * H * K,
        (T, G, H, K, V),
        scale,
        q_,
        k_,
        v_,
        do,
        flat((state * grad_state).sum(-1)),
        flat((final * grad_final).sum(-1)),
        reset_,
        flat(grad_q),
        flat(grad_k),
        flat(grad_decay) if head is not None else None,
        flat(grad_decay) if key is not None else None,
    )
    return per_group(grad_q, G), per_group(grad_k, G), grad_v, grad_decay, grad_state


@linear_attention_backward.register_fake
def _(grad_o, grad_final, q, k, v, log_decay, scale, state, reset, final):
    return (
        *(x.new_empty(x.shape) for x in (q, k, v)),
        v.new_empty(0 if log_decay is None else log_decay.shape),
        state.new_empty(state.shape),
    )


def _keep_linear_attention(ctx, inputs, output):
    *tensors, ctx.scale, state, reset = inputs
    ctx.save_for_backward(*tensors, state, reset, output[1])


def _linear_attention_gradient(ctx, grad_o, grad_final):
    q, k, v, log_decay, state, reset, final = ctx.saved_tensors
    if torch.is_grad_enabled():
        from separatrix.recurrence.linear_attention import linear_attention_chunked

        return differentiable(linear_attention_chunked, (q, k, v, log_decay, ctx.scale, state, reset), (grad_o, grad_final))
    *grads, grad_decay, grad_state = linear_attention_backward(grad_o, grad_final, q, k, v, log_decay, ctx.scale, state, reset, final)
    return *grads, None if log_decay is None else grad_decay, None, grad_state, None


torch.library.register_autograd(linear_attention, _linear_attention_gradient, setup_context=_keep_linear_attention)
