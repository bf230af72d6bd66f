"""Numba kernels for the CPU: the fused form of every operation.

Numba compiles a kernel the first time it meets a combination of arguments (with or without a decay, resets, a gate ...) and
keeps the machine code on disk, beside this package or in the user's cache folder. `warmup` meets every combination now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def warmup(progress: Callable[[str, int, int], None] = lambda name, done, of: None) -> int:
    """Compile every kernel that is not on disk yet; `progress(name, done, of)` before each. Returns how many combinations there are."""
    import torch

    from separatrix.recurrence import OPERATIONS

    calls = list(_combinations())
    for done, (operation, arguments) in enumerate(calls):
        progress(operation, done, len(calls))
        leaves = [x.requires_grad_() if isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex()) else x for x in arguments]
        y, final = OPERATIONS[operation]["fused"](*leaves)
        (y.abs().sum() + final.abs().sum()).backward()
    return len(calls)


def _combinations() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """One small call for every set of arguments that has machine code of its own."""
    import torch

    B, T, H, N = 1, 3, 1, 2
    qkv = lambda: (torch.ones(B, T, H, N), torch.ones(B, T, H, N), torch.ones(B, T, H, N))
    for decay in (lambda: None, lambda: -torch.ones(B, T, H), lambda: -torch.ones(B, T, H, N)):
        yield "linear_attention", (*qkv(), decay())
        yield "delta_rule", (*qkv(), torch.ones(B, T, H), decay())
