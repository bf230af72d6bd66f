"""Operations with a matrix state, each beside its rivals.

Inputs are those of a layer early in training: decays between one step and a thousand, keys of unit length, beta in (0, 1). The floor counts
4 floating point operations per entry of the state and step (write, read), 6 with the delta rule's own read; three times that with the
backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import jax_loops, packages
from benchmarks.jax_loops import jax_rival
from benchmarks.operation import Operation, Shape, Work, bars, first
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

SHAPES = {"S": dict(B=2, T=512, H=4, K=64, V=64), "L": dict(B=1, T=4096, H=8, K=64, V=64)}
JAX_CHUNKS = jax_rival("JAX chunked lax.scan", jax_loops.chunked_attention)
JAX_ATTENTION = jax_rival("JAX lax.scan", jax_loops.attention_loop)
JAX_DELTA = jax_rival("JAX lax.scan", jax_loops.delta_loop)


def matrix_work(flops: int) -> Callable[[Shape], Work]:
    def work(s: Shape) -> Work:
        entries, tokens = s["B"] * s["T"] * s["H"] * s["K"] * s["V"], s["B"] * s["T"] * s["H"]
        moved = 4 * tokens * 2 * (s["K"] + s["V"])
        return Work({"forward": flops * entries, "both": 3 * flops * entries}, {"forward": moved, "both": 3 * moved})

    return work


def ssd_inputs(s: Shape) -> dict[str, Tensor]:
    B, T, H, P, N = s["B"], s["T"], s["H"], s["V"], s["K"]
    return {
        "x": torch.randn(B, T, H, P),
        "dt": torch.exp(torch.empty(B, T, H).uniform_(math.log(1e-3), math.log(1e-1))),
        "A": -torch.linspace(1, 16, H),
        "B": torch.randn(B, T, 1, N) * N**-0.5,
        "C": torch.randn(B, T, 1, N),
        "D": torch.randn(H),
    }


def attention_inputs(decay: str = "", delta: bool = False) -> Callable[[Shape], dict[str, Tensor]]:
    """decay: "", "head" or "key"."""

    def inputs(s: Shape) -> dict[str, Tensor]:
        B, T, H, K, V = (s[axis] for axis in "BTHKV")
        drawn = {"q": torch.randn(B, T, H, K), "k": F.normalize(torch.randn(B, T, H, K), dim=-1), "v": torch.randn(B, T, H, V)}
        if delta:
            drawn["beta"] = torch.sigmoid(torch.randn(B, T, H))
        if decay:
            drawn["log_decay"] = F.logsigmoid(torch.randn((B, T, H, K) if decay == "key" else (B, T, H))) / 16
        return drawn

    return inputs


def rows() -> tuple[Operation, ...]:
    linear, delta = FORMS["linear_attention"]["recurrent"], FORMS["delta_rule"]["recurrent"]
    ours_linear, ours_delta = first(recurrence.linear_attention), first(recurrence.delta_rule)
    return (
        Operation(
            "linear_attention",
            SHAPES,
            attention_inputs(),
            "v",
            ours_linear,
            first(linear),
            (packages.FLA_LINEAR, JAX_CHUNKS),
            matrix_work(4),
            bars(1 / 5, 1 / 6, (packages.FLA_LINEAR,)),
        ),
        Operation(
            "linear_attention, decay per head",
            SHAPES,
            attention_inputs("head"),
            "v",
            ours_linear,
            first(linear),
            (packages.FLA_SIMPLE_GLA, JAX_CHUNKS),
            matrix_work(4),
            bars(1 / 5, 1 / 6, (packages.FLA_SIMPLE_GLA,)),
            grows=False,
        ),
        Operation(
            "linear_attention, decay per key (GLA)",
            SHAPES,
            attention_inputs("key"),
            "v",
            ours_linear,
            first(linear),
            (packages.FLA_GLA, JAX_ATTENTION),
            matrix_work(4),
            bars(1 / 5, 1 / 20, (packages.FLA_GLA,)),
        ),
        Operation(
            "ssd",
            {"S": dict(B=2, T=512, H=4, K=64, V=64), "L": dict(B=1, T=4096, H=16, K=128, V=64)},
            ssd_inputs,
            "x",
            first(recurrence.ssd),
            first(FORMS["ssd"]["recurrent"]),
            (jax_rival("JAX chunked lax.scan", jax_loops.ssd), packages.FLA_SSD),
            matrix_work(4),
            grows=False,
        ),
        Operation(
            "delta_rule",
            SHAPES,
            attention_inputs(delta=True),
            "v",
            ours_delta,
            first(delta),
            (packages.FLA_DELTA, JAX_DELTA),
            matrix_work(6),
            bars(1 / 8, 1 / 6, (packages.FLA_DELTA,)),
            grows=False,
        ),
        Operation(
            "delta_rule, decay per head (gated)",
            SHAPES,
            attention_inputs("head", delta=True),
            "v",
            ours_delta,
            first(delta),
            (packages.TRANSFORMERS_DELTA, packages.FLA_GATED_DELTA, JAX_DELTA, packages.TRANSFORMERS_DELTA_LOOP),
            matrix_work(6),
            bars(1 / 8, 1 / 6, (packages.TRANSFORMERS_DELTA, packages.FLA_GATED_DELTA)),
        ),
        Operation(
            "delta_rule, decay per key (KDA)",
            SHAPES,
            attention_inputs("key", delta=True),
            "v",
            ours_delta,
            first(delta),
            (packages.FLA_KDA, packages.FLA_KDA_CHUNK, JAX_DELTA),
            matrix_work(6),
            bars(1 / 8, 1 / 6, (packages.FLA_KDA, packages.FLA_KDA_CHUNK)),
            grows=False,
        ),
    )
