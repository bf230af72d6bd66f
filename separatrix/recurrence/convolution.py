"""A causal convolution as long as the sequence.

    y_t[d] = sum_{s <= t} K_{t-s}[d] u_s[d]                                                                       (1)

Paper    Gu et al. 2021 (S4), arXiv:2111.00396.
Cost     O(T log T) by the FFT, O(T²) as the Toeplitz matrix it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_axes, expect_numbers, expect_real, expect_shape, working_dtype
from separatrix.recurrence.plan import form, run


def long_convolution(kernel: Tensor, u: Tensor) -> Tensor:
    """y_t = sum_{s <= t} K_{t-s} u_s.   kernel [D, L], u [B, T, D] -> y [B, T, D]; taps beyond L are zero."""
    expect_numbers("kernel", kernel, u=u)
    expect_real(kernel=kernel, u=u)
    expect_axes("kernel", kernel, "channels, taps")
    expect_axes("u", u, "batch, time, channels")
    expect_shape("kernel", kernel, (u.shape[2], kernel.shape[1]), "channels, taps")
    return run("long_convolution", u.shape[1], kernel, u)


@form
def long_convolution_fft(kernel: Tensor, u: Tensor) -> Tensor:
    """The product of spectra, padded so that nothing wraps around."""
    working, time = working_dtype(kernel, u), u.shape[1]
    if time == 0 or kernel.shape[1] == 0:
        return torch.zeros_like(u)
    length = 1 << (time + min(time, kernel.shape[1]) - 2).bit_length()
    spectrum = torch.fft.rfft(kernel[:, :time].to(working), n=length)
    y = torch.fft.irfft(torch.fft.rfft(u.to(working), n=length, dim=1) * spectrum.T, n=length, dim=1)
    return y[:, :time].to(u.dtype)


@form
def long_convolution_dense(kernel: Tensor, u: Tensor) -> Tensor:
    """Equation (1) as the matrix it is."""
    working = working_dtype(kernel, u)
    matrix = toeplitz(kernel.to(working), u.shape[1])
    return torch.einsum("dts,bsd->btd", matrix, u.to(working)).to(u.dtype)


def toeplitz(kernel: Tensor, time: int) -> Tensor:
    """M[t, s] = K_{t-s} for s <= t, else 0.   kernel [..., L] -> [..., T, T]"""
    lag = torch.arange(time, device=kernel.device)
    lag = lag[:, None] - lag[None, :]
    padded = torch.nn.functional.pad(kernel, (1, max(0, time - kernel.shape[-1])))
    return padded[..., lag.clamp(min=-1) + 1]
