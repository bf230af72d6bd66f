"""A short causal convolution, one filter a channel, whose tail is part of the state.

    y_t = b + sum_j w_j u_{t-j},   j = 0 .. d_conv - 1                                           (1)

What it carries from one call to the next is its last d_conv - 1 inputs (zeros at rest). A reset clears them like any state: taps
that would reach behind a reset read zero. Written as d_conv multiply-adds of shifted views in [batch, time, channel], which needs
no transposition and takes the reset as a mask.

Paper    Gu and Dao 2023, arXiv:2312.00752, section 3.4 (in front of a selective recurrence).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn


def short_convolution(
    u: Tensor, weight: Tensor, bias: Tensor | None = None, tail: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """u [B, T, C], weight [C, 1, K] (oldest tap first), bias [C], tail [B, K-1, C], reset [B, T] -> y [B, T, C], tail [B, K-1, C]"""
    B, T, C = u.shape
    K = weight.shape[2]
    if tail is None:
        tail = u.new_zeros(B, K - 1, C)
    if T == 1:  # the decoding step: one product with the window
        seen = torch.cat([tail if reset is None else tail.masked_fill(reset[..., None], 0), u], dim=1)
        y = (seen * weight[:, 0].T).sum(1, keepdim=True)
        return y if bias is None else y + bias, seen[:, 1:]  # a view, which keeps one row more alive
    seen = torch.cat([tail, u], dim=1)
    document = None if reset is None else torch.cat([reset.new_zeros(B, K - 1, dtype=torch.long), reset.cumsum(1)], dim=1)
    y = u.new_zeros(()) if bias is None else bias
    for j in range(K):
        past = seen[:, j : j + T]
        if document is not None:
            past = past.masked_fill((document[:, j : j + T] != document[:, K - 1 :])[..., None], 0)
        y = torch.addcmul(y, past, weight[:, 0, j])
    kept = seen[:, T:]
    if document is not None and T:
        kept = kept.masked_fill((document[:, T:] != document[:, -1:])[..., None], 0)
    return y, kept.clone()  # a copy: a view would keep the whole sequence alive inside a small state


class ShortConvolution(nn.Module):
    """(1) with its weights.    u [B, T, channels] -> y [B, T, channels], tail [B, width - 1, channels]

    channels  C, each with a filter of its own.
    width     K, steps that the filter sees, the present one included.
    bias      whether each channel has an offset.
    """

    def __init__(self, channels: int, width: int = 4, *, bias: bool = True, generator: Generator | None = None):
        super().__init__()
        if width < 1:
            raise ValueError(f"d_conv is {width} but a convolution sees at least 1 step. Use d_conv = 1 for none of the past.")
        self.tail_shape = (width - 1, channels)
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, width).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound, generator=generator)) if bias else None

    def forward(self, u: Tensor, tail: Tensor | None = None, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # In the dtype of the weights: under autocast u arrives in bfloat16, and the tail is a state.
        return short_convolution(u.to(self.weight.dtype), self.weight, self.bias, tail, reset)
