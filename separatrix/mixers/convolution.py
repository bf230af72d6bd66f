"""The short convolution in front of a selective recurrence, with its weights: see `recurrence/short_convolution.py`."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from separatrix.recurrence import short_convolution
from separatrix.recurrence.checks import expect_count


class ShortConvolution(nn.Module):
    """y_t = silu(b + sum_i w_i u_{t-K+1+i}).    u [B, T, channels] -> y [B, T, channels], tail [B, width - 1, channels]

    channels  C, each with a filter of its own.
    width     K, steps that the filter sees, the present one included.
    bias      whether each channel has an offset.
    """

    def __init__(self, channels: int, width: int = 4, *, bias: bool = True, generator: Generator | None = None):
        super().__init__()
        expect_count("d_conv", width)
        self.tail_shape = (width - 1, channels)
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound, generator=generator)) if bias else None

    def forward(self, u: Tensor, tail: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # In the dtype of the weights: under autocast u arrives in bfloat16, and the tail is a state.
        return short_convolution(u.to(self.weight.dtype), self.weight[:, 0], self.bias, True, tail, reset)
