"""What the compiled forms have in common.

A fused form is the recurrent form of its operation as one compiled kernel: it reads its inputs once, keeps the state in registers and the
L1 cache in float32, and writes only what was asked for. It stands beside the other forms in the operation's own file; here is what
turns its arguments into those of the operators of `operators/` (float32 on the CPU, an explicit state), and why a kernel may refuse them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.state import State

# A matrix state is walked in blocks of lanes; past this many keys a block (4 bytes a lane) leaves the L2 cache.
MOST_KEYS = 4096


def operators():
    """Numba is imported by the first call, not by `import separatrix`."""
    from separatrix.recurrence import operators

    return operators


def float32(*tensors: Tensor | None) -> list[Tensor | None]:
    return [x if x is None or x.dtype is torch.float32 else x.float() for x in tensors]


def state_or_rest(initial_state: Tensor | None, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float32, device="cpu") if initial_state is None else initial_state.float()


def will_differentiate(*inputs: Tensor | None) -> bool:
    """Whether the forward should leave something behind for a backward.

    Not in an exported program, which mostly predicts, and whose backward can do without: how many states are left behind depends on the
    length, and torch.export would take a count of none or one for a constant, and with it all lengths of that count.
    """
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs) and not torch.compiler.is_exporting()


def double(*inputs: Tensor | State | tuple | None) -> str | None:
    """A kernel whose state is float32 would throw away half of what these tensors hold, or those of a state of several."""
    for x in inputs:
        parts = tuple(x.tensors().values()) if isinstance(x, State) else x
        if isinstance(parts, tuple) and (why := double(*parts)):
            return why
        if isinstance(x, Tensor) and x.dtype in (torch.float64, torch.complex128):
            return "the kernels keep their state in float32"
    return None


def real(*inputs: Tensor | None) -> str | None:
    """For kernels that take single and double precision, but no complex numbers."""
    for x in inputs:
        if isinstance(x, Tensor) and x.is_complex():
            return "the kernel is for real numbers"
    return None


def real_single(*inputs: Tensor | None) -> str | None:
    """For kernels that take single precision only, and no complex numbers."""
    return real(*inputs) or double(*inputs)


def keys_in_cache(*inputs: Tensor | None) -> str | None:
    """For matrix states [key, value]: the first argument's last axis is the keys."""
    return "the state outgrows the cache" if inputs and inputs[0] is not None and inputs[0].shape[-1] > MOST_KEYS else double(*inputs)


def matrix_state(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor | None,
    log_decay: Tensor | None,
    scale: float | None,
    initial_state: Tensor | None,
    reset: Tensor | None,
    skip: Tensor | None = None,
    bonus: Tensor | None = None,
    delta: bool = False,
) -> tuple[Tensor, Tensor]:
    """(1) of `kernels/matrix_state.py`, D its `skip`.   q [B, T, H, K], k [B, T, n, H, K], v [B, T, n, H_v, V], beta [B, T, n, H_v]

    With a bonus [H_v, K] every key dimension decays by itself: log_decay [B, T, H_v, K].
    """
    batch, time, _, heads, value = v.shape
    if time == 0:
        return v[:, :, 0], state_or_rest(initial_state, batch, heads, q.shape[3], value)
    inputs = float32(q, k, v, beta, log_decay, skip, bonus)
    state = None if initial_state is None else initial_state.float()
    scale = q.shape[3] ** -0.5 if scale is None else float(scale)
    o, final, *_ = operators().matrix_state(*inputs, scale, state, reset, delta, will_differentiate(*inputs, state))
    return o.to(v.dtype), final
