"""On a GPU: the kernels of flash-linear-attention and mamba-ssm, where they are installed and work.

A call on CUDA tensors asks `refusal` first. Nothing is imported on a machine without a GPU, however the packages got there (merely
importing them breaks other libraries there), and a package that does not import is passed over with its own words. What a kernel
cannot do as we mean it goes to the chunked form, which is plain torch:

    reset, torch.func, float64        no kernel knows them
    float32 in matrix states          their tensor cores would round it to TF32, or they refuse it
    an initial state of Mamba's scan  its kernel starts at rest (and asking for a gradient through the final state it returns is an error)

The functions below have the arguments of the other forms of their operation and only spell them as the package does.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from separatrix.recurrence.bonus import with_bonus

HALF = (torch.bfloat16, torch.float16)
FLA, MAMBA = "flash-linear-attention", "mamba-ssm"


@with_bonus
def linear_attention_cuda(q, k, v, log_decay=None, scale=None, initial_state=None, reset=None):
    q, k = _one_per_value_head(v, q, k)
    started = dict(scale=scale, initial_state=_single(initial_state), output_final_state=True)
    if log_decay is None:
        return _kernel("fla.ops.linear_attn", "chunk_linear_attn")(q, k, v, normalize=False, **started)
    if log_decay.ndim == 3:
        return _kernel("fla.ops.simple_gla", "chunk_simple_gla")(q, k, v, g=log_decay.float(), **started)
    return _kernel("fla.ops.gla", "chunk_gla")(q, k, v, g=log_decay.float(), **started)


def delta_rule_cuda(q, k, v, beta, log_decay=None, scale=None, initial_state=None, reset=None):
    q, k = _one_per_value_head(v, q, k)
    started = dict(scale=scale, initial_state=_single(initial_state), output_final_state=True)
    if log_decay is None:
        return _kernel("fla.ops.delta_rule", "chunk_delta_rule")(q, k, v, beta, **started)
    place, name = ("fla.ops.gated_delta_rule", "chunk_gated_delta_rule") if log_decay.ndim == 3 else ("fla.ops.kda", "chunk_kda")
    return _kernel(place, name)(q, k, v, g=log_decay.float(), beta=beta, **started)


def ssd_cuda(x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False, initial_state=None, reset=None):
    scan = _kernel("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")
    return scan(
        x, dt, A.float(), B, C, 256, D=D, z=z, dt_bias=dt_bias, initial_states=_single(initial_state), dt_softplus=dt_softplus,
        return_final_states=True,
    )  # fmt: skip


def selective_scan_cuda(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, initial_state=None, reset=None):
    scan = _kernel("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")
    channels_first = [None if x is None else x.transpose(1, 2).contiguous() for x in (u, delta, B, C, z)]
    u, delta, B, C, z = channels_first
    y, final = scan(
        u, delta.to(u.dtype), A.float(), B.to(u.dtype), C.to(u.dtype), None if D is None else D.float(), z,
        None if delta_bias is None else delta_bias.float(), delta_softplus, return_last_state=True,
    )  # fmt: skip
    return y.transpose(1, 2), _NoGradient.apply(final)


FORMS: dict[str, tuple[str, Callable[..., Any]]] = {
    "linear_attention": (FLA, linear_attention_cuda),
    "delta_rule": (FLA, delta_rule_cuda),
    "ssd": (MAMBA, ssd_cuda),
    "selective_scan": (MAMBA, selective_scan_cuda),
}
# What each package is probed by: the import that fails where it does not work.
_PROBES = {FLA: "fla.ops.simple_gla", MAMBA: "mamba_ssm.ops.selective_scan_interface"}


def refusal(operation: str, inputs: tuple) -> str | None:
    """Why no package's kernel takes this call, or None."""
    if operation not in FORMS:
        return "no package has a kernel for it"
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    if any(x.dtype is torch.bool for x in tensors):
        return "their kernels know no reset"
    if any(x.dtype in (torch.float64, torch.complex64, torch.complex128) for x in tensors):
        return "their kernels take neither float64 nor complex numbers"
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return "forward derivatives and torch.func go through plain torch"
    if operation == "selective_scan" and len(inputs) > 9 and inputs[9] is not None:
        return f"the kernel of {MAMBA} starts at rest"
    if operation != "selective_scan" and tensors and tensors[0].dtype not in HALF:
        return "their kernels multiply in half precision: call with bfloat16 to take them"
    return broken(FORMS[operation][0])


@functools.cache
def broken(package: str) -> str | None:
    """Why a package is of no use here, or None. Asked once."""
    if not torch.cuda.is_available():
        return "there is no GPU"
    try:
        importlib.import_module(_PROBES[package])
    except Exception as error:  # whatever it is, the call goes on without the package
        return f"{package} does not import ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    return None


def _kernel(module: str, name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(module), name)


def _one_per_value_head(v: Tensor, *groups: Tensor) -> list[Tensor]:
    return [x if x.shape[2] == v.shape[2] else x.repeat_interleave(v.shape[2] // x.shape[2], dim=2) for x in groups]


def _single(state: Tensor | None) -> Tensor | None:
    return None if state is None else state.float()


class _NoGradient(torch.autograd.Function):
    """The identity; a gradient that arrives would be lost without a word."""

    @staticmethod
    def forward(ctx, state: Tensor) -> Tensor:
        return state.view_as(state)

    @staticmethod
    def backward(ctx, grad: Tensor):
        if torch.count_nonzero(grad):
            raise RuntimeError(
                f"{MAMBA} gives no gradient through the final state. "
                "Pass initial_state (zeros at the start): that call takes the chunked form."
            )
        return grad
