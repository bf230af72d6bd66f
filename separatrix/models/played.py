"""What a fit asks of a `ForecastModel`, with gradients: `listen` and `roll`, by a program of one step.

Training a small network on its free run is forty steps of Python, forward and back, for a few milliseconds of arithmetic; hearing a
series with gaps is a hundred. Where a step can be recorded (`recording/iterated.py`) and is small, it is played instead; everywhere else
these are the model's own calls, which are the definition.

Departs  first derivatives only, and modules are not called, so their hooks do not hear of it.
"""

from __future__ import annotations

import logging
from typing import cast

import torch
from torch import Tensor, nn

from separatrix.models.forecaster import ForecastModel
from separatrix.models.recording import Iterated, Unsupported
from separatrix.recurrence import State
from separatrix.recurrence.plan import interpreted, transformed

log = logging.getLogger("separatrix")

# Torch's time goes into calls, a few for each tensor of parameters; a program's into arithmetic, a multiply-add for each parameter and
# row and CARRY of them for each number of the state. Measured, the two take equally long at BREAK_EVEN multiply-adds a tensor.
BREAK_EVEN, CARRY = 250_000, 20


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
        guesses, last = record(state.vector(), list(self._read().values()), len(heard), heard.flatten(1))
        return torch.cat([first, guesses.transpose(0, 1)], dim=1), state.like(last)

    def roll(self, state: State, steps: int) -> tuple[Tensor, State]:
        """`ForecastModel.roll`.    -> ẑ [B, steps, C], the state after them"""
        if steps < 1 or (record := self._record(state)) is None:
            return self.model.roll(state, steps)
        guesses, last = record(state.vector(), list(self._read().values()), steps)
        return torch.cat([cast(Tensor, state.guess)[None], guesses[:-1]]).transpose(0, 1), state.like(last)

    def _read(self) -> dict[str, Tensor]:
        """What a step reads: parameters, then buffers, which may change too; `mean` and `scale` are read outside of it."""
        buffers = {name: x for name, x in self.model.named_buffers() if name not in ("mean", "scale")}
        return {**dict(self.model.named_parameters()), **buffers}

    def _record(self, state: State, *heard: Tensor) -> Iterated | None:
        parts, parameters = state.tensors(), self._read()
        rows = len(cast(Tensor, state.guess))
        work = rows * sum(p.numel() for p in parameters.values()) + CARRY * state.vector().numel()
        if (
            not 0 < work <= BREAK_EVEN * len(parameters)
            or not (torch.is_grad_enabled() and any(p.requires_grad for p in parameters.values()))
            or not all(x.is_cpu and (x.is_floating_point() or x.is_complex()) for x in (*parts.values(), *parameters.values()))
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or transformed()
            or interpreted()
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
                self.records[key] = Iterated(call, state.vector(), heard, list(parameters.values()), columns(state, "guess"))
            except Exception as error:  # whatever a tracer may trip over, the model's own calls are still right
                log.debug("not recorded, its steps are called one by one: %s", error)
                self.records[key] = None
        return self.records[key]


class _Step(nn.Module):
    """Hear a row, or the guess, and guess again, on states as rows.    heard [B, 2 C], values and where they are missing"""

    def __init__(self, model: ForecastModel, shapes: State):
        super().__init__()
        self.model, self.shapes = model, shapes

    def forward(self, rows: Tensor, heard: Tensor | None = None) -> Tensor:
        state, gap = self.shapes.like(rows), None
        z = cast(Tensor, state.guess)
        if heard is not None:
            values, gap = heard.split(self.model.channels, dim=1)
            z, gap = torch.where(gap > 0.5, z, values), gap[:, None]
        _, later = self.model.hear(z[:, None], state, gap)
        after, names = later.tensors(), iter(self.shapes.tensors())
        return self.shapes.map(lambda _: after[next(names)]).vector()


def columns(state: State, name: str) -> slice:
    """Where a real part of the state lies in its `vector()`."""
    before = State(**{part: x for part, x in list(state.parts.items())[: list(state.parts).index(name)]})
    start = before.vector().shape[1] if before.parts else 0
    return slice(start, start + cast(Tensor, state.parts[name]).shape[1:].numel())
