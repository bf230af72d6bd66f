"""What a layer refuses at the door, before any arithmetic.

Every mixer calls `expect_input` once and `parts` once; an error names the argument, what came, what was expected and what to do.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from separatrix.recurrence import State
from separatrix.recurrence.autocast import under_autocast

RETURNED = "Pass the state this layer returned, or None to start at rest."


def expect_input(x: Tensor, d_model: int, weight: Tensor, reset: Tensor | None = None) -> None:
    """x is [B, T, d_model], real, in the dtype and on the device of the layer's `weight`; reset is [B, T] bool."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x is a {type(x).__name__} but this layer takes a tensor [batch, time, d_model]. Wrap it in torch.as_tensor.")
    if x.ndim != 3 or x.shape[2] != d_model:
        raise ValueError(
            f"x is {tuple(x.shape)} but this layer takes [batch, time, d_model] with d_model = {d_model}. "
            f"Add the missing axis, or build the layer with d_model = {x.shape[-1] if x.ndim else 1}."
        )
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype} but this layer takes real floating point numbers. Convert it: x.to({weight.dtype}).")
    if x.device != weight.device:
        raise ValueError(f"x is on {x.device} but this layer is on {weight.device}. Move one of them: x.to({str(weight.device)!r}).")
    if x.dtype != weight.dtype and not under_autocast(x.device.type):
        raise TypeError(f"x is {x.dtype} but this layer computes in {weight.dtype}. Convert one of them: x.to({weight.dtype}).")
    if reset is not None and not isinstance(reset, Tensor):
        raise TypeError(f"reset is a {type(reset).__name__} but must be a tensor [batch, time] of torch.bool.")
    if reset is not None and (reset.dtype != torch.bool or reset.shape != x.shape[:2]):
        raise ValueError(
            f"reset is {tuple(reset.shape)} {reset.dtype} but must be [batch, time] = {tuple(x.shape[:2])} of torch.bool: "
            f"True where the state is cleared before the step."
        )


def parts(state: State | None, batch: int, **kept: tuple[int | None, ...]) -> tuple[Tensor | None, ...]:
    """The named parts of `state`, real, each [batch, *kept[name]] (None in a shape: any length, one for all); Nones without a state."""
    found = complex_parts(state, batch, **kept)
    for name, part in zip(kept, found):
        if part is not None and part.is_complex():
            raise TypeError(f"state.{name} is {part.dtype} but this layer keeps real numbers there. {RETURNED}")
    return found


def complex_parts(state: State | None, batch: int, **kept: tuple[int | None, ...]) -> tuple[Tensor | None, ...]:
    """The same for a layer of complex modes, which may start from real ones."""
    if state is None:
        return (None,) * len(kept)
    if not isinstance(state, State):
        raise TypeError(f"state is a {type(state).__name__} but this layer keeps a State({', '.join(kept)}). {RETURNED}")
    if state.parts.keys() != kept.keys():
        raise ValueError(f"state has the parts {sorted(state.parts)} but this layer keeps {sorted(kept)}. {RETURNED}")
    length = None
    for name, shape in kept.items():
        part = state.parts[name]
        if not isinstance(part, Tensor):
            raise TypeError(f"state.{name} is a {type(part).__name__} but this layer keeps a tensor there. {RETURNED}")
        if not (part.is_floating_point() or part.is_complex()):
            raise TypeError(f"state.{name} is {part.dtype} but this layer keeps floating point numbers there. {RETURNED}")
        if None in shape and part.ndim == len(shape) + 1:
            free = shape.index(None)
            length = part.shape[free + 1] if length is None else length
            shape = (*shape[:free], length, *shape[free + 1 :])
        if part.shape != (batch, *shape):
            wanted = ", ".join("any" if s is None else str(s) for s in (batch, *shape))
            raise ValueError(f"state.{name} is {tuple(part.shape)} but this layer keeps [{wanted}] for a batch of {batch}. {RETURNED}")
    return cast("tuple[Tensor | None, ...]", tuple(state.parts[name] for name in kept))


def parts_of_layers(state: State | None, count: int) -> dict[str, State | None]:
    """The state of each of a network's layers by name; Nones when there is no state."""
    names = [f"layer{i}" for i in range(count)]
    if state is None:
        return dict.fromkeys(names)
    if not isinstance(state, State):
        raise TypeError(f"state is a {type(state).__name__} but this network keeps a State({', '.join(names)}). {RETURNED}")
    if sorted(state.parts) != sorted(names):
        raise ValueError(f"state has the parts {sorted(state.parts)} but this network keeps {names}. {RETURNED}")
    return {name: cast("State", state.parts[name]) for name in names}
