"""How equal two roads must be: measured, not chosen.

An honest algorithm may stray about as far as the problem itself does when its inputs move by one rounding. So the reference, in float64, is
run once more on nudged inputs, and that distance times a small factor is all that a faster road in `dtype` is allowed.

    agree(fast, slow, inputs, dtype)                            outputs
    agree(gradient(fast), gradient(slow), inputs, dtype)        gradients to every floating point input

Inputs may be None, flags or integers too; outputs a tensor or a tuple of tensors.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def agree(fast: Callable, slow: Callable, inputs: tuple, dtype: torch.dtype, factor: float = 3, because: str = "", nudges: int = 1) -> None:
    """`fast` in `dtype` against `slow` in float64. A factor above 3 needs a reason.

    The ruler is the farthest of so many nudges: where the inputs are two or three numbers, rounding may swallow a single one.
    """
    assert factor <= 3 or because, "a road that needs more says why"
    generator = torch.Generator().manual_seed(1)
    exact = slow(*inputs)
    allowed = factor * max(distance(slow(*(nudge(x, dtype, generator) for x in inputs)), exact) for _ in range(nudges))
    strayed = distance(fast(*(cast(x, dtype) for x in inputs)), exact)
    assert strayed <= allowed, f"strayed {strayed:.1e}, allowed {allowed:.1e}"


def nudge(x: Any, dtype: torch.dtype, generator: torch.Generator | None = None) -> Any:
    """x, moved by about one rounding of `dtype`."""
    if not is_number(x):
        return x
    noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    return x * (1 + torch.finfo(matching(x, dtype)).eps * noise)


def distance(got: Any, want: Any) -> float:
    """The worst step, against the largest state; of several outputs, the worst."""
    if isinstance(got, tuple):
        assert len(got) == len(want)
        return max((distance(one, other) for one, other in zip(got, want)), default=0.0)
    if got is None or want is None:
        assert got is want
        return 0.0
    assert got.shape == want.shape, f"{list(got.shape)} is not {list(want.shape)}"
    if want.numel() == 0:
        return 0.0
    gap = (got.to(want.dtype) - want).norm(dim=-1).amax()
    size = want.norm(dim=-1).amax()
    return float(gap / size) if size > 0 else float(gap)


def gradient(road: Callable) -> Callable:
    """The road whose outputs are the gradients of a fixed random loss with respect to every floating point input."""

    def gradients(*inputs: Any) -> tuple[Tensor | None, ...]:
        leaves = [x.detach().requires_grad_() if is_number(x) else x for x in inputs]
        loss = weighted_sum(road(*leaves))
        wanted = [x for x in leaves if is_number(x)]
        if not loss.requires_grad:
            return tuple(torch.zeros_like(x) for x in wanted)
        return torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)

    return gradients


def weighted_sum(outputs: Any, seed: int = 2) -> Tensor:
    """A loss that every number of every output moves; its weights are quarters, the same in every dtype."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(seed)
    loss = torch.zeros((), dtype=torch.float64)
    for y in outputs:
        y = torch.view_as_real(y.resolve_conj()) if y.is_complex() else y
        weights = torch.randint(-8, 9, y.shape, generator=generator) / 4
        loss = loss + (y.double() * weights).sum()
    return loss


def cast(x: Any, dtype: torch.dtype) -> Any:
    return x.to(matching(x, dtype)) if is_number(x) else x


def matching(x: Tensor, dtype: torch.dtype) -> torch.dtype:
    """`dtype`, or the complex dtype that goes with it; there is no complex bfloat16."""
    if not x.is_complex():
        return dtype
    return torch.complex128 if dtype is torch.float64 else torch.complex64


def is_number(x: Any) -> bool:
    return isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
