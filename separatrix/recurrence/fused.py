"""The recurrent form of every operation as one compiled kernel, the form for training, prefill and decoding on a CPU.

A kernel reads its inputs once, keeps the state in registers and the L1 cache in float32, and writes only what was asked for. The
equations are those of the operation's own file; this one turns its arguments into what the operators of `kernels` take:
float32 on the CPU, an explicit state, the dtype of the input on the way out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.plan import form
from separatrix.recurrence.ssd import through_attention


@form
def linear_attention_fused(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None = None, scale: float | None = None,
                           initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    inputs, state = _float32(q, k, v, log_decay), _state(initial_state, v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    o, final = _operators().linear_attention(*inputs, q.shape[3] ** -0.5 if scale is None else float(scale), state, reset)
    return o.to(v.dtype), final


@form
def delta_rule_fused(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None = None, scale: float | None = None,
                     initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    inputs, state = _float32(q, k, v, beta, log_decay), _state(initial_state, v.shape[0], v.shape[2], q.shape[3], v.shape[3])
    o, final, _ = _operators().delta_rule(*inputs, q.shape[3] ** -0.5 if scale is None else float(scale), state, reset)
    return o.to(v.dtype), final


@form
def ssd_fused(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, z: Tensor | None = None,
              dt_bias: Tensor | None = None, dt_softplus: bool = False, initial_state: Tensor | None = None,
              reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return through_attention(linear_attention_fused, x, dt, A, B, C, D, z, dt_bias, dt_softplus, initial_state, reset)


def _operators():
    """Numba is imported by the first call, not by `import separatrix`."""
    from separatrix.recurrence.kernels import operators

    return operators


def _state(initial_state: Tensor | None, *shape: int) -> Tensor:
    return torch.zeros(shape) if initial_state is None else initial_state.float()


def _float32(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if x is None else x.float() for x in tensors]
