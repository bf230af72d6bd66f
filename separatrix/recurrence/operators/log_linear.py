"""`torch.ops.separatrix.log_linear`: log-linear attention, by `kernels/log_linear.py`."""

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.kernels.fenwick import SPAN
from separatrix.recurrence.kernels.log_linear import forward
from separatrix.recurrence.kernels.log_linear_backward import backward
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.kernels.tile import LANES
from separatrix.recurrence.operators.arrays import blocks, flat, per_group
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

# A unit of work is a head. A batch with fewer heads than this is cut into parts of their values, which then add up their gradients.
FEW = 2


@Operator
def log_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    level_scale: Tensor,
    state: Tensor | None,
    steps: Tensor,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """o, the final state, and, to keep for the backward, matrices and fades of the larger digits.

    q, k [B,T,G,K], v [B,T,H,V], level_scale [B,T,H,L], state [B,H,L,K,V], steps [B,T] the position of every step; T is at least 1.
    """
    o, final, marks, fades = (blank(v, size) for size in _results(q, v, level_scale, keep))
    shape, work = _shape(q, v, level_scale)
    share(
        forward,
        shape[0] * shape[3] * blocks(shape[5], shape[-1]),
        work,
        shape,
        *_inputs(q, k, v, log_decay, level_scale, state, steps),
        keep,
        *(flat(x) for x in (o, final, marks, fades)),
    )
    return o, final, marks, fades


def _results(q: Tensor, v: Tensor, level_scale: Tensor, keep: bool) -> tuple[tuple[int, ...], ...]:
    (B, T, H, V), K, L = v.shape, q.shape[3], level_scale.shape[3]
    most = (T + SPAN - 2) // SPAN
    marks, fades = ((B, H, most, K, V), (B, H, most, L)) if keep else ((0,), (0,))
    return v.shape, (B, H, L, K, V), marks, fades


def _shape(q: Tensor, v: Tensor, level_scale: Tensor) -> tuple[tuple[int, ...], float]:
    """The sizes a kernel asks for, and the floating point operations of one pass."""
    (B, T, H, V), (G, K), L = v.shape, q.shape[2:], level_scale.shape[3]
    parts = min(blocks(V, LANES), -(-FEW // (B * H))) if B * H else 1
    part = blocks(blocks(V, LANES), parts) * LANES if parts > 1 else max(V, 1)
    return (B, T, G, H, K, V, L, part), 8.0 * B * T * H * K * V


def _inputs(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, level_scale: Tensor, state: Tensor | None, steps: Tensor
) -> tuple[np.ndarray, ...]:
    absent = np.empty(0, np.float32)
    decay, start = (absent if x is None else flat(x) for x in (log_decay, state))
    return flat(q), flat(k), flat(v), decay, flat(level_scale), start, flat(steps)


@log_linear.register_fake
def _(q, k, v, log_decay, level_scale, state, steps, keep):
    return tuple(v.new_empty(size) for size in _results(q, v, level_scale, keep))


@Operator
def log_linear_backward(
    grad_o: Tensor,
    grad_final: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None,
    level_scale: Tensor,
    state: Tensor | None,
    steps: Tensor,
    marks: Tensor,
    fades: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (q, k, v, log_decay, level_scale, state); an absent input's is empty, and so is grad_final where nothing came."""
    shape, work = _shape(q, v, level_scale)
    B, T, G, H, K, V, L, part = shape
    parts = blocks(V, part)
    several = (parts,) if parts > 1 else ()
    grad_q, grad_k = (blank(v, (*several, B, T, H, K)) for _ in range(2))
    grad_v, grad_state = blank(v), blank(v, (0,) if state is None else state.shape)
    grad_decay = blank(v, (0,) if log_decay is None else (*several, B, T, H))
    grad_scale = blank(v, (*several, B, T, H, L))
    share(
        backward,
        B * H * parts,
        3 * work,
        shape,
        *_inputs(q, k, v, log_decay, level_scale, state, steps),
        *(flat(x) for x in (marks, fades, grad_o, grad_final, grad_q, grad_k, grad_v, grad_decay, grad_scale, grad_state)),
    )
    if several:
        grad_q, grad_k, grad_decay, grad_scale = (x.sum(0) if x.numel() else x for x in (grad_q, grad_k, grad_decay, grad_scale))
    return per_group(grad_q, G), per_group(grad_k, G), grad_v, grad_decay, grad_scale, grad_state


@log_linear_backward.register_fake
def _(grad_o, grad_final, q, k, v, log_decay, level_scale, state, steps, marks, fades):
    return tuple(v.new_empty(0 if x is None else x.shape) for x in (q, k, v, log_decay, level_scale, state))


@log_linear.register_gradient(keep=(2, 3), absent=True)
def _(wanted, inputs, kept, grad_o, grad_final, *_):
    *inputs, _ = inputs
    _, _, v, log_decay, _, state, _ = inputs
    grad_o, grad_final = torch.zeros_like(v) if grad_o is None else grad_o, v.new_empty(0) if grad_final is None else grad_final
    *found, grad_decay, grad_scale, grad_state = log_linear_backward(grad_o, grad_final, *inputs, *kept)
    return *found, None if log_decay is None else grad_decay, grad_scale, None if state is None else grad_state, None, None
