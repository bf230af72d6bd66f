"""The state of a layer, as a value.

Everything a layer carries from one step to the next (the convolution's tail too) is one immutable `State`: it can be cloned,
indexed by batch row, detached, moved, saved and loaded. Rolling back is keeping the older value.

    state.h                    one part, a tensor whose first axis is the batch, or a State again
    state[2:5]                 the same state for some batch rows
    state.vector()             all parts as one real row per batch row, for instruments; state.like(rows) goes back
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.utils import _pytree as pytree

from separatrix.files import save_tensors


class State:
    """Named tensors, batch first.    State(h=[B, D, N], conv=[B, d_conv - 1, D]); parts may be States."""

    parts: dict[str, Tensor | State]

    def __init__(self, **parts: Tensor | State):
        object.__setattr__(self, "parts", parts)

    def __getattr__(self, name: str) -> Tensor | State:
        try:
            return object.__getattribute__(self, "parts")[name]
        except KeyError:
            raise AttributeError(f"this state has no part {name!r}, only {sorted(self.parts)}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a state is a value: build a new State instead of setting {name!r}")

    def __reduce__(self):
        return _rebuild, (self.parts,)

    def __getitem__(self, rows) -> State:
        """The state of some batch rows; a number keeps the batch axis."""
        if isinstance(rows, Integral) or (isinstance(rows, Tensor) and rows.ndim == 0 and rows.dtype != torch.bool):
            row, count = int(rows), len(next(iter(self.tensors().values()), ()))
            if not -count <= row < count:
                raise IndexError(f"row {row} of a state of {count} rows")
            rows = slice(row, row + 1 or None)
        return self.map(lambda part: part[rows])

    __iter__ = None  # its rows or its parts? Python would take rows one by one; say state.parts or state[i]

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" if isinstance(v, State) else f"{k}={list(v.shape)}" for k, v in self.parts.items())
        return f"State({inside})"

    def map(self, change: Callable[[Tensor], Tensor]) -> State:
        """A new state with `change` applied to every tensor."""
        return State(**{name: part.map(change) if isinstance(part, State) else change(part) for name, part in self.parts.items()})

    def clone(self) -> State:
        return self.map(torch.clone)

    def detach(self) -> State:
        return self.map(torch.detach)

    def to(self, *args, **kwargs) -> State:
        return self.map(lambda part: part.to(*args, **kwargs))

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Every tensor under its dotted name, in a fixed order."""
        return dict(self._walk(prefix))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, part in self.parts.items():
            if isinstance(part, State):
                yield from part._walk(f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", part

    def vector(self) -> Tensor:
        """All parts side by side, of complex ones first the real parts and then the imaginary ones.    [B, n]"""
        return torch.cat([x.flatten(1) for part in self.tensors().values() for x in _apart(part)], dim=1)

    def like(self, rows: Tensor) -> State:
        """The state whose `vector()` is `rows` [B, n], with this state's parts and shapes; B may differ from this state's."""
        sizes = [x.shape[1:].numel() for part in self.tensors().values() for x in _apart(part)]
        if rows.ndim != 2 or rows.shape[1] != sum(sizes):
            raise ValueError(f"rows is {tuple(rows.shape)} but this state has [batch, {sum(sizes)}] numbers")
        columns = iter(rows.split(sizes, dim=1))

        def take(part: Tensor) -> Tensor:
            taken = [next(columns).unflatten(1, part.shape[1:]) for _ in _apart(part)]
            return torch.complex(*taken) if part.is_complex() else taken[0]

        return self.map(take)

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file, atomically. Complex parts are stored as (re, im); the metadata name them, and the order of all."""
        parts = self.tensors()
        save_tensors(
            path,
            {name: _real(part.resolve_conj()).clone() for name, part in parts.items()},  # two parts may share their memory
            {"complex": json.dumps([name for name, part in parts.items() if part.is_complex()]), "order": json.dumps(list(parts))},
        )

    @staticmethod
    def load(path: str | Path) -> State:
        with safe_open(path, framework="pt") as file:
            told = {name: json.loads(text) for name, text in (file.metadata() or {}).items() if name in ("complex", "order")}
            complex_parts, names = set(told.get("complex", [])), list(file.keys())
            order = told.get("order", [])
            if sorted(order) == sorted(names):
                names = order
            flat = {name: file.get_tensor(name).clone() for name in names}
        return _nest({name: torch.view_as_complex(part) if name in complex_parts else part for name, part in flat.items()})


def _apart(part: Tensor) -> tuple[Tensor, ...]:
    return (part.real, part.imag) if part.is_complex() else (part,)


def _real(part: Tensor) -> Tensor:
    return torch.view_as_real(part) if part.is_complex() else part


def _nest(flat: dict[str, Tensor]) -> State:
    parts: dict[str, Any] = {}
    for name, part in flat.items():
        head, _, rest = name.partition(".")
        if rest:
            parts.setdefault(head, {})[rest] = part
        else:
            parts[head] = part
    return State(**{head: _nest(part) if isinstance(part, dict) else part for head, part in parts.items()})


def _rebuild(parts: dict[str, Tensor | State]) -> State:
    return State(**parts)


pytree.register_pytree_node(
    State,
    lambda state: (list(state.parts.values()), list(state.parts)),
    lambda parts, names: State(**dict(zip(names, parts))),
    serialized_type_name="separatrix.State",
    flatten_with_keys_fn=lambda state: ([(pytree.GetAttrKey(name), part) for name, part in state.parts.items()], list(state.parts)),
)
torch.serialization.add_safe_globals([_rebuild])  # torch.export keeps example inputs, and reads them without pickle's freedom
