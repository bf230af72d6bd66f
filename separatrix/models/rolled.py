"""A free run to learn from: `ForecastModel.roll` with gradients, by a program of one step.

Training a small network on its free run is forty steps of Python, forward and back, for a millisecond of arithmetic. Where a step can be
recorded (`recording/iterated.py`) and is small, the run is played instead; everywhere else it is `roll` itself, which is the definition.

Departs  first derivatives only, and modules are not called, so their hooks do not hear of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from separatrix.models.forecaster import ForecastModel
from separatrix.models.recording import Iterated
from separatrix.recurrence import State
from separatrix.recurrence.plan import transformed

logger = logging.getLogger("separatrix")

# Torch pays for its calls, some for each tensor of parameters, and a program for its arithmetic: multiply-adds, and STATE for each number
# that is carried. At about so many a tensor the two take as long.
EVEN, STATE = 250_000, 20


class Rolled:
    """`model.roll(state, steps)`, as fast as it can be had.    -> ẑ [B, steps, C], the state after them"""

    def __init__(self, model: ForecastModel):
        self.model = model
        self.records: dict[tuple, Iterated | None] = {}

    def __call__(self, state: State, steps: int) -> tuple[Tensor, State]:
        parameters = dict(self.model.named_parameters())
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in parameters.values())
        record = self._record(state, parameters) if learns and steps > 0 else None
        if record is None:
            return self.model.roll(state, steps)
        states = record(packed(state), list(parameters.values()), steps)
        guess = cast(Tensor, state.guess)
        heard = cast(Tensor, unpacked(states[:-1].flatten(0, 1), state).guess).unflatten(0, (steps - 1, len(guess)))
        return torch.cat([guess[None], heard]).transpose(0, 1), unpacked(states[-1], state)

    def _record(self, state: State, parameters: Mapping[str, Tensor]) -> Iterated | None:
        parts, rows = state.tensors(), len(cast(Tensor, state.guess))
        work = rows * sum(p.numel() for p in parameters.values()) + STATE * sum(x.numel() for part in parts.values() for x in real(part))
        if (
            not 0 < work <= EVEN * len(parameters)
            or not all(x.is_cpu and (x.is_floating_point() or x.is_complex()) for x in (*parts.values(), *parameters.values()))
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or transformed()
        ):
            return None
        key = (*((name, x.shape, x.dtype) for name, x in parts.items()), *((name, p.shape, p.dtype) for name, p in parameters.items()))
        if key not in self.records:
            step = _Step(self.model, state.map(lambda part: part[:0].detach()))
            names = [f"model.{name}" for name in parameters]
            try:
                self.records[key] = Iterated(
                    lambda rows, *values: torch.func.functional_call(step, dict(zip(names, values)), (rows,)),
                    packed(state),
                    list(parameters.values()),
                )
            except Exception as error:  # whatever a tracer may trip over, `roll` is still right
                logger.debug("a free run is not recorded, its steps are called one by one: %s", error)
                self.records[key] = None
        return self.records[key]


class _Step(nn.Module):
    """Hear the guess, guess again, on packed states."""

    def __init__(self, model: ForecastModel, like: State):
        super().__init__()
        self.model, self.like = model, like

    def forward(self, rows: Tensor) -> Tensor:
        state = unpacked(rows, self.like)
        _, later = self.model.hear(cast(Tensor, state.guess)[:, None], state)
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


def real(part: Tensor) -> tuple[Tensor, ...]:
    return (part.real, part.imag) if part.is_complex() else (part,)
