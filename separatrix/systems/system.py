"""A system: anything that has a state and a map.

    s_{t+1} = Φ(s_t, u_t)        y_t = g(s_t)        DΦ(s) v = d/dε Φ(s + ε v) at ε = 0                       (1)

A Lorenz flow, a linear filter and a trained model in free run all answer (1), so one instrument measures them all. States are
plain real tensors, `[..., n]` with any leading batch axes; time constants are in the unit of `dt`, the time one step takes.

A system that knows a faster way to run than step by step says so by having the methods of `RunsItself` or `PushesTangents`;
`trajectory` and `push_tangents` take that way when it is there, and the step-by-step loop, which is the definition, when not.

Paper    Pikovsky & Politi 2016, Lyapunov Exponents, Cambridge University Press, ch. 2 (the tangent space of a map).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_count


@runtime_checkable
class System(Protocol):
    """What every instrument asks of the thing it measures: s_{t+1} = Φ(s_t, u_t),  y_t = g(s_t).

    dimension   n, entries of the state.
    dt          time per step; 1.0 when time is counted in steps.

    Paper    Pikovsky & Politi 2016, Lyapunov Exponents, Cambridge University Press, ch. 2.
    """

    @property
    def dimension(self) -> int: ...
    @property
    def dt(self) -> float: ...
    def step(self, state: Tensor, input: Tensor | None = None) -> Tensor:
        """state [..., n], input [..., m] -> next state [..., n]"""
        ...

    def observe(self, state: Tensor) -> Tensor:
        """state [..., n] -> what is seen of it [..., m]"""
        ...

    def jacobian_vector(self, state: Tensor, v: Tensor, input: Tensor | None = None) -> Tensor:
        """state [n], directions v [..., n] -> their images under the derivative of `step` at that state, [..., n]"""
        ...


class Pushed(NamedTuple):
    """Where a state and a frame of tangent vectors went, and how much the frame grew on the way.

    Paper    Benettin et al. 1980, Meccanica 15:9-20.
    """

    state: Tensor  # [n], the state after the last step
    frame: Tensor  # [k, n], orthonormal rows
    log_growth: Tensor  # [M, k], natural log of the growth between two orthonormalisations; -inf where rounding hides it
    failed: int | None  # the step after which the state was no longer finite, or None


@runtime_checkable
class RunsItself(Protocol):
    """A system with its own way to run many steps."""

    def trajectory(self, state: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class PushesTangents(Protocol):
    """A system with its own way to carry tangent vectors along."""

    def push_tangents(self, state: Tensor, frame: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Pushed: ...


@dataclass(frozen=True)
class Known:
    """A fact about a system that anyone can recompute.

    value    the numbers, e.g. exponents per unit of dt, largest first.
    source   where they come from.
    within   how far a recomputation may be off, relative to the largest of |value|.
    """

    value: tuple[float, ...]
    source: str
    within: float


def trajectory(system: System, state: Tensor, steps: int, *, every: int = 1, inputs: Tensor | None = None) -> Tensor:
    """The states after every `every`-th step.    state [..., n], inputs [T >= steps, m] or [..., T, m] -> [..., steps // every, n]

    Raises   ValueError for shapes and counts that do not fit, NaN; TypeError unless system is a System, tensors real floats.
    """
    expect_run(system, state, steps, every, inputs)
    if isinstance(system, RunsItself):
        return system.trajectory(state, steps, every, inputs)
    return trajectory_by_steps(system, state, steps, every, inputs)


def trajectory_by_steps(system: System, state: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None) -> Tensor:
    """`trajectory`, by definition."""
    seen = []
    with torch.no_grad():
        for t in range(steps // every * every):
            state = _checked(system.step(state, None if inputs is None else inputs[..., t, :]), state, t)
            if (t + 1) % every == 0:
                seen.append(state)
    return torch.stack(seen, dim=-2) if seen else state.new_empty((*state.shape[:-1], 0, state.shape[-1]))


def push_tangents(system: System, state: Tensor, frame: Tensor, steps: int, *, every: int = 1, inputs: Tensor | None = None) -> Pushed:
    """Carry `frame` along the trajectory of `state`, orthonormalising it after every `every` steps.

    state [n], frame [k, n] with orthonormal rows, inputs [T >= steps, m] -> Pushed.

    Paper    Benettin et al. 1980, Meccanica 15:9-20.
    Raises   ValueError for shapes and counts that do not fit, NaN, an overflow between two QRs; TypeError unless system is a System,
             tensors real floats.
    """
    expect_run(system, state, steps, every, inputs)
    expect_finite("frame", frame, "Start from orthonormal rows, such as torch.eye(n)[:k].")
    if state.ndim != 1 or frame.ndim != 2 or frame.shape[1] != len(state) or frame.shape[0] > len(state):
        raise ValueError(f"state is {tuple(state.shape)} and frame {tuple(frame.shape)}, expected [n] and [k <= n, n].")
    if isinstance(system, PushesTangents):
        return system.push_tangents(state, frame, steps, every, inputs)
    return push_tangents_by_steps(system, state, frame, steps, every, inputs)


def push_tangents_by_steps(
    system: System, state: Tensor, frame: Tensor, steps: int, every: int = 1, inputs: Tensor | None = None
) -> Pushed:
    """`push_tangents`, by definition: one step, one Jacobian-vector product, one QR at a time."""
    growth: list[Tensor] = []
    with torch.no_grad():
        for t in range(steps // every * every):
            u = None if inputs is None else inputs[t]
            after = _checked(system.step(state, u), state, t)
            frame, state = system.jacobian_vector(state, frame, u), after
            if not bool(torch.isfinite(state).all()):
                return Pushed(state, frame, _stacked(growth, frame), t + 1)
            if (t + 1) % every == 0:
                frame, log_growth = orthonormalise(frame)
                growth.append(log_growth)
    return Pushed(state, frame, _stacked(growth, frame), None)


def orthonormalise(frame: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [..., k, n] -> orthonormal rows with the same nested spans, and the log of what each row had of its own, [..., k].

    A row whose own part is below the rounding error of the row itself is reported as -inf, not as the noise it is.
    """
    if not bool(torch.isfinite(frame).all()):
        raise ValueError("a tangent vector overflowed between two orthonormalisations. Orthonormalise more often (smaller `every`).")
    q, r = torch.linalg.qr(frame.mT)
    own, whole = r.diagonal(dim1=-2, dim2=-1).abs(), torch.linalg.vector_norm(frame, dim=-1)
    hidden = own <= frame.shape[-1] * torch.finfo(frame.dtype).eps * whole
    return q.mT.contiguous(), torch.where(hidden, -torch.inf, own.log()).double()


def push_forward(step: Callable[[Tensor], Tensor], state: Tensor, v: Tensor) -> Tensor:
    """The derivative of `step` at `state` [n] applied to directions v [..., n], by forward-mode differentiation.

    Paper    Pikovsky & Politi 2016, Lyapunov Exponents, Cambridge University Press, ch. 2.
    Raises   ValueError for shapes that do not fit.
    """

    def along(direction: Tensor) -> Tensor:
        return torch.func.jvp(step, (state,), (direction,))[1]

    if state.ndim != 1 or v.shape[-1:] != state.shape:
        raise ValueError(f"state is {tuple(state.shape)} and v {tuple(v.shape)}, expected [n] and [..., n].")
    _load_forward_rules()
    flat = v.reshape(-1, v.shape[-1])
    return torch.func.vmap(along)(flat).reshape(v.shape)


@cache
def _load_forward_rules() -> None:
    """Import torch's forward-mode rules once, without the deprecation that their own import raises: it is not the caller's to fix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # TODO: drop once torch no longer scripts these rules with torch.jit (deprecated there since 2.10).
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def expect_system(system: System) -> None:
    """Refuse what is no system, naming what it lacks."""
    if missing := [name for name in ("dimension", "dt", "step", "observe", "jacobian_vector") if not hasattr(system, name)]:
        raise TypeError(
            f"system is a {type(system).__name__} without {', '.join(missing)}: see systems.System. Of a ForecastModel take "
            f"model.as_system(), of a Forecaster forecaster.model.as_system(state=forecaster.state)."
        )


def expect_run(system: System, state: Tensor, steps: int, every: int, inputs: Tensor | None) -> None:
    """Refuse at the door what could only fail later, naming the argument."""
    expect_system(system)
    expect_finite("state", state, "Start from a finite state.")
    if inputs is not None:
        expect_finite("inputs", inputs, "Fill or cut the gaps first.")
    if state.shape[-1:] != (system.dimension,):
        raise ValueError(f"state is {tuple(state.shape)}, expected [..., {system.dimension}]: the dimension of this system.")
    expect_count("steps", steps, 0)
    expect_count("every", every)
    if inputs is not None:
        if inputs.ndim < 2 or inputs.shape[-2] < steps:
            raise ValueError(f"inputs is {tuple(inputs.shape)}, expected [..., time, m] with at least steps = {steps} times.")
        leading, rows = inputs.shape[:-2], state.shape[:-1]
        if len(leading) > len(rows) or any(own not in (1, size) for own, size in zip(leading[::-1], rows[::-1])):
            raise ValueError(f"inputs is {tuple(inputs.shape)} and state {tuple(state.shape)}, expected [time, m], or one for each state.")


def expect_finite(name: str, tensor: Tensor, otherwise: str) -> None:
    """A real tensor without gaps; `otherwise` says what to do about them."""
    if not (isinstance(tensor, Tensor) and tensor.is_floating_point()):
        raise TypeError(f"{name} is {getattr(tensor, 'dtype', type(tensor).__name__)}, expected a real floating-point tensor.")
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} holds NaN or infinite values. {otherwise}")


def expect_width(input: Tensor, width: int) -> None:
    if input.shape[-1:] != (width,):
        raise ValueError(f"input is {tuple(input.shape)}, expected [..., {width}]: the width of this system's inputs.")


def _checked(after: Tensor, state: Tensor, t: int) -> Tensor:
    """The next state; at the first step, whether it is one."""
    if t == 0 and (not isinstance(after, Tensor) or after.shape != state.shape):
        came = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
        raise ValueError(f"system.step returned {came} for a state {tuple(state.shape)}, expected the next state, of the same shape.")
    return after


def _stacked(growth: list[Tensor], frame: Tensor) -> Tensor:
    return torch.stack(growth) if growth else torch.empty((0, frame.shape[0]), dtype=torch.float64)
