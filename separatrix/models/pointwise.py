"""A backbone without memory: the same map at every step.

    x <- x + W_2 (silu(W_1 x') W_3 x') with x' = norm(x),    y = norm(x)                                           (1)

Behind a delay embedding this is the classical nonlinear autoregression, the yardstick that a recurrent state has to beat.

Paper    Lapedes & Farber 1987, Los Alamos LA-UR-87-2662; Wan 1994, in Weigend & Gershenfeld, Time Series Prediction.
"""

from __future__ import annotations

from torch import Generator, Tensor, nn

from separatrix.mixers.door import expect_input, parts
from separatrix.mixers.norm import RMSNorm
from separatrix.models.backbone import SwiGLU
from separatrix.recurrence import State
from separatrix.recurrence.checks import expect_count


class Pointwise(nn.Module):
    """Residual maps of one step, normalised before each.    x [B, T, D] -> y [B, T, D], the empty State

    d_model  D, channels of the stream.
    layers   how many maps.
    d_ff     channels inside each.
    """

    def __init__(self, d_model: int, *, layers: int = 2, d_ff: int = 64, generator: Generator | None = None):
        super().__init__()
        self.d_model = expect_count("d_model", d_model)
        expect_count("layers", layers)
        self.maps = nn.ModuleList(nn.Sequential(RMSNorm(d_model), SwiGLU(d_model, d_ff, generator=generator)) for _ in range(layers))
        self.norm = RMSNorm(d_model)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        expect_input(x, self.d_model, self.norm.weight, reset)
        parts(state, x.shape[0])
        for residual in self.maps:
            x = x + residual(x)
        return self.norm(x), State()
