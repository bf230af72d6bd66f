"""RMS norm as a layer: see `recurrence/norm.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from separatrix.mixers.settings import expect_divides
from separatrix.recurrence.norm import rms_norm


class RMSNorm(nn.Module):
    """y = w x / (mean x² + eps)^(1/2), times silu(z) where there is a gate.    x, z [..., channels] -> y [..., channels]

    channels  each with a weight of its own.
    groups    of channels, each with a mean of its own.
    eps       added to the mean square.
    """

    def __init__(self, channels: int, *, groups: int = 1, eps: float = 1e-5):
        super().__init__()
        expect_divides("groups", groups, "channels", channels)
        if not eps >= 0:
            raise ValueError(f"eps is {eps} but must be 0 or more.")
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, groups={self.groups}, eps={self.eps}"

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        return rms_norm(x, self.weight.view(self.groups, -1), z, self.eps)
