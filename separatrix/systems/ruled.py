"""What flows and maps share: a rule on components, and the two ways to run it.

The torch way is the definition: batched, differentiable, any function torch has. The compiled way runs the same rule in Numba,
real for trajectories and complex for tangents; the complex one is compared with torch once, at the initial state, before it is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_positive
from separatrix.recurrence.plan import interpreted
from separatrix.systems.compiled import WORKSPACE, H, Rule, push_rows, run_rows, step_rows
from separatrix.systems.system import Pushed, push_forward, push_tangents_by_steps, trajectory_by_steps


class Ruled:
    """The methods of `System`, `RunsItself` and `PushesTangents` for a rule; `Flow` and `Map` add what a step is."""

    if TYPE_CHECKING:
        rule: Rule
        parameters: Mapping[str, float]
        initial_state: tuple[float, ...]
        dt: float
        observed: tuple[int, ...]
        compiled: bool

        def compile(self, *, tangent: bool) -> Any: ...
        def step(self, state: Tensor, input: Tensor | None = None) -> Tensor: ...

    def expect_runnable(self) -> None:
        expect_positive("dt", self.dt, "time per step")
        if not self.initial_state or not np.isfinite(self.initial_state).all():
            raise ValueError(f"initial_state is {self.initial_state}, expected one finite number for each component.")
        if any(not 0 <= i < self.dimension for i in self.observed):
            raise ValueError(f"observed is {self.observed}, expected indices of the {self.dimension} components.")
        self._expect_parameters()
        n, takes = self.dimension, "It is called with the tuple of the components and the parameters"
        try:
            there = self.apply_rule(self.start)
        except Exception as error:  # the caller's code: whatever it raises
            raise ValueError(
                f"rule fails at initial_state: {type(error).__name__}: {error}. {takes}, in torch with tensors for components, and must "
                f"return {n} components."
            ) from error
        if there.shape != (n,):
            raise ValueError(f"rule returns {tuple(there.shape)} numbers, expected {n}, one for each component of initial_state. {takes}.")
        if not bool(torch.isfinite(there).all()):
            raise ValueError(f"rule gives {there.tolist()} at initial_state. Start where it is finite.")

    def _expect_parameters(self) -> None:
        """A rule is called by position: names in another order would be another system."""
        try:
            takes = list(inspect.signature(self.rule).parameters.values())[1:]
        except (TypeError, ValueError):  # a callable that does not tell
            return
        if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in takes):
            return
        names, given = [p.name for p in takes], list(self.parameters)
        if given != names[: len(given)] or any(p.default is p.empty for p in takes[len(given) :]):
            raise ValueError(f"parameters are {given} but rule takes {names} after the state. Give these, in this order.")

    @property
    def dimension(self) -> int:
        return len(self.initial_state)

    @property
    def start(self) -> Tensor:
        """The initial state as a tensor, [n] float64."""
        return torch.tensor(self.initial_state, dtype=torch.float64)

    def apply_rule(self, state: Tensor) -> Tensor:
        """The rule on tensors.    [..., n] -> [..., n]"""
        if state.shape[-1] != self.dimension:
            raise ValueError(f"state is {tuple(state.shape)}, expected [..., {self.dimension}], one entry for each component.")
        parts = self.rule(state.unbind(-1), *self.parameters.values())
        return torch.stack([x if isinstance(x, Tensor) else torch.full_like(state[..., 0], x) for x in parts], dim=-1)

    def observe(self, state: Tensor) -> Tensor:
        """The observed components.    [..., n] -> [..., m]"""
        return state[..., list(self.observed)] if self.observed else state

    def jacobian_vector(self, state: Tensor, v: Tensor, input: Tensor | None = None) -> Tensor:
        """The exact tangent of `step`.    state [n], v [..., n] -> [..., n]"""
        return push_forward(lambda s: self.step(s, input), state, v)

    def trajectory(self, state: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Tensor:
        """The states after every `every`-th step.    [..., n] -> [..., steps // every, n]"""
        if inputs is not None or not self.compiled or interpreted() or state.dtype != torch.float64:
            return trajectory_by_steps(self, state, steps, every, inputs)
        rows = state.detach().cpu().reshape(-1, self.dimension).clone().numpy()
        out = np.empty((rows.shape[0], steps // every, self.dimension))
        run_rows(self.compile(tangent=False), rows, self._values, self.dt, every, out)
        return torch.from_numpy(out).reshape(*state.shape[:-1], *out.shape[1:]).to(state.device)

    def push_tangents(self, state: Tensor, frame: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Pushed:
        """Carry a frame [k, n] along, orthonormalising it after every `every` steps."""
        if inputs is not None or not self.compiled or interpreted() or state.dtype != torch.float64:
            return push_tangents_by_steps(self, state, frame, steps, every, inputs)
        s = state.detach().cpu().clone().numpy()
        rows = np.array(frame.detach().cpu().numpy(), dtype=np.float64, order="C")
        growth = np.empty((steps // every, rows.shape[0]))
        bad = push_rows(self._tangent, s, rows, self._values, self.dt, every, growth)
        if bad >= 0 and np.isfinite(s).all():
            raise ValueError("a tangent vector overflowed between two orthonormalisations. Orthonormalise more often (smaller `every`).")
        done = growth if bad < 0 else growth[:bad]
        failed = None if bad < 0 else (bad + 1) * every
        return Pushed(torch.from_numpy(s), torch.from_numpy(rows), torch.from_numpy(done), failed)

    @cached_property
    def _values(self) -> np.ndarray:
        return np.array([float(value) for value in self.parameters.values()])

    @cached_property
    def _tangent(self) -> Any:
        """The compiled step of states with a tangent, after it has agreed with the torch step and its tangent at the initial state.

        A rule that is not analytic (an absolute value, a comparison) has no complex step; this is where it is caught.
        """
        program, state = self.compile(tangent=True), self.start
        direction = torch.linspace(1.0, 2.0, self.dimension, dtype=torch.float64)
        row = (state + 1j * H * direction).reshape(1, -1).numpy()
        n = self.dimension
        step_rows(program, row, np.empty((WORKSPACE, n), np.complex128), self._values, self.dt)
        for got, want in ((row[0].real, self.step(state)), (row[0].imag / H, self.jacobian_vector(state, direction))):
            if not np.allclose(got, want.numpy(), rtol=1e-9, atol=1e-9 * float(want.abs().max() + 1.0)):
                raise ValueError(
                    f"the compiled rule gives {got} where the torch rule gives {want.numpy()}: the rule is not plain analytic arithmetic. "
                    f"Pass compiled=False to run it in torch."
                )
        return program
