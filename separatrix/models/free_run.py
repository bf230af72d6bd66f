"""A trained model in free run, as a dynamical system.

    s = (last values, next guess, backbone state),     Φ(s): hear the guess, guess again                           (1)

The state is one flat real vector (`State.vector`), so every instrument for a `System` measures a network as it measures a
Lorenz flow. An `input` replaces the guess that would be heard: then (1) is the model driven by a signal. DΦ v is computed by forward-mode
differentiation, all directions as rows of one batch: no Jacobian matrix is formed, no graph kept.

Paper    Pathak et al. 2017, doi:10.1063/1.5010300 (exponents of a free-running model against those of the data).
Cost     one model step on k rows for k directions.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from separatrix.models.recording import Program, Recorded, plain_parameters
from separatrix.recurrence import State
from separatrix.recurrence.checks import expect_positive
from separatrix.systems.system import Pushed, expect_width, orthonormalise, push_tangents_by_steps, trajectory_by_steps


class SelfHearing(nn.Module, ABC):
    """A model that can hear what it says: what a free run asks of it. `ForecastModel` tells what each of these is.

    Its state has the parts `guess`, what it says next, [B, C], and `recent`, first of all, which ends with the last row it was at.
    """

    channels: int
    keep: int
    mean: Tensor
    scale: Tensor

    @abstractmethod
    def hear(self, z: Tensor, state: State | None, gap: Tensor | None = None) -> tuple[Tensor, State]:
        """z [B, T, C] in the network's units -> what it says after each row, [B, T, C], and its state"""

    @abstractmethod
    def roll(self, state: State, steps: int) -> tuple[Tensor, State]:
        """Hear what it says for `steps` rows.    -> [B, steps, C], its state"""

    @abstractmethod
    def scaled(self, x: Tensor) -> Tensor:
        """From the units of the data to the network's."""

    @abstractmethod
    def unscaled(self, z: Tensor) -> Tensor:
        """And back."""

    def as_system(
        self, context: Tensor | None = None, *, state: State | None = None, dt: float = 1.0, dtype: torch.dtype = torch.float64
    ) -> FreeRunSystem:
        """The free run as a System on flat state vectors, started where `context` [T, C] or `state` (one row) ends."""
        return FreeRunSystem.after(self, context, state, dt=dt, dtype=dtype)


@dataclass(frozen=True, eq=False)
class FreeRunSystem:
    """The System of a model that hears itself.    state [..., n] -> state [..., n]

    model   a copy without gradients, in the precision of the measurement.
    shapes  a state whose parts give names and shapes to the entries of the vector.
    start   [n], the state at the end of what the model has heard.
    dt      time per step.
    """

    model: SelfHearing
    shapes: State
    start: Tensor
    dt: float = 1.0

    @classmethod
    def after(cls, model: SelfHearing, context: Tensor | None, state: State | None, *, dt: float, dtype: torch.dtype) -> FreeRunSystem:
        """The system that starts where `context` [T, C] or [1, T, C] ends, heard after `state` (None: from rest)."""
        if context is None and state is None:
            raise ValueError("context and state are both None: a free run starts from something heard. Pass one of them.")
        if state is not None and not isinstance(state, State):
            raise TypeError(f"state is a {type(state).__name__} but a free run starts from a State, one row. Pass what the model returned.")
        expect_positive("dt", dt, "time per step")
        mean, scale = model.mean.clone(), model.scale.clone()
        model = copy.deepcopy(model).to(dtype).eval()
        model.mean, model.scale = mean, scale  # the units of the data may need digits that the network does not
        plain_parameters(model)
        if state is not None:
            state = state.map(lambda part: part.to(torch.promote_types(dtype, torch.complex64) if part.is_complex() else dtype))
        with torch.no_grad():
            if context is not None:
                _, state = model(context[None] if isinstance(context, Tensor) and context.ndim == 2 else context, state)
            assert state is not None
            _, later = model.roll(state, 1)
        if state.vector().shape[0] != 1:
            raise ValueError(f"the state has {state.vector().shape[0]} rows but a system starts from one. Pass state[i].")
        if later.vector().shape != state.vector().shape:
            raise ValueError(
                f"the state grew from {state.vector().shape[1]} to {later.vector().shape[1]} numbers in one step: a layer that keeps "
                f"all it has heard (attention) has no fixed state space. Use a recurrent mixer."
            )
        given, order = state.tensors(), iter(later.tensors())
        state = later.map(lambda _: given[next(order)])  # by name: parts may come in another order than the model's own
        shapes = State(**{name: part for name, part in state.parts.items() if name != "filled"})
        return cls(model, shapes, shapes.vector()[0], dt)

    @property
    def dimension(self) -> int:
        return self.start.shape[0]

    def step(self, state: Tensor, input: Tensor | None = None) -> Tensor:
        """state [..., n]; input [..., C] in the units of the data, heard in place of the model's own guess."""
        if state.shape[-1] != self.dimension:
            raise ValueError(f"state is {tuple(state.shape)} but must end in the {self.dimension} numbers of this system, as `start` does.")
        flat = state.reshape(-1, self.dimension)
        with torch.no_grad():
            return (self._moved(flat) if input is None else self._moved(flat, self._heard(input, state))).reshape(state.shape)

    def observe(self, state: Tensor) -> Tensor:
        """The value the model is at: the last one it heard or said.    [..., n] -> [..., C] float64, in the units of the data"""
        C = self.model.channels
        end = self.model.keep * C
        return self.model.unscaled(state[..., end - C : end])

    def jacobian_vector(self, state: Tensor, v: Tensor, input: Tensor | None = None) -> Tensor:
        """state [n], v [..., n] -> DΦ(state) v, exact to rounding."""
        flat = v.reshape(-1, self.dimension)
        tiled = state.expand(flat.shape).clone()  # dual numbers want memory of their own
        heard = () if input is None else (self._heard(input, flat),)
        with torch.no_grad():
            return self._carried(tiled, flat, *heard)[1].reshape(v.shape)

    def trajectory(self, state: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Tensor:
        """`systems.trajectory`, in one call of the program of a step."""
        if steps < every:
            return trajectory_by_steps(self, state, steps, every, inputs)
        rows = state.reshape(-1, self.dimension)
        first, series = self._heard_along(inputs, state)
        move = self._moved.played(rows, *first)
        if not isinstance(move, Program):
            return trajectory_by_steps(self, state, steps, every, inputs)
        _, seen = move.iterate(rows, *first, steps=steps // every * every, every=every, series=series)
        return seen.view(-1, *rows.shape).transpose(0, 1).reshape(*state.shape[:-1], -1, self.dimension)

    def push_tangents(self, state: Tensor, frame: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Pushed:
        """`systems.push_tangents`, the steps between two orthonormalisations in one call."""
        if steps < every:
            return push_tangents_by_steps(self, state, frame, steps, every, inputs)
        tiled = state.expand(frame.shape).clone()  # dual numbers want memory of their own
        first, series = self._heard_along(inputs, tiled)
        push = self._carried.played(tiled, frame, *first)
        if not isinstance(push, Program):
            return push_tangents_by_steps(self, state, frame, steps, every, inputs)
        growth = torch.empty(steps // every, len(frame), dtype=torch.float64)
        for m in range(len(growth)):
            now = None if series is None else series[m * every : (m + 1) * every]
            (tiled, frame), seen = push.iterate(tiled, frame, *first, steps=every, series=now)
            finite = torch.isfinite(seen[:, : self.dimension]).all(1)
            if not bool(finite.all()):
                return Pushed(tiled[0], frame, growth[:m], m * every + int(finite.logical_not().nonzero()[0, 0]) + 1)
            frame, growth[m] = orthonormalise(frame)
        return Pushed(tiled[0], frame, growth, None)

    def _heard(self, input: Tensor, state: Tensor) -> Tensor:
        expect_width(input, self.model.channels)
        return self.model.scaled(input).expand(*state.shape[:-1], -1).reshape(-1, self.model.channels)

    def _heard_along(self, inputs: Tensor | None, state: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """[..., T, C] for states [..., n] -> (what is heard first [B, C], if anything), all of it [T, B C]"""
        if inputs is None:
            return (), None
        expect_width(inputs, self.model.channels)
        T, C = inputs.shape[-2:]
        heard = self.model.scaled(inputs).expand(*state.shape[:-1], T, C).reshape(-1, T, C)
        return (heard[:, 0],), heard.transpose(0, 1).flatten(1)

    def _move(self, rows: Tensor, heard: Tensor | None = None) -> Tensor:
        """Φ on rows [B, n].    heard [B, C] in the network's units"""
        state = self.shapes.like(rows)
        _, state = self.model.hear((cast(Tensor, state.guess) if heard is None else heard)[:, None], state)
        return State(**{name: state.parts[name] for name in self.shapes.parts}).vector()

    @cached_property
    def _moved(self) -> Recorded:
        return Recorded(self._move)

    @cached_property
    def _carried(self) -> Recorded:
        """State and tangents, both one step further."""
        return Recorded(lambda rows, v, *heard: torch.func.jvp(lambda s: self._move(s, *heard), (rows,), (v,)))
