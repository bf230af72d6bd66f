"""The recurrent form of every operation as one compiled kernel, the form for training, prefill and decoding on a CPU.

A kernel reads its inputs once, keeps the state in registers and the L1 cache in float32, and writes only what was asked for. The
equations are those of the operation's own file; this one turns its arguments into what the operators of `kernels` take:
float32 on the CPU, an explicit state, the dtype of the input on the way out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.diagonal import enter
from separatrix.recurrence.plan import form
from separatrix.recurrence.ssd import through_attention


@form
def linear_attention_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    inputs, state = _float32(q, k, v, log_decay), _state(initial_state, v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    if v.shape[1] == 0:
        return v, state
    o, final = _operators().linear_attention(*inputs, q.shape[3] ** -0.5 if scale is None else float(scale), state, reset)
    return o.to(v.dtype), final


@form
def delta_rule_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    inputs, state = _float32(q, k, v, beta, log_decay), _state(initial_state, v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    if v.shape[1] == 0:
        return v, state
    o, final, _ = _operators().delta_rule(*inputs, q.shape[3] ** -0.5 if scale is None else float(scale), state, reset)
    return o.to(v.dtype), final


@form
def ssd_fused(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    return through_attention(linear_attention_fused, x, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state, reset)


@form
def selective_scan_fused(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """For a real A. The step's softplus and the output's gate are part of the kernel."""
    nothing = u.new_zeros(u.shape[2], dtype=torch.float32)
    inputs = _float32(u, delta, A, B, C, nothing if D is None else D, z, nothing if delta_bias is None else delta_bias)
    state = _state(initial_state, u.shape[0], *A.shape)
    if u.shape[1] == 0:
        return u, state
    y, final, _ = _operators().selective_scan(*inputs, delta_softplus, state, reset, _will_differentiate(*inputs, state))
    return y.to(u.dtype), final


@form
def diagonal_scan_fused(a: Tensor, x: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """In single or double precision, real or complex; a is stored once where it is shared over batch or time."""
    a, x, state, dtype = enter(a, x, initial_state, reset=None)
    if a.is_complex() or x.is_complex() or state.is_complex():
        working = torch.promote_types(torch.promote_types(a.dtype, x.dtype), state.dtype)
        a, x, state = a.to(working), x.to(working), state.to(working)
    if x.shape[1] == 0:
        return x.to(dtype), state
    rows, inputs = a.expand(*a.shape[:2], *x.shape[2:]), x
    rows, inputs = (y.flatten(2) if y.ndim > 2 else y.unsqueeze(2) for y in (rows, inputs))
    h, final = _operators().diagonal_scan(rows, inputs, state.reshape(x.shape[0], inputs.shape[2]), reset)
    return h.reshape(x.shape).to(dtype), final.reshape(state.shape)


@form
def diagonal_ssm_fused(
    u: Tensor, a: Tensor, c: Tensor, skip: Tensor | None = None, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    a, c = a.to(torch.complex64), c.to(torch.complex64)
    through = u.new_zeros(u.shape[2], dtype=torch.float32) if skip is None else skip.float()
    state = a.new_zeros(u.shape[0], *a.shape) if initial_state is None else initial_state.to(torch.complex64)
    if u.shape[1] == 0:
        return u, state
    inputs = (u.float(), a, c, through, state)
    y, final, _ = _operators().diagonal_ssm(*inputs, reset, _will_differentiate(*inputs))
    return y.to(u.dtype), final


def _operators():
    """Numba is imported by the first call, not by `import separatrix`."""
    from separatrix.recurrence import operators

    return operators


def _state(initial_state: Tensor | None, *shape: int) -> Tensor:
    return torch.zeros(shape) if initial_state is None else initial_state.float()


def _will_differentiate(*inputs: Tensor | None) -> bool:
    """Whether the forward should leave something behind for a backward."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)


def _float32(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x.float() for x in tensors]
