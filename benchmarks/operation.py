"""One row of the benchmark's table: an operation beside its rivals, its floor and its bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.rival import Rival, torch_rival

Shape = dict[str, int]
OURS = "separatrix"


@dataclass(frozen=True)
class Bar:
    """Ours takes at most `factor` of what the fastest of `rivals` takes."""

    direction: str  # "forward", "both" or "step"
    factor: float
    rivals: tuple[str, ...]
    their_direction: str | None = None  # where it is not the same one

    def __str__(self) -> str:
        their = self.their_direction or self.direction
        named = " or ".join(self.rivals) + (" forward" if their != self.direction else "")
        return f"{DIRECTIONS[self.direction]}: at most {self.factor:.3g} x {named}"


DIRECTIONS = {"forward": "forward", "both": "forward + backward", "step": "one step"}


@dataclass(frozen=True)
class Work:
    """Floating point operations and bytes of the leanest algorithm."""

    flops: dict[str, float]
    moved: dict[str, float]


@dataclass(frozen=True)
class Operation:
    name: str
    shapes: dict[str, Shape]  # "S" and "L"
    inputs: Callable[[Shape], dict[str, Tensor]]  # float32; drawn from torch's generator
    like: str  # the input that the output has the shape of; or the output's axes, in letters of the shape
    ours: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    rivals: tuple[Rival, ...]
    work: Callable[[Shape], Work]
    bars: tuple[Bar, ...] = ()
    grows: bool = True  # measured against length
    alike: bool = True  # a step from rest is as much work as any other
    ours_rival: Rival | None = field(default=None)  # where calling `ours` is not all there is to it

    @property
    def us(self) -> Rival:
        return self.ours_rival or torch_rival(OURS, self.ours)

    def draw(self, shape: Shape, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and the weight of the output."""
        torch.manual_seed(seed)
        inputs = self.inputs(shape)
        return inputs, torch.randn_like(inputs[self.like]) if self.like in inputs else torch.randn([shape[axis] for axis in self.like])


@dataclass(frozen=True)
class First:
    """The output of an operation, without the final state."""

    function: Callable[..., tuple[Tensor, Any]]

    def __call__(self, **inputs: Tensor) -> Tensor:
        return self.function(**inputs)[0]


def bars(forward: float, both: float, rivals: tuple[Rival, ...]) -> tuple[Bar, ...]:
    names = tuple(rival.name for rival in rivals)
    return Bar("forward", forward, names), Bar("both", both, names)


def rivals(operation: Operation) -> tuple[Rival, ...]:
    """Ours first."""
    return operation.us, *operation.rivals
