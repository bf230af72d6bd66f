"""One decoding step of an operation beside its rivals.

Ours goes on from the state that BEHIND steps have left, twice: by a `Stepper`, the library's way to generate, whose layer is nothing but
the operation, and by a call of the function, which is what the first saves. Rivals are functions of whole sequences and know no state, so
they take their only step from rest. Where that would be less work than a step later on, they are left out (`Operation.alike` is False).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.exact import judge
from benchmarks.measure import race
from benchmarks.operation import OURS, First, Operation, Shape
from benchmarks.rival import Inputs, is_sequence
from separatrix.models import Stepper
from separatrix.recurrence import State

BEHIND = 256
CALLED = "separatrix, called"


class Alone(nn.Module):
    """A layer that is an operation: x [B, T, ...] is all of its sequences side by side, and what is no sequence are its parameters."""

    def __init__(self, function: Callable[..., tuple[Tensor, Any]], inputs: Inputs, sequences: list[str], after: Any):
        super().__init__()
        self.function, self.like = function, after
        self.shapes = {name: inputs[name].shape[2:] for name in sequences}
        self.fixed = nn.ParameterDict({name: x for name, x in inputs.items() if name not in sequences})

    def forward(self, x: Tensor, state: State, reset: Tensor | None = None) -> tuple[Tensor, State]:
        parts = x.split([shape.numel() for shape in self.shapes.values()], dim=2)
        given = {name: part.reshape(*x.shape[:2], *shape) for part, (name, shape) in zip(parts, self.shapes.items())}
        y, after = self.function(**given, **self.fixed, initial_state=self.own(state), reset=reset)
        return y.flatten(2), as_state(after)

    def own(self, state: State) -> Any:
        """The state as the operation wants it."""
        if isinstance(self.like, State):
            return state
        parts = tuple(state.tensors().values())
        return parts[0] if isinstance(self.like, Tensor) else type(self.like)(*parts)


def as_state(after: Any) -> State:
    if isinstance(after, State):
        return after
    return State(**{f"part{i}": part for i, part in enumerate([after] if isinstance(after, Tensor) else after)})


def time_a_step(operation: Operation, shape: Shape, ways: dict[str, Any], seconds: float) -> None:
    """Into `ways`, for those that were right over many steps and are over one."""
    inputs, weight = operation.draw({**shape, "T": BEHIND + 1})
    sequences = [name for name, x in inputs.items() if is_sequence(x, weight)]
    step = {name: x[:, -1:].contiguous() if name in sequences else x for name, x in inputs.items()}
    racers: dict[str, Callable[[], object]] = {}
    if isinstance(operation.ours, First) and ways[OURS]["state"] == "timed":
        before = {name: x[:, :-1] if name in sequences else x for name, x in inputs.items()}
        try:
            racers[OURS], racers[CALLED] = _ours(operation.ours.function, before, step, sequences)
        except ValueError as wrong:
            ways[OURS] = {"state": "wrong", "why": str(wrong)}  # and its other times mean nothing
    verdict = judge(operation.definition, step, weight[:, -1:])
    for rival in operation.rivals if operation.alike else ():
        if ways[rival.name]["state"] == "timed":
            try:
                verdict.peer(rival, step, weight[:, -1:])
                racers[rival.name] = rival.bind(step, weight[:, -1:]).forward
            except Exception as failure:  # a chunked form may refuse one step
                ways[rival.name]["step_refused"] = f"{type(failure).__name__}: {failure}".splitlines()[0][:200]
    with torch.no_grad():
        for name, times in race(racers, seconds).items():
            said, way = (ways[OURS], "called") if name == CALLED else (ways[name], "step")
            said[way] = {"median": times.median, "least": times.least, "turns": times.turns}


def _ours(
    function: Callable[..., tuple[Tensor, Any]], before: Inputs, step: Inputs, sequences: list[str]
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """One more step, by a Stepper and by a call."""
    with torch.no_grad():
        _, after = function(**before)
    generate, state = Stepper(Alone(function, step, sequences, after)), as_state(after)
    token = torch.cat([step[name].flatten(2) for name in sequences], dim=2)

    def call() -> Tensor:
        return function(**step, initial_state=after)[0]

    with torch.no_grad():
        whole, own = generate(token, state)[0], call()
    if not torch.allclose(whole, own.flatten(2), rtol=1e-3, atol=1e-4 * float(own.abs().max())):
        raise ValueError(f"a Stepper's step is off by {float((whole - own.flatten(2)).abs().max()):.1e} from the operation's")
    return lambda: generate(token, state)[0], call
