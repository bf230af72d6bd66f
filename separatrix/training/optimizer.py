"""The optimizer: AdamW in groups, a warm-up and a cosine, a clipped gradient, an average of the weights.

    lr_t = lr min(t / warm_up, 1) (floor + (1 - floor) (1 + cos(π (t - 1) / steps)) / 2)          t = 1, 2, ...  (1)
    θ̄_t = d_t θ̄_{t-1} + (1 - d_t) θ_t,     d_t = min(d, (1 + t) / (10 + t))                                        (2)

Matrices decay; biases, norms and everything that sets how a state moves do not: a decayed log rate is a rate pulled towards 1.

Paper    Loshchilov & Hutter 2019, arXiv:1711.05101 (AdamW); Gu et al. 2022, arXiv:2111.00396 (no decay on A, Δ; their smaller rate).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from separatrix.training.recipe import Recipe

FLOOR = 0.01  # of the rate at the end: the last steps still move, and (2) averages over them


def adamw(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW in groups: matrices, vectors, and what sets how a state moves (marked `_no_weight_decay`), with a rate of its own."""
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            recurrent = getattr(parameter, "_no_weight_decay", False)
            rate = recipe.recurrence_rate if recurrent else 1.0
            groups.setdefault((parameter.ndim > 1 and not recurrent, rate), []).append(parameter)
    return torch.optim.AdamW(
        [dict(params=members, lr=recipe.lr * rate, rate=rate, weight_decay=recipe.weight_decay if decays else 0.0)
         for (decays, rate), members in groups.items()],
        betas=(0.9, 0.98), fused=True,
    )  # fmt: skip


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, step: int) -> float:
    """Put (1) for the step after `step` finished ones into every group."""
    cosine = (1 + math.cos(math.pi * step / recipe.steps)) / 2
    lr = recipe.lr * min((step + 1) / max(recipe.warm_up, 1), 1.0) * (FLOOR + (1 - FLOOR) * cosine)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]
    return lr


@torch.no_grad()
def average(mean: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """(2), in place, for parameters; buffers are copied."""
    moving = dict(model.named_parameters(remove_duplicate=False))  # a weight in two places has two means, and both are kept
    torch._foreach_lerp_([mean[name] for name in moving], list(moving.values()), 1 - min(decay, (1 + step) / (10 + step)))
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if name in mean:
            mean[name].copy_(buffer)
