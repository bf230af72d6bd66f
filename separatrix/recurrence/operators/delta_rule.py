"""`torch.ops.separatrix.delta_rule`: the passes of `kernels/delta.py`."""

import torch
from torch import Tensor

from separatrix.recurrence.kernels import delta
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, decays, differentiable, flags, flat, per_group


@torch.library.custom_op(
    "separatrix::delta_rule",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor beta, Tensor? log_decay, float scale, Tensor state, "
    "Tensor? reset) -> (Tensor, Tensor, Tensor)",
)
def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, scale: float, state: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """o, the final state, and the prediction errors [B,T,H,V] that the backward needs."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    o, error, final = v.new_empty(v.shape), v.new_empty(v.shape), state.new_empty(state.shape)
    share(
        delta.forward_shared,
        B * H * blocks(V),
        8.0 * B * T * H * K * V,
        (T, G, H, K, V),
        flat(q),
        flat(k),
        flat(v),
        flat(beta),
        *decays(log_decay),
        flags(reset, B, T),
        scale,
        flat(state),
        flat(o),
        flat(error),
        flat(final),
    )
    return o, final, error


@delta_rule.register_fake
def _(q, k, v, beta, log_decay, scale, state, reset):
    return v.new_empty(v.shape), state.new_empty(state.shape), v.new_empty(v.shape)


@torch.library.custom_op(
    "separatrix::delta_rule_backward",
    mutates_args=(),
    schema="(Tensor grad_o, Tensor grad_final, Tensor q, Tensor k, Tensor v, Tensor beta, Tensor? log_decay, float scale, Tensor state, "
    "Tensor? reset, Tensor error) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def delta_rule_backward(
    grad_o: Tensor,
    grad_final: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None,
    scale: float,
    state: Tensor,
    reset: Tensor | None,
    error: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, beta, log_decay, state); that of an absent decay is empty."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    head, key = decays(log_decay)
    common = ((T, G, H, K, V), flat(q), flat(k), flat(beta), head, key, flags(reset, B, T), scale, flat(error))
    do, work = flat(grad_o), 8.0 * B * T * H * K * V
    grad_v, grad_beta, grad_state = v.new_empty(v.shape), v.new_empty(B, T, H, blocks(V)), state.new_empty(state.shape)
    share(delta.adjoint_shared, B * H * blocks(V), work, *common, do, flat(grad_final), flat(grad_v), flat(grad_beta), flat(grad_state))
    grad_q, grad_k = v.new_empty(B, T, H, K), v.new_empty(B, T, H, K)
    grad_decay = v.new_empty(B, T, H, K if key is not None else blocks(K) if head is not None else 0)
    share(
        delta.key_gradients_shared,
        B * H * blocks(K),
        2 * work,
        *common,
        flat(state.mT),
        flat((state * grad_state).sum(-1)),
        do,
        flat(grad_final.mT),
        flat(grad_v),
        flat(grad_q),
        flat(grad_k),
        flat(grad_decay),
    )
    if head is not None:
        grad_decay = grad_decay.sum(-1)
    return per_group(grad_q, G), per_group(grad_k, G), grad_v, grad_beta.sum(-1), grad_decay, grad_state


@delta_rule_backward.register_fake
def _(grad_o, grad_final, q, k, v, beta, log_decay, scale, state, reset, error):
    absent = (*v.shape[:3], 0)
    return (
        *(x.new_empty(x.shape) for x in (q, k, v, beta)),
        v.new_empty(absent if log_decay is None else log_decay.shape),
        state.new_empty(state.shape),
    )


def _keep_delta_rule(ctx, inputs, output):
    *tensors, ctx.scale, state, reset = inputs
    ctx.save_for_backward(*tensors, state, reset, output[2])


def _delta_rule_gradient(ctx, grad_o, grad_final, _):
    q, k, v, beta, log_decay, state, reset, error = ctx.saved_tensors
    if torch.is_grad_enabled():
        from separatrix.recurrence.delta import delta_rule_chunked

        return differentiable(delta_rule_chunked, (q, k, v, beta, log_decay, ctx.scale, state, reset), (grad_o, grad_final))
    *grads, grad_decay, grad_state = delta_rule_backward(grad_o, grad_final, q, k, v, beta, log_decay, ctx.scale, state, reset, error)
    return *grads, None if log_decay is None else grad_decay, None, grad_state, None


torch.library.register_autograd(delta_rule, _delta_rule_gradient, setup_context=_keep_delta_rule)
