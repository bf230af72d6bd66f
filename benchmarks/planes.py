"""Operations in two dimensions, time and variates, each beside its rivals: lines as whole tensors, cells of a line one after another.

Floating point operations of a floor, per cell and number of the state (both of its parts):

    scan2d              8, three times that with the backward
    selective scan      60 (two steps' exponentials are 32, their quotients 8), 100 with the backward
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmarks.jax_loops import jax_rival, scan
from benchmarks.operation import First, Operation, Shape, Work
from benchmarks.rival import torch_rival
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

GRID = {"S": dict(B=2, T=256, V=8, D=64), "L": dict(B=1, T=2048, V=8, D=64)}


def scan_inputs(s: Shape) -> dict[str, Tensor]:
    """Both parts of the state together give at most 0.95 of themselves to either, most of it to the same one."""
    B, T, V, D = (s[axis] for axis in "BTVD")
    to_itself = 3 * torch.eye(2)[..., None]
    return {"a": 0.95 * torch.softmax(torch.randn(B, T, V, 2, 2, D) + to_itself, dim=4), "x": torch.randn(B, T, V, 2, D)}


def scan_work(s: Shape) -> Work:
    """Bytes: four a, two x and two h of a cell; with the backward h, its gradient and a once more, and the gradients of a and x."""
    numbers = s["B"] * s["T"] * s["V"] * s["D"]
    return Work({"forward": 8 * numbers, "both": 24 * numbers}, {"forward": 4 * 8 * numbers, "both": 4 * 22 * numbers})


def selective_inputs(s: Shape) -> dict[str, Tensor]:
    """What a part of the state gives to the other is smaller than what it loses."""
    B, T, V, D, N = (s[axis] for axis in "BTVDN")
    fading = torch.arange(1.0, N + 1).repeat(D, 1)
    A = torch.randn(2, 2, D, N) / 4
    A[0, 0] = A[1, 1] = -fading
    return {
        "u": torch.randn(B, T, V, D),
        "delta": torch.exp(torch.empty(B, T, V, 2, D).uniform_(math.log(1e-3), math.log(1e-1))),
        "A": A,
        "B": torch.randn(B, T, V, 2, N),
        "C": torch.randn(B, T, V, 2, N),
        "D": torch.randn(D),
    }


def selective_work(s: Shape) -> Work:
    array = 4 * s["B"] * s["T"] * s["V"] * s["D"]
    states = array / 4 * s["N"]
    return Work({"forward": 60 * states, "both": 100 * states}, {"forward": 4 * array, "both": 11 * array})


def torch_line(before: Tensor, a11: Tensor, a12: Tensor, a21: Tensor, a22: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """The line [B, V, 2, ...] after `before`: h1 all at once, h2 cell after cell."""
    h1 = a11 * before[:, :, 0] + a12 * before[:, :, 1] + x1
    drive = a21 * torch.cat([torch.zeros_like(h1[:, :1]), h1[:, :-1]], dim=1) + x2
    h2, cells = torch.zeros_like(h1[:, 0]), []
    for a, x in zip(a22.unbind(1), drive.unbind(1)):
        h2 = a * h2 + x
        cells.append(h2)
    return torch.stack([h1, torch.stack(cells, dim=1)], dim=2)


def torch_scan(a: Tensor, x: Tensor) -> Tensor:
    h, lines = torch.zeros_like(x[:, 0]), []
    for gain, now in zip(a.unbind(1), x.unbind(1)):
        h = torch_line(h, *gain.flatten(2, 3).unbind(2), *now.unbind(2))
        lines.append(h)
    return torch.stack(lines, dim=1)


def torch_selective(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The exact step: exp(δ A) is kept, (exp(δ A) - 1) / A taken of what is held."""
    fading = torch.stack([A[0, 0], A[1, 1]])
    h, lines = u.new_zeros(u.shape[0], u.shape[2], 2, *A.shape[2:]), []
    for u_t, delta_t, B_t, C_t in zip(u.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1)):
        z = delta_t[..., None] * fading
        kept, held = torch.exp(z).unbind(2), (torch.expm1(z) / fading).unbind(2)
        x1, x2 = (B_t[:, :, :, None] * u_t[:, :, None, :, None]).unbind(2)
        h = torch_line(h, kept[0], held[0] * A[0, 1], held[1] * A[1, 0], kept[1], held[0] * x1, held[1] * x2)
        lines.append((h * C_t[:, :, :, None]).sum((2, 4)))
    return torch.stack(lines, dim=1) + D * u


def jax_line(before, a11, a12, a21, a22, x1, x2):
    import jax.numpy as jnp

    h1 = a11 * before[:, :, 0] + a12 * before[:, :, 1] + x1
    drive = a21 * jnp.concatenate([jnp.zeros_like(h1[:, :1]), h1[:, :-1]], axis=1) + x2
    h2, cells = jnp.zeros_like(h1[:, 0]), []
    for v in range(h1.shape[1]):
        h2 = a22[:, v] * h2 + drive[:, v]
        cells.append(h2)
    return jnp.stack([h1, jnp.stack(cells, axis=1)], axis=2)


def jax_scan(a, x):
    import jax.numpy as jnp

    def step(h, now):
        a, x = now
        h = jax_line(h, *(a[:, :, i, j] for i in range(2) for j in range(2)), x[:, :, 0], x[:, :, 1])
        return h, h

    return scan(step, jnp.zeros_like(x[0]), (a, x))[1]


def jax_selective(u, delta, A, B, C, D):
    import jax.numpy as jnp

    fading = jnp.stack([A[0, 0], A[1, 1]])

    def step(h, now):
        u, delta, B, C = now
        z = delta[..., None] * fading
        kept, held = jnp.exp(z), jnp.expm1(z) / fading
        given, x = held * jnp.stack([A[0, 1], A[1, 0]]), held * B[:, :, :, None] * u[:, :, None, :, None]
        h = jax_line(h, kept[:, :, 0], given[:, :, 0], given[:, :, 1], kept[:, :, 1], x[:, :, 0], x[:, :, 1])
        return h, (h * C[:, :, :, None]).sum((2, 4))

    return scan(step, jnp.zeros((*u.shape[1:3], 2, *A.shape[2:])), (u, delta, B, C))[1] + D * u


def rows() -> tuple[Operation, ...]:
    return (
        Operation(
            "scan2d",
            GRID,
            scan_inputs,
            "x",
            First(recurrence.scan2d),
            First(FORMS["scan2d"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_scan), jax_rival("JAX lax.scan", jax_scan)),
            scan_work,
            grows=False,
        ),
        Operation(
            "selective_scan2d",
            {size: {**shape, "N": 8} for size, shape in GRID.items()},
            selective_inputs,
            "u",
            First(recurrence.selective_scan2d),
            First(FORMS["selective_scan2d"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_selective), jax_rival("JAX lax.scan", jax_selective)),
            selective_work,
            grows=False,
        ),
    )
