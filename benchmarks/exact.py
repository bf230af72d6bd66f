"""Right before fast.

An honest algorithm may stray about as far as the problem itself does when its inputs move by one rounding of their type:

    allowed = FACTOR * distance(definition(nudged inputs), definition(inputs))          in float64

Ours must stay within that, output and every gradient. A peer may stray as far as it likes as long as it is the same function: beyond
`SAME` of the largest value it computes something else and is not timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.rival import Inputs, Rival, TorchCall

FACTOR = 20  # the suite allows 3; here the gradient of what all steps share (A, D) is a float32 sum over a thousand of them
SAME = 1e-2


def distance(got: Tensor, want: Tensor) -> float:
    """The worst step, against the largest."""
    wide = torch.complex128 if want.is_complex() else torch.float64
    rows = max(want.shape[-1], 1)
    got, want = got.to(wide).reshape(-1, rows), want.to(wide).reshape(-1, rows)
    return float((got - want).norm(dim=-1).amax() / want.norm(dim=-1).amax())


@dataclass(frozen=True)
class Judge:
    """The definition in float64, and how far one rounding of the inputs moves it."""

    values: dict[str, Tensor]  # "output" and the gradient of every input
    moves: dict[str, float]

    def strayed(self, values: dict[str, Tensor]) -> dict[str, float]:
        """How far each value is off, in units of the move of one rounding and in absolute terms of the largest value."""
        return {name: distance(value, self.values[name]) for name, value in values.items()}

    def ours(self, rival: Rival, inputs: Inputs, weight: Tensor) -> float:
        """The largest straying, in moves of one rounding.    ValueError when that is more than FACTOR."""
        strayed = self.strayed(_run(rival, inputs, weight))
        off = {name: far / self.moves[name] if far else 0.0 for name, far in strayed.items()}
        worst = max(off, key=lambda name: off[name])
        if not off[worst] <= FACTOR:
            raise ValueError(f"{rival.name}: {worst} strays {off[worst]:.1f} roundings of its inputs, allowed {FACTOR}")
        return off[worst]

    def peer(self, rival: Rival, inputs: Inputs, weight: Tensor) -> float:
        """The largest straying, relative.    ValueError when this is not the same function."""
        off = self.strayed(_run(rival, inputs, weight))
        worst = max(off, key=lambda name: off[name])
        if not off[worst] <= SAME:
            raise ValueError(f"{rival.name}: {worst} is off by {off[worst]:.1e} of the largest value")
        return off[worst]


def judge(definition: Callable[..., Tensor], inputs: Inputs, weight: Tensor) -> Judge:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a definition is a loop over small tensors: a thread team only slows it
    try:
        exact = _values(definition, {name: _wide(x) for name, x in inputs.items()}, _wide(weight))
        moved = _values(definition, {name: nudge(x) for name, x in inputs.items()}, nudge(weight))
    finally:
        torch.set_num_threads(threads)
    return Judge(exact, {name: distance(moved[name], exact[name]) for name in exact})


def nudge(x: Tensor) -> Tensor:
    """`x` in float64, moved by one rounding of its own type."""
    wide = _wide(x)
    return wide * (1 + torch.finfo(x.dtype).eps * torch.randn(x.shape, dtype=torch.float64))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def _values(function: Callable[..., Tensor], inputs: Inputs, weight: Tensor) -> dict[str, Tensor]:
    call = TorchCall(function, inputs, weight)
    y, gradients = call.read(call.both())
    return {"output": y, **gradients}


def _run(rival: Rival, inputs: Inputs, weight: Tensor) -> dict[str, Tensor]:
    call = rival.bind(inputs, weight)
    time = weight.shape[1]
    trains = rival.trains and (rival.longest_training is None or time <= rival.longest_training)
    y, gradients = call.read(call.both() if trains else call.forward())
    return {"output": y, **gradients}
