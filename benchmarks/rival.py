"""One way to run an operation.

A `Rival` binds an operation's inputs, outside the clock: it brings them into the layout it likes best and compiles what it compiles.
What comes back is a `Call`, whose two methods are what the clock sees:

    forward()       the output, no gradients recorded
    both()          the output and the gradients of <weight, output> with respect to every input

Both return tensors in our layout ([batch, time, ...]) through `read`, which is outside the clock again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Inputs = Mapping[str, Tensor]


class Absent(Exception):
    """This rival is not installed here; the message says what would install it."""


class Call(Protocol):
    def forward(self) -> Any: ...

    def both(self) -> Any: ...

    def read(self, result: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Output and gradients (none after `forward`) as tensors in our layout."""
        ...


@dataclass(frozen=True)
class Rival:
    name: str
    bind: Callable[[Inputs, Tensor], Call]  # inputs, weight of the output
    trains: bool = True  # False: it has no backward
    longest_training: int | None = None  # steps beyond which its backward, quadratic in time, would take minutes


class TorchCall:
    """A function of tensors, differentiated by autograd."""

    def __init__(self, function: Callable[..., Tensor], inputs: Inputs, weight: Tensor, heads_first: bool = False):
        self.turn = (lambda x: x.transpose(1, 2).contiguous()) if heads_first else (lambda x: x)
        self.function, self.weight = function, self.turn(weight)
        self.sequences = {name for name, x in inputs.items() if is_sequence(x, weight)}
        self.inputs = {name: self._turned(name, x).detach().requires_grad_() for name, x in inputs.items()}

    def _turned(self, name: str, x: Tensor) -> Tensor:
        return self.turn(x) if name in self.sequences else x

    def forward(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        with torch.no_grad():
            return self.function(**self.inputs), ()

    def both(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        y = self.function(**self.inputs)
        return y, torch.autograd.grad(y, tuple(self.inputs.values()), self.weight)

    def read(self, result) -> tuple[Tensor, dict[str, Tensor]]:
        y, gradients = result
        return self.turn(y.detach()), {name: self._turned(name, g) for name, g in zip(self.inputs, gradients)}


def torch_rival(name: str, function: Callable[..., Tensor], heads_first: bool = False, **limits) -> Rival:
    """heads_first: the function wants [B, H, T, ...] (or [B, D, T]) where we have [B, T, H, ...] (or [B, T, D])."""
    return Rival(name, lambda inputs, weight: TorchCall(function, inputs, weight, heads_first), **limits)


def is_sequence(x: Tensor, output: Tensor) -> bool:
    """Whether `x` has the batch and time axes of the output; parameters have not."""
    return x.ndim >= 3 and x.shape[:2] == output.shape[:2]
