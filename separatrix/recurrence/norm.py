"""The norm around a recurrence, with the gate that often follows it.

    y = w x / (mean x² + eps)^(1/2),    times silu(z) where there is a gate z                                      (1)

On a CPU torch composes a norm of half a dozen operations, and its backward of twice as many. Here it is one kernel; whoever has to see
inside (other devices and precisions, `torch.func`, `torch.compile`, which fuses by itself, and whoever records single operations, to play
them back without the dispatcher's 50 us for ours) gets the plain form.

Paper    Zhang and Sennrich 2019, arXiv:1910.07467.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence.checks import expect_axes, expect_numbers, expect_real, expect_shape
from separatrix.recurrence.fused import operators
from separatrix.recurrence.plan import single
from separatrix.recurrence.twins import twin


def rms_norm(x: Tensor, weight: Tensor, z: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """y = w x / (mean x² + eps)^(1/2), times silu(z) where there is a gate z; the mean is over each group of channels.

    x, z [..., groups * size], weight w [groups, size]  ->  y [..., groups * size].

    In float32 the plain form, like torch's own, is 0 where |x| exceeds 1e19, whose square is infinite; the kernel is not.

    Paper    Zhang and Sennrich 2019, arXiv:1910.07467.
    Raises   ValueError for shapes that do not fit and eps < 0; TypeError unless all are real floats.
    """
    expect_numbers("x", x, weight=weight, z=z)
    expect_real(x=x, weight=weight, z=z)
    expect_axes("weight", weight, "groups, size")
    if x.shape[-1:] != (weight.numel(),):
        raise ValueError(f"x is {list(x.shape)}, expected {weight.numel()} channels, one for each weight")
    if z is not None:
        expect_shape("z", z, tuple(x.shape), "..., channels")
    if not eps >= 0:
        raise ValueError(f"eps is {eps}, expected 0 or more")
    inputs = (x, weight) if z is None else (x, weight, z)
    if single(inputs):
        return operators().rms_norm(x, weight, z, eps)
    return rms_norm_plain(x, weight, z, eps)


@twin("rms_norm")
def rms_norm_plain(x: Tensor, weight: Tensor, z: Tensor | None, eps: float) -> Tensor:
    size = weight.shape[1:]
    if len(weight) == 1:
        y = F.rms_norm(x, size, weight[0], eps)
    else:
        y = F.rms_norm(x.unflatten(-1, weight.shape), size, None, eps).flatten(-2) * weight.flatten()
    return y if z is None else y * F.silu(z)
