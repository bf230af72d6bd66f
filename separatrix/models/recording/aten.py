"""Torch's operators: which of them mean something to an assembler (`moves`, `arithmetic`), and which torch takes apart first.

What has no meaning and no parts that have one cannot become a program; the function it came from then runs as torch calls, as slowly as
before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from separatrix.models.recording.arithmetic import ARITHMETIC
from separatrix.models.recording.meanings import Meaning, Unsupported
from separatrix.models.recording.moves import CALLED, MOVES

MEANINGS = {**MOVES, **ARITHMETIC}


def name_of(call: Any) -> str:
    """ "mul.Tensor" of aten.mul.Tensor, "exp" of aten.exp.default"""
    return str(call).partition(".")[2].removesuffix(".default")


def meaning(call: torch._ops.OpOverload) -> Meaning:
    """What stands for a call, as a function of an assembler and the call's arguments."""
    name = name_of(call)
    if call.namespace == "aten" and name in CALLED:
        return lambda assembler, *arguments, **options: call(*arguments, **options)
    if call.namespace == "aten" and name in MEANINGS:
        return MEANINGS[name]
    raise Unsupported(str(call))


@cache
def taken_apart() -> dict[Any, Callable[..., Any]]:
    """Torch's own definitions of what has no meaning here by smaller calls that do."""
    meant = {*CALLED, *MEANINGS}
    table = {call: definition for call, definition in core_aten_decompositions().items() if name_of(call) not in meant}
    aten = torch.ops.aten
    table |= get_decompositions([aten._softmax, aten._log_softmax, aten.leaky_relu])
    table[aten.glu_jvp.default] = glu_tangent
    table[aten.native_layer_norm.default] = layer_norm
    return table


def glu_tangent(glu: Tensor, x: Tensor, dx: Tensor, dim: int) -> Tensor:
    gate, (value, of_gate) = torch.sigmoid(x.chunk(2, dim)[1]), dx.chunk(2, dim)
    return value * gate + glu * (1 - gate) * of_gate


def layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(-len(shape), 0))
    mean = x.mean(axes, keepdim=True)
    away = x - mean
    scale = (away.square().mean(axes, keepdim=True) + eps).rsqrt()
    y = away * scale if weight is None else away * scale * weight
    return y if bias is None else y + bias, mean, scale
