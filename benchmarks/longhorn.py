"""Longhorn, a state a channel that solves a small regression at every step, as published and by its diagonal, each beside its rivals.

The floor counts 6 floating point operations per state and step (what a key misses, what is written, what is read), 7 by the diagonal
(1 - ε k k and its product in place of the miss), and three times that with the backward.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.jax_loops import jax_rival, scan
from benchmarks.operation import First, Operation, Shape, Work
from benchmarks.rival import torch_rival
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

SHAPES = {"S": dict(B=2, T=1024, D=512, N=16), "L": dict(B=1, T=8192, D=512, N=16)}


def inputs(s: Shape) -> dict[str, Tensor]:
    B, T, D, N = (s[axis] for axis in "BTDN")
    return {
        "q": torch.randn(B, T, N),
        "k": F.normalize(torch.randn(B, T, N), dim=-1),
        "x": torch.randn(B, T, D),
        "beta": torch.sigmoid(torch.randn(B, T, D)),
    }


def work(flops: int) -> Callable[[Shape], Work]:
    def of(s: Shape) -> Work:
        states, array = s["B"] * s["T"] * s["D"] * s["N"], 4 * s["B"] * s["T"] * s["D"]
        return Work({"forward": flops * states, "both": 3 * flops * states}, {"forward": 3 * array, "both": 8 * array})

    return of


def torch_longhorn(q: Tensor, k: Tensor, x: Tensor, beta: Tensor) -> Tensor:
    """S <- S + ε (x - S k) k',  o = S q,  ε = β / (1 + β |k|²)"""
    rate = beta / (1 + beta * k.square().sum(-1, keepdim=True))
    S, rows = x.new_zeros(x.shape[0], x.shape[2], k.shape[2]), []
    for query, key, now, step in zip(q.unbind(1), k.unbind(1), x.unbind(1), rate.unbind(1)):
        S = S + (step * (now - (S @ key[..., None])[..., 0]))[..., None] * key[:, None]
        rows.append((S @ query[..., None])[..., 0])
    return torch.stack(rows, dim=1)


def torch_diagonal(q: Tensor, k: Tensor, x: Tensor, beta: Tensor) -> Tensor:
    """S <- (1 - ε k²) S + ε x k',  o = S q"""
    rate = beta / (1 + beta * k.square().sum(-1, keepdim=True))
    S, rows = x.new_zeros(x.shape[0], x.shape[2], k.shape[2]), []
    for query, key, now, step in zip(q.unbind(1), k[:, :, None].unbind(1), x.unbind(1), rate[..., None].unbind(1)):
        S = (1 - step * key * key) * S + step * now[..., None] * key
        rows.append((S @ query[..., None])[..., 0])
    return torch.stack(rows, dim=1)


def jax_longhorn(q, k, x, beta):
    import jax.numpy as jnp

    def step(S, now):
        q, k, x, rate = now
        S = S + (rate * (x - (S * k[:, None]).sum(-1)))[..., None] * k[:, None]
        return S, (S * q[:, None]).sum(-1)

    rate = beta / (1 + beta * (k * k).sum(-1, keepdims=True))
    return scan(step, jnp.zeros((*x.shape[1:], k.shape[2])), (q, k, x, rate))[1]


def jax_diagonal(q, k, x, beta):
    import jax.numpy as jnp

    def step(S, now):
        q, k, x, rate = now[0][:, None], now[1][:, None], now[2][..., None], now[3][..., None]
        S = (1 - rate * k * k) * S + rate * x * k
        return S, (S * q).sum(-1)

    rate = beta / (1 + beta * (k * k).sum(-1, keepdims=True))
    return scan(step, jnp.zeros((*x.shape[1:], k.shape[2])), (q, k, x, rate))[1]


def rows() -> tuple[Operation, ...]:
    return (
        Operation(
            "longhorn",
            SHAPES,
            inputs,
            "x",
            First(recurrence.longhorn),
            First(FORMS["longhorn"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_longhorn), jax_rival("JAX lax.scan", jax_longhorn)),
            work(6),
            grows=False,
        ),
        Operation(
            "longhorn_diagonal",
            SHAPES,
            inputs,
            "x",
            First(recurrence.longhorn_diagonal),
            First(FORMS["longhorn_diagonal"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_diagonal), jax_rival("JAX lax.scan", jax_diagonal)),
            work(7),
            grows=False,
        ),
    )
