"""A short causal convolution, one filter a channel, as a recurrence: its state is its last K - 1 inputs.

    y_t[c] = b[c] + sum_i w[c, i] u_{t-K+1+i}[c],   i = 0 .. K-1                                                    (1)
    y <- y sigmoid(y)   where a silu is asked for                                                                   (2)

The oldest tap comes first. At rest the state is zero; a reset clears it like any state, so taps that would reach behind a reset read
zero. It stands in front of the recurrence in Mamba, DeltaNet and their kin, where in plain torch it takes as long as the scan.

Paper    Gu and Dao 2023, arXiv:2312.00752, section 3.4.
Cost     O(T K) a channel; one pass over memory as a kernel, K + 1 in plain torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import along_time, expect_axes, expect_numbers, expect_real, expect_reset, expect_shape, working_dtype
from separatrix.recurrence.fused import float32, operators, real_single
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared, sequences
from separatrix.recurrence.twins import twin


def short_convolution(
    u: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    silu: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y_t = b + sum_i w_i u_{t-K+1+i}, then y sigmoid(y) where `silu` is true.

    u [B, T, C], weight [C, K] (oldest tap first), bias [C], initial_state [B, K - 1, C], reset [B, T] bool
    ->  y [B, T, C], final state [B, K - 1, C], the last K - 1 inputs.

    Paper    Gu and Dao 2023 (Mamba), arXiv:2312.00752, section 3.4.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("u", u, weight=weight, bias=bias, initial_state=initial_state)
    expect_real(u=u, weight=weight, bias=bias, initial_state=initial_state)
    expect_axes("u", u, "batch, time, channels")
    expect_axes("weight", weight, "channels, taps")
    batch, time, channels = u.shape
    taps = weight.shape[1]
    if weight.shape[0] != channels or taps < 1:
        raise ValueError(f"weight is {list(weight.shape)}, expected [channels, taps] = [{channels}, 1 or more]")
    if bias is not None:
        expect_shape("bias", bias, (channels,), "channels")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, taps - 1, channels), "batch, taps - 1, channels")
    expect_reset(reset, batch, time)
    return run("short_convolution", time, u, weight, bias, silu, initial_state, reset)


@form
def short_convolution_recurrent(u, weight, bias=None, silu=False, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud."""
    dtype, (u, weight, bias, h) = u.dtype, enter(u, weight, bias, initial_state)
    taps, reads = weight.T, []
    for t in range(u.shape[1]):
        window = torch.cat([cleared(h, reset, t), u[:, t : t + 1]], dim=1)
        reads.append((taps * window).sum(1))
        h = window[:, 1:]  # a view, which keeps one row more alive
    return leave(along_time(reads, u), bias, silu).to(dtype), h


@twin("short_convolution")
@form
def short_convolution_chunked(u, weight, bias=None, silu=False, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """All steps are one chunk: a multiply-add of a shifted view for every tap."""
    dtype, (u, weight, bias, h) = u.dtype, enter(u, weight, bias, initial_state)
    T, K = u.shape[1], weight.shape[1]
    seen, y = torch.cat([h, u], dim=1), torch.zeros_like(u)
    sequence = None if reset is None else sequences(reset, K - 1)
    for i in range(K):
        past = seen[:, i : i + T]
        if sequence is not None:
            past = past.masked_fill((sequence[:, i : i + T] != sequence[:, K - 1 :])[..., None], 0)
        y = torch.addcmul(y, past, weight[:, i])
    kept = seen[:, T:]
    if sequence is not None and T:
        kept = kept.masked_fill((sequence[:, T:] != sequence[:, -1:])[..., None], 0)
    return leave(y, bias, silu).to(dtype), kept.clone()  # a view would keep the whole sequence alive inside a small state


@form(refuses=real_single, pays_from=1)
def short_convolution_fused(u, weight, bias=None, silu=False, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    batch, time, channels = u.shape
    bias = u.new_zeros(channels) if bias is None else bias
    state = u.new_zeros(batch, weight.shape[1] - 1, channels) if initial_state is None else initial_state
    inputs = float32(u, weight, bias, state)
    if time == 0:
        return u, inputs[3]  # type: ignore[return-value]
    y, final = operators().short_convolution(*inputs[:3], silu, inputs[3], reset)
    return y.to(u.dtype), final


def enter(u: Tensor, weight: Tensor, bias: Tensor | None, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """u, weight, bias and the first state in the working precision."""
    dtype = working_dtype(u, weight, bias, initial_state)
    u, weight = u.to(dtype), weight.to(dtype)
    rest = u.new_zeros(u.shape[0], weight.shape[1] - 1, u.shape[2]) if initial_state is None else initial_state.to(dtype)
    return u, weight, None if bias is None else bias.to(dtype), rest


def leave(y: Tensor, bias: Tensor | None, silu: bool) -> Tensor:
    """The offset and (2)."""
    y = y if bias is None else y + bias
    return F.silu(y) if silu else y
