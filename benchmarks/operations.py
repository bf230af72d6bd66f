"""The operations of `separatrix.recurrence`, each beside its rivals, its floor and its bars.

Inputs are those of a layer early in training: decays between one step and a thousand, keys of unit length, beta in (0, 1).
Floating point operations of a floor count the leanest algorithm known, a multiply-add as two:

    selective scan       22 per state and step (the exponential is 16), 36 with the backward
    matrix states        4 per entry and step (write, read), 6 with the delta rule's own read; three times that with the backward
    diagonal scans       nothing to speak of: they move bytes, 3 arrays forward and 8 with the backward
    diagonal ssm         8 per complex state and step, three times that with the backward
    long convolution     three transforms of twice the length, three times that with the backward
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import jax_loops, packages, torch_loops
from benchmarks.compiled import CPP_SCAN
from benchmarks.jax_loops import jax_rival
from benchmarks.rival import Rival, torch_rival
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

Shape = dict[str, int]
OURS = "separatrix"


@dataclass(frozen=True)
class Bar:
    """Ours takes at most `factor` of what the fastest of `rivals` takes."""

    direction: str  # "forward" or "both"
    factor: float
    rivals: tuple[str, ...]
    their_direction: str | None = None  # where it is not the same one

    def __str__(self) -> str:
        their = self.their_direction or self.direction
        named = " or ".join(self.rivals) + (" forward" if their != self.direction else "")
        return f"{DIRECTIONS[self.direction]}: at most {self.factor:.3g} x {named}"


DIRECTIONS = {"forward": "forward", "both": "forward + backward"}


@dataclass(frozen=True)
class Work:
    """Floating point operations and bytes of the leanest algorithm."""

    flops: dict[str, float]
    moved: dict[str, float]


@dataclass(frozen=True)
class Operation:
    name: str
    shapes: dict[str, Shape]  # "S" and "L"
    inputs: Callable[[Shape], dict[str, Tensor]]  # float32; drawn from torch's generator
    like: str  # the input that the output has the shape of
    ours: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    rivals: tuple[Rival, ...]
    work: Callable[[Shape], Work]
    bars: tuple[Bar, ...] = ()
    grows: bool = True  # measured against length
    ours_rival: Rival | None = field(default=None)  # where calling `ours` is not all there is to it

    @property
    def us(self) -> Rival:
        return self.ours_rival or torch_rival(OURS, self.ours)

    def draw(self, shape: Shape, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
        """Inputs and the weight of the output."""
        torch.manual_seed(seed)
        inputs = self.inputs(shape)
        return inputs, torch.randn_like(inputs[self.like])


def first(function: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """The output without the final state."""

    def output(**inputs: Tensor) -> Tensor:
        return function(**inputs)[0]

    return output


def matrix_work(flops: int) -> Callable[[Shape], Work]:
    def work(s: Shape) -> Work:
        entries, tokens = s["B"] * s["T"] * s["H"] * s["K"] * s["V"], s["B"] * s["T"] * s["H"]
        moved = 4 * tokens * 2 * (s["K"] + s["V"])
        return Work({"forward": flops * entries, "both": 3 * flops * entries}, {"forward": moved, "both": 3 * moved})

    return work


def scan_work(item: int) -> Callable[[Shape], Work]:
    def work(s: Shape) -> Work:
        array = item * s["B"] * s["T"] * s["D"]
        return Work({"forward": 0, "both": 0}, {"forward": 3 * array, "both": 8 * array})

    return work


def selective_work(s: Shape) -> Work:
    states, array = s["B"] * s["T"] * s["D"] * s["N"], 4 * s["B"] * s["T"] * s["D"]
    return Work({"forward": 22 * states, "both": 36 * states}, {"forward": 3 * array, "both": 8 * array})


def ssm_work(s: Shape) -> Work:
    states, array = s["B"] * s["T"] * s["D"] * s["N"], 4 * s["B"] * s["T"] * s["D"]
    return Work({"forward": 8 * states, "both": 24 * states}, {"forward": 2 * array, "both": 5 * array})


def convolution_work(s: Shape) -> Work:
    row, array = 2 * s["T"], 4 * s["B"] * s["T"] * s["D"]
    flops = 2.5 * row * math.log2(row) * s["D"] * (2 * s["B"] + 1)
    return Work({"forward": flops, "both": 3 * flops}, {"forward": 3 * array, "both": 8 * array})


def selective_inputs(s: Shape) -> dict[str, Tensor]:
    B, T, D, N = (s[axis] for axis in "BTDN")
    return {
        "u": torch.randn(B, T, D),
        "delta": torch.exp(torch.empty(B, T, D).uniform_(math.log(1e-3), math.log(1e-1))),
        "A": -torch.arange(1.0, N + 1).repeat(D, 1),
        "B": torch.randn(B, T, N),
        "C": torch.randn(B, T, N),
        "D": torch.randn(D),
    }


def real_scan_inputs(s: Shape) -> dict[str, Tensor]:
    shape = s["B"], s["T"], s["D"]
    return {"a": torch.sigmoid(torch.randn(shape) + 3), "x": torch.randn(shape)}


def complex_scan_inputs(s: Shape) -> dict[str, Tensor]:
    shape = s["B"], s["T"], s["D"]
    return {"a": torch.polar(torch.sigmoid(torch.randn(shape) + 3), torch.randn(shape)), "x": torch.randn(shape, dtype=torch.complex64)}


def ssm_inputs(s: Shape) -> dict[str, Tensor]:
    D, N = s["D"], s["N"]
    dt = torch.exp(torch.empty(D, 1).uniform_(math.log(1e-3), math.log(1e-1)))
    a = torch.exp(dt * torch.complex(torch.full((D, N), -0.5), math.pi * torch.arange(float(N)).repeat(D, 1)))
    return {"u": torch.randn(s["B"], s["T"], D), "a": a, "c": dt * torch.randn(D, N, dtype=torch.complex64), "skip": torch.randn(D)}


def convolution_inputs(s: Shape) -> dict[str, Tensor]:
    fading = torch.exp(-torch.arange(float(s["T"])) / 100)
    return {"kernel": torch.randn(s["D"], s["T"]) * fading, "u": torch.randn(s["B"], s["T"], s["D"])}


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


def naming(*names: Iterable[Rival]) -> tuple[str, ...]:
    return tuple(rival.name for group in names for rival in group)


MATRIX = {"S": dict(B=2, T=512, H=4, K=64, V=64), "L": dict(B=1, T=4096, H=8, K=64, V=64)}
JAX_SCAN = jax_rival("JAX lax.scan", jax_loops.selective_scan)
JAX_DIAGONAL = jax_rival("JAX lax.scan", jax_loops.diagonal_scan)
TORCH_SCAN = torch_rival("PyTorch loop", torch_loops.selective_scan)
TORCH_DIAGONAL = torch_rival("PyTorch loop", torch_loops.diagonal_scan)
JAX_CHUNKS = jax_rival("JAX chunked lax.scan", jax_loops.chunked_attention)
JAX_ATTENTION = jax_rival("JAX lax.scan", jax_loops.attention_loop)
JAX_DELTA = jax_rival("JAX lax.scan", jax_loops.delta_loop)


def bars(forward: float, both: float, rivals: tuple[Rival, ...]) -> tuple[Bar, ...]:
    names = tuple(rival.name for rival in rivals)
    return Bar("forward", forward, names), Bar("both", both, names)


def _table() -> dict[str, Operation]:
    linear, delta = FORMS["linear_attention"]["recurrent"], FORMS["delta_rule"]["recurrent"]
    scan, ours_linear, ours_delta = FORMS["diagonal_scan"]["recurrent"], first(recurrence.linear_attention), first(recurrence.delta_rule)
    diagonal = {"S": dict(B=2, T=1024, D=512), "L": dict(B=1, T=8192, D=512)}
    wide = {"S": dict(B=2, T=1024, D=256), "L": dict(B=1, T=8192, D=256)}
    rows = (
        Operation(
            "selective_scan",
            {size: {**shape, "N": 16} for size, shape in diagonal.items()},
            selective_inputs,
            "u",
            first(recurrence.selective_scan),
            first(FORMS["selective_scan"]["recurrent"]),
            (CPP_SCAN, JAX_SCAN, packages.MAMBAPY_SCAN, TORCH_SCAN, packages.TRANSFORMERS_SCAN),
            selective_work,
            (Bar("forward", 0.6, (CPP_SCAN.name,)), Bar("both", 3.0, (CPP_SCAN.name,), their_direction="forward")),
        ),
        Operation(
            "diagonal_scan, real",
            diagonal,
            real_scan_inputs,
            "x",
            first(recurrence.diagonal_scan),
            first(scan),
            (JAX_DIAGONAL, TORCH_DIAGONAL),
            scan_work(4),
            bars(1.0, 1 / 3, (JAX_DIAGONAL,)),
            grows=False,
        ),
        Operation(
            "diagonal_scan, complex",
            diagonal,
            complex_scan_inputs,
            "x",
            first(recurrence.diagonal_scan),
            first(scan),
            (JAX_DIAGONAL, TORCH_DIAGONAL),
            scan_work(8),
            bars(1.0, 1 / 3, (JAX_DIAGONAL,)),
        ),
        Operation(
            "linear_attention",
            MATRIX,
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
            MATRIX,
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
            MATRIX,
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
            MATRIX,
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
            MATRIX,
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
            MATRIX,
            attention_inputs("key", delta=True),
            "v",
            ours_delta,
            first(delta),
            (packages.FLA_KDA, packages.FLA_KDA_CHUNK, JAX_DELTA),
            matrix_work(6),
            bars(1 / 8, 1 / 6, (packages.FLA_KDA, packages.FLA_KDA_CHUNK)),
            grows=False,
        ),
        Operation(
            "diagonal_ssm",
            {size: {**shape, "N": 32} for size, shape in wide.items()},
            ssm_inputs,
            "u",
            first(recurrence.diagonal_ssm),
            first(FORMS["diagonal_ssm"]["recurrent"]),
            (torch_rival("PyTorch Vandermonde and FFT", torch_loops.diagonal_kernel),),
            ssm_work,
        ),
        Operation(
            "long_convolution",
            wide,
            convolution_inputs,
            "u",
            recurrence.long_convolution,
            torch_loops.long_convolution,
            (torch_rival("PyTorch FFT", torch_loops.long_convolution),),
            convolution_work,
            grows=False,
        ),
    )
    return {row.name: row for row in rows}


OPERATIONS = _table()


def rivals(operation: Operation) -> tuple[Rival, ...]:
    """Ours first."""
    return operation.us, *operation.rivals
