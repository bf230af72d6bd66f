"""Calls that move numbers about or name constants: torch does them on addresses, now, and costs nothing when the program runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from separatrix.models.recording.arithmetic import real_and_imaginary
from separatrix.models.recording.assembler import Assembler
from separatrix.models.recording.meanings import Meanings, Unsupported

MOVES = Meanings()

# fmt: off
_VIEWS = (
    "alias", "detach", "expand", "lift_fresh", "permute", "select.int", "slice.Tensor", "split.Tensor", "split_with_sizes", "squeeze",
    "squeeze.dim", "squeeze.dims", "t", "transpose.int", "transpose_", "unbind.int", "unfold", "unsafe_split.Tensor",
    "unsafe_split_with_sizes", "unsqueeze", "view_as_real", "real", "imag",
)
# Torch itself is called for these, on addresses; the others are below.
CALLED = (*_VIEWS, "cat", "clone", "complex", "flip", "repeat", "roll", "select_scatter", "slice_scatter", "stack")
# fmt: on
# These leave numbers where they are: who writes through one of them changes what the others show.
VIEWS = (*_VIEWS, "view", "_unsafe_view", "view_as_complex", "_conj")


@MOVES.of("index_put")
def index_put(assembler: Assembler, x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    numbers = [None if i is None else assembler.known(i) for i in indices]
    if any(i is not None and n is None for i, n in zip(indices, numbers)):
        raise Unsupported("an index that is computed")
    where = tuple(slice(None) if n is None else n.long() for n in numbers)
    if accumulate:  # on zeros, each place once: then it is the same as putting
        places, start = torch.arange(x.numel()).reshape(x.shape)[where], assembler.known(x.real)
        if start is None or bool(start.any()) or places.unique().numel() < places.numel():
            raise Unsupported("numbers added where others are")
    out = x.clone()
    out[where] = values
    return out


@MOVES.of("view", "_unsafe_view")
def view(assembler: Assembler, x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.reshape(shape)


@MOVES.of("view_as_complex")
def view_as_complex(assembler: Assembler, x: Tensor) -> Tensor:
    return torch.complex(x[..., 0], x[..., 1])


@MOVES.of("_to_copy")
def to_copy(assembler: Assembler, x: Tensor, *, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
    if dtype is None or dtype is assembler.precision:  # true and false are 1 and 0 already
        return x
    if dtype is assembler.precision.to_complex():
        return torch.complex(*real_and_imaginary(assembler, x))
    raise Unsupported(f"conversion to {dtype}")


@MOVES.of("copy", "copy_")
def copy(assembler: Assembler, into: Tensor, x: Tensor, non_blocking: bool = False) -> Tensor:
    return x.expand(into.shape)


@MOVES.of("constant_pad_nd")
def pad(assembler: Assembler, x: Tensor, sizes: Sequence[int], value: float = 0.0) -> Tensor:
    around = filled(assembler, x, (), value)  # one address, in the kind of x's own
    return torch.constant_pad_nd(x, list(sizes), around.item())


@MOVES.of("new_zeros", "_new_zeros_with_same_feature_meta", "zeros_like")
def zeros(assembler: Assembler, x: Tensor, shape: Any = None, **options: Any) -> Tensor:
    return filled(assembler, x, shape.shape if isinstance(shape, Tensor) else shape, 0.0)


@MOVES.of("new_ones", "ones_like")
def ones(assembler: Assembler, x: Tensor, shape: Any = None, **options: Any) -> Tensor:
    return filled(assembler, x, shape, 1.0)


@MOVES.of("full_like")
def full_like(assembler: Assembler, x: Tensor, value: float, **options: Any) -> Tensor:
    return filled(assembler, x, None, value)


def filled(assembler: Assembler, x: Tensor, shape: Sequence[int] | None, value: float) -> Tensor:
    number = assembler.number(value).expand(x.shape if shape is None else shape)
    return torch.complex(number, assembler.number(0.0).expand(number.shape)) if x.is_complex() else number
