"""Linear systems that do not change with time, each beside its rivals.

A floor is that of the long convolution which such a system is, and of its kernel: √T powers of the transition times √T more are N
multiply-adds for each of its T numbers a channel. Three times that with the backward.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.jax_loops import jax_rival, scan
from benchmarks.operation import First, Operation, Shape, Work
from benchmarks.rival import torch_rival
from benchmarks.torch_loops import long_convolution
from benchmarks.vector import convolution_work
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS
from separatrix.recurrence import init
from separatrix.recurrence.companion import normalised
from separatrix.recurrence.discretize import bilinear_matrix

SHAPES = {"S": dict(B=2, T=1024, D=128, N=32), "L": dict(B=1, T=8192, D=128, N=32)}


def system_work(s: Shape) -> Work:
    flops = convolution_work(s).flops["forward"] + 2 * s["T"] * s["N"] * s["D"]
    array = 4 * s["B"] * s["T"] * s["D"]
    return Work({"forward": flops, "both": 3 * flops}, {"forward": 2 * array, "both": 5 * array})


def dense_inputs(s: Shape) -> dict[str, Tensor]:
    """S4's: HiPPO-LegS, a step for every channel."""
    D, N = s["D"], s["N"]
    A, B, _ = (x.float() for x in init.hippo("legs", N))
    dt = torch.exp(torch.empty(D).uniform_(math.log(1e-3), math.log(1e-1)))
    a, b = bilinear_matrix(A, B, dt)
    return {"u": torch.randn(s["B"], s["T"], D), "a": a.contiguous(), "b": b.contiguous(), "c": torch.randn(D, N), "skip": torch.randn(D)}


def companion_inputs(s: Shape) -> dict[str, Tensor]:
    """SpaceTime's: coefficients of 1-norm 1."""
    D, N = s["D"], s["N"]
    a, b, c = normalised(torch.randn(D, N)), torch.randn(D, N), torch.randn(D, N) / N
    return {"u": torch.randn(s["B"], s["T"], D), "a": a, "b": b, "c": c}


def torch_kernel(u: Tensor, a: Tensor, b: Tensor, c: Tensor, skip: Tensor) -> Tensor:
    """y = k * u + skip u, with the kernel k_t = c aᵗ b of powers by doubling."""
    powers = b[..., None]  # b, a b, a² b, ...
    while powers.shape[-1] < u.shape[1]:
        powers, a = torch.cat([powers, a @ powers], dim=-1), a @ a
    return long_convolution((c[:, None] @ powers)[:, 0, : u.shape[1]], u) + skip * u


def torch_companion(u: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h, rows = u.new_zeros(u.shape[0], *b.shape), []
    for now in u.unbind(1):
        h = F.pad(h[..., :-1], (1, 0)) + a * h[..., -1:] + b * now[..., None]
        rows.append((c * h).sum(-1))
    return torch.stack(rows, dim=1)


def torch_companion_kernel(u: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    N = a.shape[1]
    matrix = torch.cat([torch.eye(N, N - 1, dtype=a.dtype).roll(1, 0).expand(len(a), -1, -1), a[..., None]], dim=-1)
    return torch_kernel(u, matrix, b, c, u.new_zeros(()))


def jax_loop(u, a, b, c, skip):
    import jax.numpy as jnp

    def step(h, now):
        h = jnp.einsum("dnm,bdm->bdn", a, h) + b * now[..., None]
        return h, (c * h).sum(-1)

    return scan(step, jnp.zeros((u.shape[1], *b.shape)), u)[1] + skip * u


def jax_companion_loop(u, a, b, c):
    import jax.numpy as jnp

    def step(h, now):
        shifted = jnp.concatenate([jnp.zeros_like(h[..., :1]), h[..., :-1]], axis=-1)
        h = shifted + a * h[..., -1:] + b * now[..., None]
        return h, (c * h).sum(-1)

    return scan(step, jnp.zeros((u.shape[1], *b.shape)), u)[1]


def rows() -> tuple[Operation, ...]:
    return (
        Operation(
            "dense_ssm",
            SHAPES,
            dense_inputs,
            "u",
            First(recurrence.dense_ssm),
            First(FORMS["dense_ssm"]["recurrent"]),
            (
                torch_rival("PyTorch powers and FFT", torch_kernel),
                jax_rival("JAX lax.scan", jax_loop),
            ),
            system_work,
            grows=False,
        ),
        Operation(
            "companion_ssm",
            SHAPES,
            companion_inputs,
            "u",
            First(recurrence.companion_ssm),
            First(FORMS["companion_ssm"]["recurrent"]),
            (
                torch_rival("PyTorch powers and FFT", torch_companion_kernel),
                torch_rival("PyTorch loop", torch_companion),
                jax_rival("JAX lax.scan", jax_companion_loop),
            ),
            system_work,
            grows=False,
        ),
    )
