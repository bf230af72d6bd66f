"""A causal convolution as long as the sequence, which can go on where it stopped.

    y_t[d] = sum_l K_l[d] u_{t-l}[d],   l = 0 .. L - 1                                                            (1)

Its state is the last L - 1 inputs, zeros at rest: with it a sequence may be cut anywhere, and a gradient passes the cut. A reset clears
the state like any other, so taps that would reach behind it read zero; between resets the kernel is the same, and the stretches are
convolved one after another.

Paper    Gu et al. 2021 (S4), arXiv:2111.00396; Poli et al. 2023 (Hyena), arXiv:2302.10866.
Cost     O(T log T) by transforms, O(T L) as the sum it is, O(T²) as the Toeplitz matrix; a step is O(L), and so is the state.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from separatrix.recurrence.checks import (
    along_time,
    expect_axes,
    expect_numbers,
    expect_real,
    expect_reset,
    expect_shape,
    readable,
    working_dtype,
)
from separatrix.recurrence.fused import operators, real_single
from separatrix.recurrence.plan import form, run
from separatrix.recurrence.resets import cleared, sequences
from separatrix.recurrence.twins import twin


def long_convolution(kernel: Tensor, u: Tensor, initial_state: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """y_t = sum_l K_l u_{t-l}.

    kernel [D, L] with L >= 1, u [B, T, D], initial_state [B, L - 1, D], the inputs before u, oldest first, reset [B, T] bool
    ->  y [B, T, D], final state [B, L - 1, D].

    Paper    Gu et al. 2021 (S4), arXiv:2111.00396; Poli et al. 2023 (Hyena), arXiv:2302.10866.
    Raises   ValueError for shapes that do not fit; TypeError unless all are real floats, reset bool.
    """
    expect_numbers("kernel", kernel, u=u, initial_state=initial_state)
    expect_real(kernel=kernel, u=u, initial_state=initial_state)
    expect_axes("kernel", kernel, "channels, taps")
    expect_axes("u", u, "batch, time, channels")
    batch, time, channels = u.shape
    taps = kernel.shape[1]
    expect_shape("kernel", kernel, (channels, taps), "channels, taps")
    if taps == 0:
        raise ValueError(f"kernel is {list(kernel.shape)}, expected at least one tap")
    if initial_state is not None:
        expect_shape("initial_state", initial_state, (batch, taps - 1, channels), "batch, taps - 1, channels")
    expect_reset(reset, batch, time)
    return run("long_convolution", time, kernel, u, initial_state, reset)


@form
def long_convolution_recurrent(kernel, u, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1), read aloud: a window of the last L inputs moves along."""
    dtype, (kernel, u, state) = u.dtype, enter(kernel, u, initial_state)
    if state is None:
        state = u.new_zeros(u.shape[0], kernel.shape[1] - 1, u.shape[2])
    weights, steps = kernel.flip(-1).T, []
    for t, x in enumerate(u.unbind(1)):
        window = torch.cat([cleared(state, reset, t), x.unsqueeze(1)], dim=1)
        steps.append((weights * window).sum(1))
        state = window[:, 1:]
    return along_time(steps, u).to(dtype), state


@form
def long_convolution_fft(kernel, u, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """The product of spectra, padded so that nothing wraps around."""
    return in_stretches(spectra, kernel, u, initial_state, reset)


@form
def long_convolution_dense(kernel, u, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Equation (1) as the matrix it is, empty between steps that a reset parts."""
    time, (kernel, x, state) = u.shape[1], enter(kernel, u, initial_state)
    before = kernel.shape[1] - 1
    x = torch.cat([x.new_zeros(x.shape[0], before, x.shape[2]) if state is None else state, x], dim=1)
    matrix = toeplitz(kernel, before + time)[:, before:].unsqueeze(0)
    if reset is None:
        return (matrix @ x.mT.unsqueeze(-1)).squeeze(-1).mT.to(u.dtype), latest(x, before)
    sequence = sequences(reset, before)
    same = (sequence[:, before:, None] == sequence[:, None, :]).unsqueeze(1)
    kept = x.masked_fill((sequence != sequence[:, -1:]).unsqueeze(-1), 0)
    return (matrix.where(same, 0) * x.mT.unsqueeze(-2).where(same, 0)).sum(-1).mT.to(u.dtype), latest(kept, before)


@form(refuses=real_single)
def long_convolution_fused(kernel, u, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    """Blocks of short transforms that stay in the cache, several channels side by side."""
    before = None if initial_state is None else initial_state.float()
    y, state = in_stretches(operators().long_convolution, kernel.float(), u.float(), before, reset)
    return y.to(u.dtype), state


def in_stretches(
    convolve: Callable[[Tensor, Tensor, int], Tensor], kernel: Tensor, u: Tensor, initial_state: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y and the last state, from convolve(kernel, x, before): the outputs of x but for the first `before`. Cut where any row is reset."""
    if u.numel() == 0 or (reset is not None and not readable(reset)):
        return long_convolution_dense(kernel, u, initial_state, reset)
    kernel, x, state = enter(kernel, u, initial_state)
    cuts = [0, u.shape[1]] if reset is None else sorted({0, u.shape[1], *(int(t) for t in reset.any(0).nonzero())})
    outputs = []
    for start, stop in pairwise(cuts):
        seen = x[:, start:stop] if state is None else torch.cat([cleared(state, reset, start), x[:, start:stop]], dim=1)
        outputs.append(convolve(kernel, seen, 0 if state is None else state.shape[1]))
        state = latest(seen, kernel.shape[1] - 1)
    assert state is not None
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)).to(u.dtype), state


def enter(kernel: Tensor, u: Tensor, initial_state: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """kernel, u and the state in the working precision."""
    working = working_dtype(kernel, u, initial_state)
    return kernel.to(working), u.to(working), None if initial_state is None else initial_state.to(working)


def latest(x: Tensor, count: int) -> Tensor:
    """The last `count` steps of x, zeros before the first; a copy, since x may be what the caller goes on to write into."""
    if x.shape[1] < count:
        return torch.cat([x.new_zeros(x.shape[0], count - x.shape[1], x.shape[2]), x], dim=1)
    return x[:, x.shape[1] - count :].clone()


@twin("long_convolution")
def spectra(kernel: Tensor, x: Tensor, before: int) -> Tensor:
    """Outputs `before` .. of x [B, T, D] by one transform of everything."""
    time, taps = x.shape[1], min(x.shape[1], kernel.shape[1])
    length = 1 << (time + taps - 2).bit_length()
    spectrum = torch.fft.rfft(kernel[:, :taps], n=length)
    return torch.fft.irfft(torch.fft.rfft(x, n=length, dim=1) * spectrum.T, n=length, dim=1)[:, before:time]


def toeplitz(kernel: Tensor, time: int) -> Tensor:
    """M[t, s] = K_{t-s} for s <= t, else 0.   kernel [..., L] -> [..., T, T]"""
    lag = torch.arange(time, device=kernel.device)
    lag = lag[:, None] - lag[None, :]
    padded = torch.nn.functional.pad(kernel, (1, max(0, time - kernel.shape[-1])))
    return padded[..., lag.clamp(min=-1) + 1]
