"""`torch.ops.separatrix.matrix_state`: linear attention, SSD, the delta rule and products of delta rules, by `kernels/matrix_state.py`."""

import numpy as np
from torch import Tensor

from separatrix.recurrence.kernels import matrix_state as kernel
from separatrix.recurrence.kernels.chunk import CHUNK, HEADS, KEYS, NOTHING
from separatrix.recurrence.kernels.matrix_state_backward import backward
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.kernels.tile import LANES
from separatrix.recurrence.operators.arrays import blocks, flags, flat, per_group
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

# A unit of work is a head. A batch with fewer heads than this is cut into parts of their values, which then add up their gradients.
FEW = 2


@Operator
def matrix_state(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    log_decay: Tensor | None,
    skip: Tensor | None,
    bonus: Tensor | None,
    scale: float,
    state: Tensor | None,
    reset: Tensor | None,
    delta: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o, the final state, and, to keep for the backward, the prediction errors and some states on the way.

    q [B,T,G,K], k [B,T,n,G,K], v [B,T,n,H,V]; beta [B,T,n,H], skip [H], bonus [H,K] or None; state [B,H,K,V] or None: at rest.
    """
    o, final, error, marks = (blank(v, size) for size in _results(q, v, delta, keep))
    shape, work = _shape(q, v)
    share(
        kernel.forward,
        final.shape[0] * final.shape[1] * blocks(shape[-2], shape[-1]),
        work,
        shape,
        *_inputs(q, k, v, beta, delta, skip, bonus, log_decay, reset),
        scale,
        _numbers(state),
        keep,
        *(flat(x) for x in (o, error, marks, final)),
    )
    return o, final, error, marks


def _results(q: Tensor, v: Tensor, delta: bool, keep: bool) -> tuple[tuple[int, ...], ...]:
    """The shapes of what the operator returns."""
    (B, T, n, H, V), K = v.shape, q.shape[3]
    marked = max(T - 1, 0) // (kernel.STRETCH * (CHUNK // n))
    return (B, T, H, V), (B, H, K, V), tuple(v.shape) if keep and delta else (0,), (B, H, marked, K, V) if keep else (0,)


def _shape(q: Tensor, v: Tensor) -> tuple[tuple[int, ...], float]:
    """The sizes a kernel asks for, and the floating point operations of one pass."""
    (B, T, n, H, V), (G, K) = v.shape, q.shape[2:]
    parts = min(blocks(V, LANES), -(-FEW // (B * H))) if B * H else 1
    return (B, T, n, G, H, K, V, blocks(blocks(V, LANES), parts) * LANES if parts > 1 else max(V, 1)), 6.0 * B * T * n * H * K * V


def _inputs(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    delta: bool,
    skip: Tensor | None,
    bonus: Tensor | None,
    log_decay: Tensor | None,
    reset: Tensor | None,
) -> tuple[np.ndarray | int, ...]:
    """All but the states as the kernels take them, "what decays" before the decays."""
    kind = NOTHING if log_decay is None else HEADS if log_decay.ndim == 3 else KEYS
    numbers = _numbers(beta), delta, _numbers(skip), _numbers(bonus), kind, _numbers(log_decay)
    return flat(q), flat(k), flat(v), *numbers, flags(reset, *v.shape[:2])


def _numbers(x: Tensor | None) -> np.ndarray:
    """`flat`, and none of them for what is absent."""
    return np.empty(0, np.float32) if x is None else flat(x)


@matrix_state.register_fake
def _(q, k, v, beta, log_decay, skip, bonus, scale, state, reset, delta, keep):
    return tuple(v.new_empty(size) for size in _results(q, v, delta, keep))


@Operator
def matrix_state_backward(
    grad_o: Tensor,
    grad_final: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    log_decay: Tensor | None,
    skip: Tensor | None,
    bonus: Tensor | None,
    scale: float,
    state: Tensor | None,
    reset: Tensor | None,
    delta: bool,
    error: Tensor,
    marks: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, beta, log_decay, skip, bonus, state); an absent input's is empty."""
    (B, T, n, H, V), (G, K) = v.shape, q.shape[2:]
    shape, work = _shape(q, v)
    parts = blocks(V, shape[-1])
    *inputs, kind, decay, resets = _inputs(q, k, v, beta, delta, skip, bonus, log_decay, reset)
    several = (parts,) if parts > 1 else ()
    grad_q, grad_k = blank(v, (*several, B, T, H, K)), blank(v, (*several, B, T, n, H, K))
    grad_v, grad_state = blank(v), blank(v, (B, H, K, V))
    grad_beta = v.new_empty((*several, *beta.shape) if beta is not None else 0)
    grad_decay = blank(v, (*several, B, T, H, K)[: len(several) + 2 + kind] if kind else (0,))
    grad_skip = v.new_empty((B, H, parts) if skip is not None else 0)
    grad_bonus = v.new_empty((B, H, parts, K) if bonus is not None else 0)
    share(
        backward,
        B * H * parts,
        3 * work,
        shape,
        *inputs,
        kind,
        decay,
        resets,
        scale,
        *(_numbers(x) for x in (state, error, marks, grad_o, grad_final)),
        *(flat(x) for x in (grad_q, grad_k, grad_v, grad_beta, grad_decay, grad_skip, grad_bonus, grad_state)),
    )
    if several:
        grad_q, grad_k, grad_beta, grad_decay = (x.sum(0) if x.numel() else x for x in (grad_q, grad_k, grad_beta, grad_decay))
    grad_k = grad_k if G == H else per_group(grad_k.flatten(1, 2), G).unflatten(1, (T, n))
    grad_skip, grad_bonus = (x.sum((0, 2)) if x.ndim > 1 else x for x in (grad_skip, grad_bonus))
    return per_group(grad_q, G), grad_k, grad_v, grad_beta, grad_decay, grad_skip, grad_bonus, grad_state


@matrix_state_backward.register_fake
def _(grad_o, grad_final, q, k, v, beta, log_decay, skip, bonus, scale, state, reset, delta, error, marks):
    (B, _, _, H, V), K = v.shape, q.shape[3]
    return *(v.new_empty(0 if x is None else x.shape) for x in (q, k, v, beta, log_decay, skip, bonus)), v.new_empty(B, H, K, V)


@matrix_state.register_gradient(keep=(2, 3), absent=True)
def _(wanted, inputs, kept, grad_o, grad_final, *_):
    *inputs, _ = inputs
    v, tensors, state = inputs[2], inputs[:7], inputs[8]
    grad_o = v.new_zeros(*v.shape[:2], *v.shape[3:]) if grad_o is None else grad_o
    *grads, grad_state = matrix_state_backward(grad_o, grad_final, *inputs, *kept)
    grads = [None if x is None else grad for x, grad in zip(tensors, grads)]
    return *grads, None, None if state is None else grad_state, None, None, None
