"""The compiled kernels as torch operators, seen by autograd, `torch.compile` and `torch.export`.

An operator takes float32 tensors on the CPU, allocates what it returns and shares a kernel's units among threads. Its gradient is
another operator, the kernel's hand-written backward. A second derivative goes through the operation's chunked form, which is plain torch.
"""

from typing import Optional

import torch
from torch import Tensor

from separatrix.recurrence.kernels import delta, linear
from separatrix.recurrence.kernels.lanes import WIDTH
from separatrix.recurrence.kernels.parallel import share


def flat(x: Tensor | None):
    """The numbers of a tensor as one row, shared with numpy."""
    return None if x is None else x.detach().contiguous().view(-1).numpy()


def flags(reset: Tensor | None, batch: int, time: int):
    """[batch * time] uint8"""
    return flat(torch.zeros(batch, time, dtype=torch.uint8) if reset is None else reset.to(torch.uint8))


def blocks(size: int) -> int:
    return -(-size // WIDTH)


def differentiable(operation, inputs: tuple, grad_outputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """Gradients of `operation`'s inputs that can be differentiated again, by a form of it in plain torch."""
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    grads = torch.autograd.grad(operation(*inputs), [inputs[i] for i in wanted], grad_outputs, create_graph=True, allow_unused=True)
    found = dict(zip(wanted, grads))
    return tuple(found.get(i) for i in range(len(inputs)))


# Linear attention ------------------------------------------------------------------------------------------------------------------


@torch.library.custom_op(
    "separatrix::linear_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? log_decay, float scale, Tensor state, Tensor? reset) -> (Tensor, Tensor)",
)
def linear_attention(q: Tensor, k: Tensor, v: Tensor, log_decay: Optional[Tensor], scale: float, state: Tensor,
                     reset: Optional[Tensor]) -> tuple[Tensor, Tensor]:
    """o and the final state."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    o, final = v.new_empty(v.shape), state.new_empty(state.shape)
    head, key = _decays(log_decay)
    share(linear.sweep, B * H * blocks(V), 6.0 * B * T * H * K * V, (T, H, K, V, G, H, G), False, flat(k), flat(v), flat(q), head, key, None,
          flags(reset, B, T), 1.0, scale, flat(state), flat(o), flat(final))
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
def linear_attention_backward(grad_o: Tensor, grad_final: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Optional[Tensor],
                              scale: float, state: Tensor, reset: Optional[Tensor],
                              final: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, log_decay, state); an absent input's is empty."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    q_, k_, v_, do, reset_, (head, key) = flat(q), flat(k), flat(v), flat(grad_o), flags(reset, B, T), _decays(log_decay)
    work = 6.0 * B * T * H * K * V
    grad_v, grad_state = v.new_empty(v.shape), state.new_empty(state.shape)
    share(linear.sweep, B * H * blocks(V), work, (T, H, K, V, G, H, G), True, q_, do, k_, head, key, None, reset_, scale, 1.0,
          flat(grad_final), flat(grad_v), flat(grad_state))
    grad_q, grad_k, unused = v.new_empty(B, T, H, K), v.new_empty(B, T, H, K), flat(state.new_empty(state.shape))
    share(linear.sweep, B * H * blocks(K), work, (T, H, V, K, H, G, H), True, do, q_, v_, head, None, key, reset_, scale, 1.0,
          flat(grad_final.mT), flat(grad_k), unused)
    share(linear.sweep, B * H * blocks(K), work, (T, H, V, K, H, G, H), False, v_, k_, do, head, None, key, reset_, 1.0, scale,
          flat(state.mT), flat(grad_q), unused)
    grad_decay = v.new_empty(0 if log_decay is None else log_decay.shape)
    if log_decay is not None:
        share(linear.decay_gradient, B * H, 4.0 * B * T * H * K, (T, G, H, K), key is not None, q_, flat(grad_q), k_, flat(grad_k),
              flat((final * grad_final).sum(-1)), reset_, flat(grad_decay))
    return _per_group(grad_q, G), _per_group(grad_k, G), grad_v, grad_decay, grad_state


@linear_attention_backward.register_fake
def _(grad_o, grad_final, q, k, v, log_decay, scale, state, reset, final):
    return (*(x.new_empty(x.shape) for x in (q, k, v)), v.new_empty(0 if log_decay is None else log_decay.shape), state.new_empty(state.shape))


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


# The delta rule --------------------------------------------------------------------------------------------------------------------


@torch.library.custom_op(
    "separatrix::delta_rule",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor beta, Tensor? log_decay, float scale, Tensor state, Tensor? reset) -> (Tensor, Tensor, Tensor)",
)
def delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Optional[Tensor], scale: float, state: Tensor,
               reset: Optional[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """o, the final state, and the prediction errors [B,T,H,V] that the backward needs."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    o, error, final = v.new_empty(v.shape), v.new_empty(v.shape), state.new_empty(state.shape)
    share(delta.forward, B * H * blocks(V), 8.0 * B * T * H * K * V, (T, G, H, K, V), flat(q), flat(k), flat(v), flat(beta),
          *_decays(log_decay), flags(reset, B, T), scale, flat(state), flat(o), flat(error), flat(final))
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
def delta_rule_backward(grad_o: Tensor, grad_final: Tensor, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Optional[Tensor],
                        scale: float, state: Tensor, reset: Optional[Tensor],
                        error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, beta, log_decay, state); that of an absent decay is empty."""
    (B, T, H, V), (G, K) = v.shape, q.shape[2:]
    head, key = _decays(log_decay)
    common = ((T, G, H, K, V), flat(q), flat(k), flat(beta), head, key, flags(reset, B, T), scale, flat(error))
    do, work = flat(grad_o), 8.0 * B * T * H * K * V
    grad_v, grad_beta, grad_state = v.new_empty(v.shape), v.new_empty(B, T, H, blocks(V)), state.new_empty(state.shape)
    share(delta.adjoint, B * H * blocks(V), work, *common, do, flat(grad_final), flat(grad_v), flat(grad_beta), flat(grad_state))
    grad_q, grad_k = v.new_empty(B, T, H, K), v.new_empty(B, T, H, K)
    grad_decay = v.new_empty(B, T, H, K if key is not None else blocks(K) if head is not None else 0)
    share(delta.key_gradients, B * H * blocks(K), 2 * work, *common, flat(state.mT), do, flat(grad_final.mT), flat(grad_v), flat(grad_q),
          flat(grad_k), flat(grad_decay))
    if head is not None:
        grad_decay = grad_decay.sum(-1)
    return _per_group(grad_q, G), _per_group(grad_k, G), grad_v, grad_beta.sum(-1), grad_decay, grad_state


@delta_rule_backward.register_fake
def _(grad_o, grad_final, q, k, v, beta, log_decay, scale, state, reset, error):
    absent = (*v.shape[:3], 0)
    return (*(x.new_empty(x.shape) for x in (q, k, v, beta)), v.new_empty(absent if log_decay is None else log_decay.shape),
            state.new_empty(state.shape))


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


def _decays(log_decay: Tensor | None):
    """As (per head, per key dimension), at most one of them present."""
    return (flat(log_decay), None) if log_decay is None or log_decay.ndim == 3 else (None, flat(log_decay))


def _per_group(grad: Tensor, groups: int) -> Tensor:
    """Heads that share a query or key add up their gradients."""
    return grad if grad.shape[2] == groups else grad.unflatten(2, (groups, -1)).sum(3)
