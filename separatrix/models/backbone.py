"""A network is a list of mixers with a residual stream past them.

    x <- x + mixer_i(norm(x)),   x <- x + W_2 (silu(W_1 x') W_3 x') with x' = norm(x),   y = norm(x)               (1)

The second sum is there when d_ff is given. The backbone keeps the mixers' contract (any length, a state that is a value, resets), so
it is a mixer itself; its state holds the state of layer i under the name layer{i}.

Paper    Xiong et al. 2020, arXiv:2002.04745 (norm before); Shazeer 2020, arXiv:2002.05202 (SwiGLU).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from separatrix.mixers.door import expect_input, parts_of_layers
from separatrix.mixers.initial import linear
from separatrix.mixers.norm import RMSNorm
from separatrix.recurrence import State, Transition
from separatrix.recurrence.checks import expect_count


class Visit(NamedTuple):
    """One layer as instruments meet it on the way of a sequence through the network."""

    name: str
    mixer: nn.Module
    x: Tensor  # what the mixer hears, [B, T, D], already normalised
    before: State | None  # its state before the first step
    y: Tensor  # what it adds to the stream, [B, T, D]
    after: State  # its state after the last step


class SwiGLU(nn.Module):
    """W_2 (silu(W_1 x) * W_3 x), the same for every step.    x [B, T, D] -> [B, T, D]

    d_model  D, channels in and out.
    d_ff     channels inside.
    """

    def __init__(self, d_model: int, d_ff: int, *, generator: Generator | None = None):
        super().__init__()
        expect_count("d_ff", d_ff)
        self.in_proj = linear(d_model, 2 * d_ff, generator=generator)
        self.out_proj = linear(d_ff, d_model, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(F.silu(gate) * value)


class Block(nn.Module):
    """One layer of (1)."""

    def __init__(self, d_model: int, mixer: nn.Module, d_ff: int | None, eps: float, generator: Generator | None):
        super().__init__()
        self.norm = RMSNorm(d_model, eps=eps)
        self.mixer = mixer
        self.mlp = None if d_ff is None else nn.Sequential(RMSNorm(d_model, eps=eps), SwiGLU(d_model, d_ff, generator=generator))

    def forward(self, x: Tensor, state: State | None, reset: Tensor | None) -> tuple[Tensor, State]:
        y, state = self.mixer(self.norm(x), state, reset)
        return self.onward(x, y), state

    def onward(self, x: Tensor, y: Tensor) -> Tensor:
        """The stream after this block, y being what its mixer says."""
        x = x + y
        return x if self.mlp is None else x + self.mlp(x)


class Backbone(nn.Module):
    """Mixers in a residual stream, normalised before each.    x [B, T, D] -> y [B, T, D], State(layer0=..., layer1=..., ...)

        x <- x + mixer_i(norm(x)),  x <- x + mlp(norm(x)),  y = norm(x)

    d_model  D, channels of the stream.
    mixers   the layers, in order; each maps [B, T, D] to [B, T, D] under the mixers' contract.
    d_ff     channels inside the SwiGLU map after every mixer; None for no such map.
    eps      added to the mean square in the norms.
    """

    def __init__(
        self, d_model: int, mixers: Sequence[nn.Module], d_ff: int | None = None, *, eps: float = 1e-5, generator: Generator | None = None
    ):
        super().__init__()
        for i, mixer in enumerate(mixers):
            if not isinstance(mixer, nn.Module):
                raise TypeError(f"mixers[{i}] is {mixer!r} but must be a module, such as GRU({d_model}).")
        if len(set(map(id, mixers))) != len(mixers):
            raise ValueError("mixers lists one module twice, and the two would share their weights. Build one for every layer.")
        for i, mixer in enumerate(mixers):
            if (width := getattr(mixer, "d_model", d_model)) != d_model:
                raise ValueError(f"mixers[{i}] has d_model = {width} but the backbone has {d_model}. Build it with {d_model}.")
        self.d_model = d_model
        self.layers = nn.ModuleList(Block(d_model, mixer, d_ff, eps, generator) for mixer in mixers)
        self.norm = RMSNorm(d_model, eps=eps)

    def forward(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> tuple[Tensor, State]:
        """Any length, from `state` or from rest; true in reset [B, T] clears the state before that step."""
        expect_input(x, self.d_model, self.norm.weight, reset)
        before = parts_of_layers(state, len(self.layers))
        after: dict[str, State] = {}
        for (name, was), block in zip(before.items(), self.layers):
            x, after[name] = block(x, was, reset)
        return self.norm(x), State(**after)

    def walk(self, x: Tensor, state: State | None = None, reset: Tensor | None = None) -> Iterator[Visit]:
        """Every layer in order, with what it hears, says, and remembers when the network runs along x."""
        expect_input(x, self.d_model, self.norm.weight, reset)
        for (name, before), block in zip(parts_of_layers(state, len(self.layers)).items(), self.blocks()):
            heard = block.norm(x)
            y, after = block.mixer(heard, before, reset)
            yield Visit(name, block.mixer, heard, before, y, after)
            x = block.onward(x, y)

    def blocks(self) -> list[Block]:
        """The layers with their norms, in order."""
        return cast("list[Block]", list(self.layers))

    def transitions(self, x: Tensor, state: State | None = None) -> Iterator[tuple[str, Transition]]:
        """What x makes the recurrent state of each layer undergo, for the layers where that is linear."""
        for visit in self.walk(x, state):
            if (transition := getattr(visit.mixer, "transition", None)) is not None:
                yield visit.name, transition(visit.x, visit.before)
