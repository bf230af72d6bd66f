"""Operations with a matrix state, each beside its rivals.

Inputs are those of a layer early in training: decays between one step and a thousand, keys of unit length, beta in (0, 1). The floor counts
4 floating point operations per entry of the state and step (write, read), 6 with the delta rule's own read, 8 for diagonal plus rank one,
4 n + 2 for n Householder factors, and three times that with the backward. Log-linear attention reads as many states as its step's position
has digits that are 1, ridge attention solves a system a step, recursive least squares moves an inverse: `level_work`, `ridge_work`,
`inverse_work`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import jax_loops, packages
from benchmarks.jax_loops import jax_rival
from benchmarks.operation import First, Operation, Shape, Work, bars
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

SHAPES = {"S": dict(B=2, T=512, H=4, K=64, V=64), "L": dict(B=1, T=4096, H=8, K=64, V=64)}
JAX_CHUNKS = jax_rival("JAX chunked lax.scan", jax_loops.chunked_attention)
JAX_ATTENTION = jax_rival("JAX lax.scan", jax_loops.attention_loop)
JAX_DELTA = jax_rival("JAX lax.scan", jax_loops.delta_loop)
JAX_BONUS = jax_rival("JAX lax.scan", jax_loops.bonus_loop)
JAX_DPLR = jax_rival("JAX lax.scan", jax_loops.dplr_loop)
JAX_PRODUCT = jax_rival("JAX lax.scan", jax_loops.product_loop)


def step_work(s: Shape, forward: float, both: float) -> Work:
    """Of so many multiply-adds for each head and step."""
    steps = s["B"] * s["T"] * s["H"]
    moved = 4 * steps * 2 * (s["K"] + s["V"])
    return Work({"forward": 2 * steps * forward, "both": 2 * steps * both}, {"forward": moved, "both": 3 * moved})


def matrix_work(flops: int) -> Callable[[Shape], Work]:
    """Of so many floating point operations for each entry of the state and step."""
    return lambda s: step_work(s, flops / 2 * s["K"] * s["V"], 3 * flops / 2 * s["K"] * s["V"])


def level_work(s: Shape) -> Work:
    """In chunks of C steps C (K + V) / 2 among themselves, K V for the write and K V for each of half the digits above."""
    K, V, T = s["K"], s["V"], s["T"]
    step = min(C * (K + V) / 2 + K * V * (1 + math.log2(T / C) / 2) for C in (2**i for i in range(T.bit_length())))
    return step_work(s, step, 3 * step)


def ridge_work(s: Shape) -> Work:
    """K³ / 6 to eliminate and K² to substitute, once more with the backward: conjugate gradients need K² an iteration, and some 20 of
    them for a float32. K² / 2 for the keys' sum and 2 K V for the values', three times that with the backward."""
    K, V = s["K"], s["V"]
    solve, sums = K**3 / 6 + K**2, K**2 / 2 + 2 * K * V
    return step_work(s, solve + sums, 2 * solve + 3 * sums)


def inverse_work(s: Shape) -> Work:
    """K² for the inverse times the key, half as much to move it, and a delta rule; three times that with the backward."""
    step = 1.5 * s["K"] ** 2 + 3 * s["K"] * s["V"]
    return step_work(s, step, 3 * step)


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


def bonus_inputs(s: Shape) -> dict[str, Tensor]:
    return attention_inputs("key")(s) | {"bonus": torch.randn(s["H"], s["K"])}


def product_inputs(s: Shape) -> dict[str, Tensor]:
    """Two factors a token."""
    B, T, H, K, V = (s[axis] for axis in "BTHKV")
    return {
        "q": torch.randn(B, T, H, K),
        "k": F.normalize(torch.randn(B, T, 2, H, K), dim=-1),
        "v": torch.randn(B, T, 2, H, V),
        "beta": 2 * torch.sigmoid(torch.randn(B, T, 2, H)),
        "log_decay": F.logsigmoid(torch.randn(B, T, H)) / 16,
    }


def rank_one_inputs(s: Shape) -> dict[str, Tensor]:
    """RWKV-7's: what b gives back is a part of what a takes."""
    B, T, H, K, V = (s[axis] for axis in "BTHKV")
    seen = F.normalize(torch.randn(B, T, H, K), dim=-1)
    return {
        "r": torch.randn(B, T, H, K) * K**-0.5,
        "log_decay": -math.exp(-0.5) * torch.sigmoid(torch.randn(B, T, H, K) - 3),
        "k": F.normalize(torch.randn(B, T, H, K), dim=-1),
        "v": torch.randn(B, T, H, V),
        "a": -seen,
        "b": seen * torch.sigmoid(torch.randn(B, T, H, K)),
    }


def level_inputs(s: Shape) -> dict[str, Tensor]:
    levels = math.ceil(math.log2(s["T"])) + 1
    return attention_inputs("head")(s) | {"level_scale": torch.rand(s["B"], s["T"], s["H"], levels)}


def ridge_inputs(s: Shape) -> dict[str, Tensor]:
    drawn = attention_inputs("head", delta=True)(s)
    return {**drawn, "q": F.normalize(drawn["q"], dim=-1), "ridge": 0.25 + torch.rand(s["H"], s["K"])}


def inverse_inputs(s: Shape) -> dict[str, Tensor]:
    """Fading over a thousand steps: an inverse that fades before keys have gone in every direction winds up beyond a float32."""
    drawn = ridge_inputs(s)
    return {**drawn, "log_decay": drawn["log_decay"] / 64}


def rows() -> tuple[Operation, ...]:
    linear, delta = FORMS["linear_attention"]["recurrent"], FORMS["delta_rule"]["recurrent"]
    ours_linear, ours_delta = First(recurrence.linear_attention), First(recurrence.delta_rule)
    return (
        Operation(
            "linear_attention",
            SHAPES,
            attention_inputs(),
            "v",
            ours_linear,
            First(linear),
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
            First(linear),
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
            First(linear),
            (packages.FLA_GLA, JAX_ATTENTION),
            matrix_work(4),
            bars(1 / 5, 1 / 20, (packages.FLA_GLA,)),
        ),
        Operation(
            "ssd",
            {"S": dict(B=2, T=512, H=4, K=64, V=64), "L": dict(B=1, T=4096, H=16, K=128, V=64)},
            ssd_inputs,
            "x",
            First(recurrence.ssd),
            First(FORMS["ssd"]["recurrent"]),
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
            First(delta),
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
            First(delta),
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
            First(delta),
            (packages.FLA_KDA, packages.FLA_KDA_CHUNK, JAX_DELTA),
            matrix_work(6),
            bars(1 / 8, 1 / 6, (packages.FLA_KDA, packages.FLA_KDA_CHUNK)),
            grows=False,
        ),
        Operation(
            "delta_product, two factors",
            SHAPES,
            product_inputs,
            "BTHV",
            First(recurrence.delta_product),
            First(FORMS["delta_product"]["recurrent"]),
            (packages.FLA_PRODUCT, JAX_PRODUCT),
            matrix_work(10),
            grows=False,
        ),
        Operation(
            "linear_attention, bonus (RWKV-6)",
            SHAPES,
            bonus_inputs,
            "v",
            ours_linear,
            First(linear),
            (packages.FLA_BONUS, JAX_BONUS),
            matrix_work(4),
            grows=False,
        ),
        Operation(
            "dplr (RWKV-7)",
            SHAPES,
            rank_one_inputs,
            "v",
            First(recurrence.dplr),
            First(FORMS["dplr"]["recurrent"]),
            (packages.FLA_DPLR, packages.FLA_DPLR_CHUNK, JAX_DPLR),
            matrix_work(8),
        ),
        Operation(
            "log_linear_attention",
            SHAPES,
            level_inputs,
            "v",
            First(recurrence.log_linear_attention),
            First(FORMS["log_linear_attention"]["recurrent"]),
            (packages.FLA_LEVELS,),
            level_work,
            grows=False,
            alike=False,
        ),
        Operation(
            "ridge_attention, constant ridge (Mesa)",
            SHAPES,
            ridge_inputs,
            "v",
            First(recurrence.ridge_attention),
            First(FORMS["ridge_attention"]["recurrent"]),
            (packages.FLA_MESA, packages.FLA_MESA_CG),
            ridge_work,
            grows=False,
        ),
        Operation(
            "recursive_least_squares",
            SHAPES,
            inverse_inputs,
            "v",
            First(recurrence.recursive_least_squares),
            First(FORMS["recursive_least_squares"]["recurrent"]),
            (jax_rival("JAX lax.scan", jax_loops.least_squares),),
            inverse_work,
            grows=False,
        ),
    )
