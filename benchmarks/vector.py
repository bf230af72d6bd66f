"""Operations with a vector state, and the long convolution, each beside its rivals.

Floating point operations of a floor count the leanest algorithm known, a multiply-add as two:

    selective scan       22 per state and step (the exponential is 16), 36 with the backward
    diagonal scans       nothing to speak of: they move bytes, 3 arrays forward and 8 with the backward
    logarithmic scan     36 per channel and step (an exponential and a logarithm), 56 with the backward
    diagonal ssm         8 per complex state and step, three times that with the backward
    dense scan           2 N per state and step, three times that with the backward
    short convolution    2 per tap, four times that with the backward; a silu is 20
    diagonal GRU         some 60 per channel and step (three gates), 120 with the backward
    long convolution     three transforms of twice the length, three times that with the backward
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import jax_loops, packages, torch_loops
from benchmarks.compiled import CPP_SCAN
from benchmarks.jax_loops import jax_rival
from benchmarks.operation import Bar, First, Operation, Shape, Work, bars
from benchmarks.rival import torch_rival
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

NARROW = {"S": dict(B=2, T=1024, D=256), "L": dict(B=1, T=8192, D=256)}
WIDE = {"S": dict(B=2, T=1024, D=512), "L": dict(B=1, T=8192, D=512)}
JAX_SCAN = jax_rival("JAX lax.scan", jax_loops.selective_scan)
JAX_DIAGONAL = jax_rival("JAX lax.scan", jax_loops.diagonal_scan)
TORCH_SCAN = torch_rival("PyTorch loop", torch_loops.selective_scan)
TORCH_DIAGONAL = torch_rival("PyTorch loop", torch_loops.diagonal_scan)


def scan_work(item: int, forward: int = 0, both: int = 0) -> Callable[[Shape], Work]:
    """Numbers of so many bytes, so many operations on each."""

    def work(s: Shape) -> Work:
        numbers = s["B"] * s["T"] * s["D"]
        return Work({"forward": forward * numbers, "both": both * numbers}, {"forward": 3 * item * numbers, "both": 8 * item * numbers})

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


def dense_inputs(s: Shape) -> dict[str, Tensor]:
    B, T, N = s["B"], s["T"], s["N"]
    return {"A": 0.9 * torch.linalg.qr(torch.randn(B, T, N, N))[0].contiguous(), "b": torch.randn(B, T, N)}


def dense_work(s: Shape) -> Work:
    states, matrices = s["B"] * s["T"] * s["N"], 4 * s["B"] * s["T"] * s["N"] ** 2
    return Work({"forward": 2 * s["N"] * states, "both": 6 * s["N"] * states}, {"forward": matrices, "both": 3 * matrices})


def minmax_inputs(s: Shape) -> dict[str, Tensor]:
    """Caps above and floors below: half of the states are kept at a step. The first floor is what comes out of rest."""
    shape = s["B"], s["T"], s["D"]
    return {"a": torch.randn(shape).abs() + 0.5, "b": torch.randn(shape) - 0.5}


def log_inputs(s: Shape) -> dict[str, Tensor]:
    """minGRU's: log(1 - z) and log z, with states around 1."""
    gate = torch.randn(s["B"], s["T"], s["D"]) - 3
    return {"log_a": F.logsigmoid(-gate), "log_x": F.logsigmoid(gate) + torch.randn_like(gate) / 2}


def filter_inputs(s: Shape) -> dict[str, Tensor]:
    return {"u": torch.randn(s["B"], s["T"], s["D"]), "weight": torch.randn(s["D"], s["K"]) / 2, "bias": torch.randn(s["D"])}


def filter_work(s: Shape) -> Work:
    channels = s["B"] * s["T"] * s["D"]
    return Work(
        {"forward": (2 * s["K"] + 20) * channels, "both": (8 * s["K"] + 60) * channels}, {"forward": 8 * channels, "both": 20 * channels}
    )


def filtered(u: Tensor, weight: Tensor, bias: Tensor, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return recurrence.short_convolution(u, weight, bias, True, initial_state, reset)


def filtered_definition(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return FORMS["short_convolution"]["recurrent"](u, weight, bias, True)[0]


def gru_inputs(s: Shape) -> dict[str, Tensor]:
    return {"A": torch.randn(3, s["D"]) / 2, "x": torch.randn(s["B"], s["T"], 3 * s["D"])}


def gru_work(s: Shape) -> Work:
    channels = s["B"] * s["T"] * s["D"]
    return Work({"forward": 60 * channels, "both": 120 * channels}, {"forward": 16 * channels, "both": 44 * channels})


def diagonal_gru(A: Tensor, x: Tensor, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return recurrence.cell_scan(recurrence.DiagonalGRU(A), x, initial_state, reset)


def diagonal_gru_definition(A: Tensor, x: Tensor) -> Tensor:
    return FORMS["cell_scan"]["recurrent"](recurrence.DiagonalGRU(A), x)[0]


def plrnn_inputs(s: Shape) -> dict[str, Tensor]:
    A, W = torch.rand(s["N"]) / 2, torch.randn(s["N"], s["N"]) / (4 * s["N"] ** 0.5)
    return {"A": A, "W": W, "x": torch.randn(s["B"], s["T"], s["N"])}


def plrnn_work(s: Shape) -> Work:
    numbers = s["B"] * s["T"] * s["N"]
    return Work({"forward": 2 * s["N"] * numbers, "both": 6 * s["N"] * numbers}, {"forward": 8 * numbers, "both": 24 * numbers})


def plrnn(A: Tensor, W: Tensor, x: Tensor, initial_state=None, reset=None) -> tuple[Tensor, Tensor]:
    return recurrence.cell_scan(recurrence.PLRNN(A, W, torch.zeros_like(A)), x, initial_state, reset)


def plrnn_definition(A: Tensor, W: Tensor, x: Tensor) -> Tensor:
    return FORMS["cell_scan"]["recurrent"](recurrence.PLRNN(A, W, torch.zeros_like(A)), x)[0]


def rows() -> tuple[Operation, ...]:
    scan = FORMS["diagonal_scan"]["recurrent"]
    return (
        Operation(
            "selective_scan",
            {size: {**shape, "N": 16} for size, shape in WIDE.items()},
            selective_inputs,
            "u",
            First(recurrence.selective_scan),
            First(FORMS["selective_scan"]["recurrent"]),
            (CPP_SCAN, JAX_SCAN, packages.MAMBAPY_SCAN, TORCH_SCAN, packages.TRANSFORMERS_SCAN),
            selective_work,
            (Bar("forward", 0.6, (CPP_SCAN.name,)), Bar("both", 3.0, (CPP_SCAN.name,), their_direction="forward")),
        ),
        Operation(
            "diagonal_scan, real",
            WIDE,
            real_scan_inputs,
            "x",
            First(recurrence.diagonal_scan),
            First(scan),
            (JAX_DIAGONAL, TORCH_DIAGONAL),
            scan_work(4),
            bars(1.0, 1 / 3, (JAX_DIAGONAL,)),
            grows=False,
        ),
        Operation(
            "diagonal_scan, complex",
            WIDE,
            complex_scan_inputs,
            "x",
            First(recurrence.diagonal_scan),
            First(scan),
            (JAX_DIAGONAL, TORCH_DIAGONAL),
            scan_work(8),
            bars(1.0, 1 / 3, (JAX_DIAGONAL,)),
        ),
        Operation(
            "diagonal_ssm",
            {size: {**shape, "N": 32} for size, shape in NARROW.items()},
            ssm_inputs,
            "u",
            First(recurrence.diagonal_ssm),
            First(FORMS["diagonal_ssm"]["recurrent"]),
            (torch_rival("PyTorch Vandermonde and FFT", torch_loops.diagonal_kernel),),
            ssm_work,
        ),
        Operation(
            "long_convolution",
            NARROW,
            convolution_inputs,
            "u",
            First(recurrence.long_convolution),
            torch_loops.long_convolution,
            (torch_rival("PyTorch FFT", torch_loops.long_convolution),),
            convolution_work,
            grows=False,
            alike=False,
        ),
        Operation(
            "dense_scan",
            {"S": dict(B=2, T=1024, N=32), "L": dict(B=1, T=8192, N=32)},
            dense_inputs,
            "b",
            First(recurrence.dense_scan),
            First(FORMS["dense_scan"]["recurrent"]),
            (jax_rival("JAX lax.scan", jax_loops.dense_scan),),
            dense_work,
            grows=False,
        ),
        Operation(
            "minmax_scan",
            WIDE,
            minmax_inputs,
            "b",
            First(recurrence.minmax_scan),
            First(FORMS["minmax_scan"]["recurrent"]),
            (jax_rival("JAX lax.scan", jax_loops.minmax_scan),),
            scan_work(4),
            grows=False,
        ),
        Operation(
            "log_scan",
            WIDE,
            log_inputs,
            "log_x",
            First(recurrence.log_scan),
            First(FORMS["log_scan"]["recurrent"]),
            (torch_rival("PyTorch logcumsumexp", torch_loops.log_scan), jax_rival("JAX lax.scan", jax_loops.log_scan)),
            scan_work(4, 36, 56),
            grows=False,
        ),
        Operation(
            "cell_scan, diagonal GRU",
            NARROW,
            gru_inputs,
            "BTD",
            First(diagonal_gru),
            diagonal_gru_definition,
            (torch_rival("PyTorch loop", torch_loops.diagonal_gru), jax_rival("JAX lax.scan", jax_loops.diagonal_gru)),
            gru_work,
            grows=False,
        ),
        Operation(
            "cell_scan, PLRNN",
            {"S": dict(B=16, T=256, N=32), "L": dict(B=16, T=2048, N=64)},
            plrnn_inputs,
            "x",
            First(plrnn),
            plrnn_definition,
            (torch_rival("PyTorch loop", torch_loops.plrnn), jax_rival("JAX lax.scan", jax_loops.plrnn)),
            plrnn_work,
            grows=False,
        ),
        Operation(
            "short_convolution, silu",
            {size: shape | {"K": 4} for size, shape in WIDE.items()},
            filter_inputs,
            "u",
            First(filtered),
            filtered_definition,
            (torch_rival("PyTorch conv1d", torch_loops.short_convolution), jax_rival("JAX shifted views", jax_loops.short_convolution)),
            filter_work,
            grows=False,
        ),
    )
