"""What a fit asks of a `ForecastModel`, with gradients: `listen` and `roll`, by a program of one step.

Training a small network on its free run is forty steps of Python, forward and back, for a millisecond of arithmetic, and hearing a series
with gaps a hundred. Where a step can be recorded (`recording/iterated.py`) and is small, it is played instead; everywhere else these are
the model's own calls, which are the definition.

Departs  first derivatives only, and modules are not called, so their hooks do not hear of it.
"""

from __future__ import annotations

import logging
from typing import cast

import torch
from torch import Tensor, nn

from separatrix.models.forecaster import ForecastModel
from separatrix.models.recording import Iterated
from separatrix.models.recording.aten import Unsupported
from separatrix.recurrence import State
from separatrix.recurrence.plan import transformed

logger = logging.getLogger("separatrix")

# Torch pays for its calls, some for each tensor of parameters, and a program for its arithmetic: multiply-adds, and STATE for each number
# that is carried. At about so many a tensor the two take as long.
EVEN, STATE = 250_000, 20


class Played:
    """`listen` and `roll` of `model`, as fast as they can be had."""

    def __init__(self, model: ForecastModel):
        self.model = model
        self.records: dict[tuple, Iterated | None] = {}

    def listen(self, z: Tensor, state: State | None) -> tuple[Tensor, State]:
        """`ForecastModel.listen`.    z [B, T, C] with NaN for gaps -> ẑ [B, T, C], state"""
        gap = torch.isnan(z)
        if z.shape[1] < 2 or z.requires_grad or not bool(gap.any()):
            return self.model.listen(z, state)
        first, state = self.model.listen(z[:, :1], state)  # a state with all its parts
        heard = torch.cat([z.nan_to_num(0.0), gap.to(z.dtype)], dim=2)[:, 1:].transpose(0, 1)  # [T - 1, B, 2 C]
        if (record := self._record(state, heard[0])) is None:
            rest, state = self.model.listen(z[:, 1:], state)
            return torch.cat([first, rest], dim=1), state
        guesses, last = record(packed(state), list(self._read().values()), len(heard), heard.flatten(1))
        return torch.cat([first, guesses.transpose(0, 1)], dim=1), unpacked(last, state)

    def roll(self, state: State, steps: int) -> tuple[Tensor, State]:
        """`ForecastModel.roll`.    -> ẑ [B, steps, C], the state after them"""
        if steps < 1 or (record := self._record(state)) is None:
            return self.model.roll(state, steps)
        guesses, last = record(packed(state), list(self._read().values()), steps)
        return torch.cat([cast(Tensor, state.guess)[None], guesses[:-1]]).transpose(0, 1), unpacked(last, state)

    def _read(self) -> dict[str, Tensor]:
        """What a step reads: parameters, then buffers, which may change too; `mean` and `scale` are read outside of it."""
        buffers = {name: x for name, x in self.model.named_buffers() if name not in ("mean", "scale")}
        return {**dict(self.model.named_parameters()), **buffers}

    def _record(self, state: State, *heard: Tensor) -> Iterated | None:
        parts, parameters = state.tensors(), self._read()
        rows = len(cast(Tensor, state.guess))
        work = rows * sum(p.numel() for p in parameters.values()) + STATE * sum(x.numel() for part in parts.values() for x in real(part))
        if (
            not 0 < work <= EVEN * len(parameters)
            or not (torch.is_grad_enabled() and any(p.requires_grad for p in parameters.values()))
            or not all(x.is_cpu and (x.is_floating_point() or x.is_complex()) for x in (*parts.values(), *parameters.values()))
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or transformed()
        ):
            return None
        modules = tuple((module, module.training) for module in self.model.modules())
        key = len(heard), modules, *((name, x.shape, x.dtype) for name, x in (*parts.items(), *parameters.items()))
        if key not in self.records:
            step = _Step(self.model, state.map(lambda part: part[:0].detach()))
            names, given = [f"model.{name}" for name in parameters], 1 + len(heard)

            def call(*inputs: Tensor) -> Tensor:
                reads = dict(zip(names, inputs[given:]))
                before = [(x, x._version) for x in reads.values()]
                rows = torch.func.functional_call(step, reads, inputs[:given])
                if any(x is not was or x._version != version for x, (was, version) in zip(reads.values(), before)):
                    raise Unsupported("a step that writes into what it reads")
                return rows

            try:
                self.records[key] = Iterated(call, packed(state), heard, list(parameters.values()), columns(state, "guess"))
            except Exception as error:  # whatever a tracer may trip over, the model's own calls are still right
                logger.debug("not recorded, its steps are called one by one: %s", error)
                self.records[key] = None
        return self.records[key]


class _Step(nn.Module):
    """Hear a row, or the guess, and guess again, on packed states.    heard [B, 2 C], values and where they are missing"""

    def __init__(self, model: ForecastModel, like: State):
        super().__init__()
        self.model, self.like = model, like

    def forward(self, rows: Tensor, heard: Tensor | None = None) -> Tensor:
        state, gap = unpacked(rows, self.like), None
        z = cast(Tensor, state.guess)
        if heard is not None:
            values, gap = heard.split(self.model.channels, dim=1)
            z, gap = torch.where(gap > 0.5, z, values), gap[:, None]
        _, later = self.model.hear(z[:, None], state, gap)
        after, names = later.tensors(), iter(self.like.tensors())
        return packed(self.like.map(lambda _: after[next(names)]))


def packed(state: State) -> Tensor:
    """Every number of a state in one row per batch row, real parts and imaginary parts apart.    [B, n]"""
    return torch.cat([x.flatten(1) for part in state.tensors().values() for x in real(part)], dim=1)


def unpacked(rows: Tensor, like: State) -> State:
    """The state whose `packed` is `rows`, with the parts of `like`, whatever its batch."""
    columns = iter(rows.split([x.shape[1:].numel() for part in like.tensors().values() for x in real(part)], dim=1))

    def take(part: Tensor) -> Tensor:
        taken = [next(columns).unflatten(1, part.shape[1:]) for _ in real(part)]
        return torch.complex(*taken) if part.is_complex() else taken[0]

    return like.map(take)


def columns(state: State, name: str) -> slice:
    """Where a real part of the state lies in `packed`."""
    sizes = {part: sum(x.shape[1:].numel() for x in real(tensor)) for part, tensor in state.tensors().items()}
    start = sum(list(sizes.values())[: list(sizes).index(name)])
    return slice(start, start + sizes[name])


def real(part: Tensor) -> tuple[Tensor, ...]:
    return (part.real, part.imag) if part.is_complex() else (part,)
