"""The compiled kernels as torch operators, seen by autograd, `torch.compile` and `torch.export`.

An operator takes float32 tensors on the CPU, allocates what it returns and shares a kernel's units among threads. Its gradient is
another operator, the kernel's hand-written backward. A second derivative goes through the operation's chunked form, which is plain torch.
"""

from typing import Optional

import torch
from torch import Tensor

from separatrix.recurrence.kernels import matrix
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


# Matrix states: linear attention (beta absent) and the delta rule ------------------------------------------------------------------


@torch.library.custom_op(
    "separatrix::matrix_state",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? log_decay, float scale, Tensor state, Tensor? reset) -> (Tensor, Tensor, Tensor)",
)
def matrix_state(q: Tensor, k: Tensor, v: Tensor, beta: Optional[Tensor], log_decay: Optional[Tensor], scale: float,
                 state: Tensor, reset: Optional[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The output, the final state, and the prediction error v - S'ᵀk of the delta rule (empty without beta)."""
    B, T, H, V = v.shape
    G, K = q.shape[2:]
    o, final = torch.empty_like(v, memory_format=torch.contiguous_format), torch.empty_like(state, memory_format=torch.contiguous_format)
    error = v.new_empty(v.shape if beta is not None else 0)
    head, key = _decays(log_decay)
    share(matrix.forward, B * H * blocks(V), 6.0 * B * T * H * K * V, (T, G, H, K, V), flat(q), flat(k), flat(v), flat(beta), head, key,
          flags(reset, B, T), scale, flat(state), flat(o), flat(error), flat(final))
    return o, final, error


@matrix_state.register_fake
def _(q, k, v, beta, log_decay, scale, state, reset):
    return v.new_empty(v.shape), state.new_empty(state.shape), v.new_empty(v.shape if beta is not None else 0)


@torch.library.custom_op(
    "separatrix::matrix_state_backward",
    mutates_args=(),
    schema="(Tensor grad_o, Tensor grad_final, Tensor q, Tensor k, Tensor v, Tensor? beta, Tensor? log_decay, float scale, Tensor state, "
    "Tensor? reset, Tensor error) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def matrix_state_backward(grad_o: Tensor, grad_final: Tensor, q: Tensor, k: Tensor, v: Tensor, beta: Optional[Tensor],
                          log_decay: Optional[Tensor], scale: float, state: Tensor, reset: Optional[Tensor],
                          error: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, beta, log_decay, state); an absent input's is empty."""
    B, T, H, V = v.shape
    G, K = q.shape[2:]
    shape, head, key = (T, G, H, K, V), *_decays(log_decay)
    q_, k_, beta_, reset_, grad_o_ = flat(q), flat(k), flat(beta), flags(reset, B, T), flat(grad_o)
    grad_v, grad_state = v.new_empty(v.shape), state.new_empty(state.shape)
    grad_beta = v.new_empty(B, T, H, blocks(V) if beta is not None else 0)
    work = 8.0 * B * T * H * K * V
    share(matrix.adjoint, B * H * blocks(V), work, shape, q_, k_, beta_, head, key, reset_, scale, flat(error), grad_o_, flat(grad_final),
          flat(grad_v), flat(grad_beta), flat(grad_state))
    grad_q, grad_k = v.new_empty(B, T, H, K), v.new_empty(B, T, H, K)
    grad_decay = v.new_empty(B, T, H, K if key is not None else blocks(K) if head is not None else 0)
    share(matrix.keys, B * H * blocks(K), 2 * work, shape, q_, k_, beta_, head, key, reset_, scale, flat(v if beta is None else error),
          flat(state.mT), grad_o_, flat(grad_final.mT), flat(grad_v), flat(grad_q), flat(grad_k), flat(grad_decay))
    if G != H:
        grad_q, grad_k = (grad.unflatten(2, (G, H // G)).sum(3) for grad in (grad_q, grad_k))
    if beta is not None:
        grad_beta = grad_beta.sum(-1) if blocks(V) > 1 else grad_beta.squeeze(-1)
    if head is not None:
        grad_decay = grad_decay.sum(-1) if blocks(K) > 1 else grad_decay.squeeze(-1)
    return grad_q, grad_k, grad_v, grad_beta, grad_decay, grad_state


@matrix_state_backward.register_fake
def _(grad_o, grad_final, q, k, v, beta, log_decay, scale, state, reset, error):
    return (*(x.new_empty(x.shape) for x in (q, k, v)), *(v.new_empty(0 if x is None else x.shape) for x in (beta, log_decay)),
            state.new_empty(state.shape))


def _keep(ctx, inputs, output):
    q, k, v, beta, log_decay, scale, state, reset = inputs
    ctx.save_for_backward(q, k, v, beta, log_decay, state, reset, output[2])
    ctx.scale = scale


def _matrix_state_gradient(ctx, grad_o, grad_final, _):
    q, k, v, beta, log_decay, state, reset, error = ctx.saved_tensors
    if torch.is_grad_enabled():
        inputs = (q, k, v, beta, log_decay, ctx.scale, state, reset)
        return differentiable(_matrix_state_in_torch, inputs, (grad_o, grad_final))
    grads = matrix_state_backward(grad_o, grad_final, q, k, v, beta, log_decay, ctx.scale, state, reset, error)
    grad_q, grad_k, grad_v, grad_beta, grad_decay, grad_state = grads
    return (grad_q, grad_k, grad_v, None if beta is None else grad_beta, None if log_decay is None else grad_decay, None, grad_state, None)


def _matrix_state_in_torch(q, k, v, beta, log_decay, scale, state, reset):
    from separatrix.recurrence.delta import delta_rule_chunked
    from separatrix.recurrence.linear_attention import linear_attention_chunked

    if beta is None:
        return linear_attention_chunked(q, k, v, log_decay, scale, state, reset)
    return delta_rule_chunked(q, k, v, beta, log_decay, scale, state, reset)


torch.library.register_autograd(matrix_state, _matrix_state_gradient, setup_context=_keep)


def _decays(log_decay: Tensor | None):
    """As (per head, per key dimension), at most one of them present."""
    return (flat(log_decay), None) if log_decay is None or log_decay.ndim == 3 else (None, flat(log_decay))
