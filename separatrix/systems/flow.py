"""A flow: a vector field, its parameters and a time step.

    s' = f(s; p)           Φ(s) = s + dt/6 (k1 + 2 k2 + 2 k3 + k4),    k1 = f(s), k2 = f(s + dt/2 k1), ...              (1)

The system is the Runge-Kutta map Φ, not the exact flow: its exponents differ from the flow's by O(dt⁴). The field is written
once, on the components of the state:

    def rossler(state, a, b, c):
        x, y, z = state
        return -y - z, x + a * y, b + z * (x - c)

In torch the components are tensors, batched and differentiable: that is the definition. In Numba they are numbers, and long
runs take 0.2 µs a step (`compiled.py`).

Paper    Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, Springer, II.1 (the classical method).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from separatrix.systems.compiled import Rule, compile_flow
from separatrix.systems.ruled import Ruled
from separatrix.systems.system import Known, expect_width


@dataclass(frozen=True)
class Flow(Ruled):
    """A system from a vector field.    states [..., n], time in the unit of the field's equations

    rule            f, called with the tuple of the n components and the parameters; returns n components.
    parameters      by name, in the order in which `rule` takes them.
    initial_state   where runs start when nothing else is said; its length is n.
    dt              time per step.
    observed        which components are seen; all when empty.
    compiled        `rule` is plain arithmetic, so long runs go through Numba. False for fields that need torch functions.
    known           facts about the flow that tests recompute.

    Paper    Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, Springer, II.1.
    Raises   ValueError for a rule, parameters or initial_state that do not fit each other, and dt <= 0.
    """

    rule: Rule
    parameters: Mapping[str, float]
    initial_state: tuple[float, ...]
    dt: float
    observed: tuple[int, ...] = ()
    compiled: bool = True
    known: Mapping[str, Known] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.expect_runnable()

    def vector_field(self, state: Tensor) -> Tensor:
        """f(s).    [..., n] -> [..., n], per unit of time"""
        return self.apply_rule(state)

    def step(self, state: Tensor, input: Tensor | None = None) -> Tensor:
        """One classical Runge-Kutta step.    [..., n] -> [..., n]; `input`, if any, is a force [..., n] held over the step"""
        if input is not None:
            expect_width(input, self.dimension)
        force = 0.0 if input is None else input
        k1 = self.vector_field(state) + force
        k2 = self.vector_field(state + 0.5 * self.dt * k1) + force
        k3 = self.vector_field(state + 0.5 * self.dt * k2) + force
        k4 = self.vector_field(state + self.dt * k3) + force
        return state + self.dt / 6.0 * (k1 + 2.0 * (k2 + k3) + k4)

    def divergence(self, state: Tensor) -> Tensor:
        """The rate at which the flow changes volume, Σ ∂f_i/∂s_i at each state.    [..., n] -> [...]"""
        jacobian = torch.func.vmap(torch.func.jacfwd(self.vector_field))(state.reshape(-1, self.dimension))
        return jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).reshape(state.shape[:-1])

    def compile(self, *, tangent: bool) -> Any:
        return compile_flow(self.rule, self.dimension, len(self.parameters), tangent)
