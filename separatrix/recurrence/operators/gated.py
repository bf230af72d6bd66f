"""`torch.ops.separatrix.diagonal_gru` and `diagonal_lstm`: the recurrences of `kernels/gated.py`."""

import torch
from torch import Tensor

from separatrix.recurrence.kernels import gated as kernel
from separatrix.recurrence.kernels.parallel import share
from separatrix.recurrence.operators.arrays import blocks, flags, flat
from separatrix.recurrence.operators.operator import Operator
from separatrix.recurrence.operators.pages import blank

BLOCK = 256  # channels of a unit


def _block(x: Tensor) -> int:
    """Narrower units where there would be too few for the threads."""
    width = x.shape[-1] // 3
    return BLOCK if x.shape[0] * blocks(width, BLOCK) >= torch.get_num_threads() else 2 * kernel.LANES


@Operator
def diagonal_gru(x: Tensor, A: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   x [B, T, 3 N], A [3, N], state [B, N]"""
    (B, T, _), N, block = x.shape, A.shape[1], _block(x)
    states, final = blank(x, (B, T, N)), blank(state)
    share(
        kernel.gru_forward,
        B * blocks(N, block),
        80.0 * B * T * N,
        (T, N),
        block,
        *map(flat, (x, A)),
        flags(reset, B, T),
        *map(flat, (state, states, final)),
    )
    return states, final


@diagonal_gru.register_fake
def _(x, A, state, reset):
    return x.new_empty(*x.shape[:2], A.shape[1]), x.new_empty(state.shape)


@Operator
def diagonal_gru_backward(
    grad_states: Tensor, grad_final: Tensor, x: Tensor, A: Tensor, state: Tensor, reset: Tensor | None, states: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of (x, A, state)."""
    (B, T, _), N, block = x.shape, A.shape[1], _block(x)
    grad_x, grad_A, grad_state = blank(x), blank(x, (B, *A.shape)), blank(state)
    share(
        kernel.gru_backward,
        B * blocks(N, block),
        120.0 * B * T * N,
        (T, N),
        block,
        *map(flat, (x, A)),
        flags(reset, B, T),
        *map(flat, (state, states, grad_states, grad_final, grad_x, grad_A, grad_state)),
    )
    return grad_x, grad_A.sum(0), grad_state


@diagonal_gru_backward.register_fake
def _(grad_states, grad_final, x, A, state, reset, states):
    return x.new_empty(x.shape), x.new_empty(A.shape), x.new_empty(state.shape)


@Operator
def diagonal_lstm(x: Tensor, A: Tensor, C: Tensor, state: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """All states and the last one.   x [B, T, 3 N], A [3, N], C [2, N], state [B, 2 N]"""
    (B, T, _), N, block = x.shape, A.shape[1], _block(x)
    states, final = blank(x, (B, T, 2 * N)), blank(state)
    share(
        kernel.lstm_forward,
        B * blocks(N, block),
        110.0 * B * T * N,
        (T, N),
        block,
        *map(flat, (x, A, C)),
        flags(reset, B, T),
        *map(flat, (state, states, final)),
    )
    return states, final


@diagonal_lstm.register_fake
def _(x, A, C, state, reset):
    return x.new_empty(*x.shape[:2], 2 * A.shape[1]), x.new_empty(state.shape)


@Operator
def diagonal_lstm_backward(
    grad_states: Tensor, grad_final: Tensor, x: Tensor, A: Tensor, C: Tensor, state: Tensor, reset: Tensor | None, states: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of (x, A, C, state)."""
    (B, T, _), N, block = x.shape, A.shape[1], _block(x)
    grad_x, grad_A, grad_C, grad_state = blank(x), blank(x, (B, *A.shape)), blank(x, (B, *C.shape)), blank(state)
    share(
        kernel.lstm_backward,
        B * blocks(N, block),
        160.0 * B * T * N,
        (T, N),
        block,
        *map(flat, (x, A, C)),
        flags(reset, B, T),
        *map(flat, (state, states, grad_states, grad_final, grad_x, grad_A, grad_C, grad_state)),
    )
    return grad_x, grad_A.sum(0), grad_C.sum(0), grad_state


@diagonal_lstm_backward.register_fake
def _(grad_states, grad_final, x, A, C, state, reset, states):
    return x.new_empty(x.shape), x.new_empty(A.shape), x.new_empty(C.shape), x.new_empty(state.shape)


@diagonal_gru.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    return *diagonal_gru_backward(*grads, *inputs, *kept), None


@diagonal_lstm.register_gradient(keep=(0,))
def _(wanted, inputs, kept, *grads):
    return *diagonal_lstm_backward(*grads, *inputs, *kept), None
