"""Scans whose transition is a structured matrix of its own at every step, each beside its rivals.

Floating point operations of a floor, a multiply-add as two, three times that with the backward:

    block scan          2 k² per channel and step
    low rank scan       4 r + 2 per state and step
    dictionary scan     2 K + 38 per entry of the matrix and step (K products to mix, a power is 32, and 2 to move)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.jax_loops import jax_rival, scan
from benchmarks.operation import First, Operation, Shape, Work
from benchmarks.rival import torch_rival
from separatrix import recurrence
from separatrix.recurrence import OPERATIONS as FORMS

PARTS = 2  # of a channel of the block scan: an LSTM's output and memory


def thrice(flops: float, forward: float, both: float) -> Work:
    """So many operations forward and so many numbers moved, of four bytes."""
    return Work({"forward": flops, "both": 3 * flops}, {"forward": 4 * forward, "both": 4 * both})


def block_inputs(s: Shape) -> dict[str, Tensor]:
    """Parts of a channel give at most 0.95 of themselves to each of them, most of it to the same one."""
    B, T, D = (s[axis] for axis in "BTD")
    to_itself = 3 * torch.eye(PARTS)[..., None]
    return {"A": 0.95 * torch.softmax(torch.randn(B, T, PARTS, PARTS, D) + to_itself, dim=3), "x": torch.randn(B, T, PARTS * D)}


def block_work(s: Shape) -> Work:
    """Moved are A, x and h; with the backward A, h and its gradient, and the gradients of A and x."""
    channels, matrix = s["B"] * s["T"] * s["D"], PARTS**2
    return thrice(2 * matrix * channels, (matrix + 2 * PARTS) * channels, (3 * matrix + 5 * PARTS) * channels)


def torch_blocks(A: Tensor, x: Tensor) -> Tensor:
    x = x.unflatten(2, (PARTS, -1))
    h, rows = torch.zeros_like(x[:, 0]), []
    for blocks, now in zip(A.unbind(1), x.unbind(1)):
        h = (blocks * h[:, None]).sum(2) + now
        rows.append(h)
    return torch.stack(rows, dim=1).flatten(2)


def jax_blocks(A, x):
    import jax.numpy as jnp

    def step(h, now):
        h = (now[0] * h[:, None]).sum(2) + now[1]
        return h, h

    parts = x.reshape(*x.shape[:2], PARTS, -1)
    return scan(step, jnp.zeros_like(parts[0]), (A, parts))[1].reshape(x.shape)


def low_rank_inputs(s: Shape) -> dict[str, Tensor]:
    """A gate, and what goes out along directions of unit length: I - β k kᵀ for each of R."""
    B, T, H, N, R = (s[axis] for axis in "BTHNR")
    k = F.normalize(torch.randn(B, T, H, N, R), dim=3)
    return {
        "diagonal": torch.sigmoid(torch.randn(B, T, H, N) + 3),
        "left": -k * torch.sigmoid(torch.randn(B, T, H, 1, R)),
        "right": k,
        "x": torch.randn(B, T, H, N),
    }


def low_rank_work(s: Shape) -> Work:
    """Moved are the diagonal, x, h and both factors; with the backward all but x, the gradient of h and those of the inputs."""
    states, R = s["B"] * s["T"] * s["H"] * s["N"], s["R"]
    return thrice((4 * R + 2) * states, (3 + 2 * R) * states, (8 + 6 * R) * states)


def torch_low_rank(diagonal: Tensor, left: Tensor, right: Tensor, x: Tensor) -> Tensor:
    h, rows = torch.zeros_like(x[:, 0]), []
    for d, L, R, now in zip(diagonal.unbind(1), left.unbind(1), right.unbind(1), x.unbind(1)):
        h = d * h + (L @ (R.mT @ h[..., None]))[..., 0] + now
        rows.append(h)
    return torch.stack(rows, dim=1)


def jax_low_rank(diagonal, left, right, x):
    import jax.numpy as jnp

    def step(h, now):
        d, L, R, x = now
        h = d * h + jnp.einsum("bhnr,bhr->bhn", L, jnp.einsum("bhnr,bhn->bhr", R, h)) + x
        return h, h

    return scan(step, jnp.zeros_like(x[0]), (diagonal, left, right, x))[1]


def dictionary_inputs(s: Shape) -> dict[str, Tensor]:
    B, T, N, K = (s[axis] for axis in "BTNK")
    return {"selection": torch.randn(B, T, K), "dictionary": torch.randn(K, N, N) * N**-0.5, "b": torch.randn(B, T, N)}


def dictionary_work(s: Shape) -> Work:
    steps, N, K = s["B"] * s["T"], s["N"], s["K"]
    return thrice((2 * K + 38) * N**2 * steps, (K + 2 * N) * steps, (3 * K + 5 * N) * steps)


def torch_dictionary(selection: Tensor, dictionary: Tensor, b: Tensor, p: float = 1.2) -> Tensor:
    h, rows = torch.zeros_like(b[:, 0]), []
    for weights, now in zip(selection.softmax(-1).unbind(1), b.unbind(1)):
        A = F.normalize(torch.einsum("bk,knm->bnm", weights, dictionary), p=p, dim=1)
        h = (A @ h[..., None])[..., 0] + now
        rows.append(h)
    return torch.stack(rows, dim=1)


def jax_dictionary(selection, dictionary, b, p=1.2):
    import jax
    import jax.numpy as jnp

    def step(h, now):
        M = jnp.einsum("bk,knm->bnm", now[0], dictionary)
        A = M * (jnp.abs(M) ** p).sum(1, keepdims=True) ** (-1 / p)
        h = jnp.einsum("bnm,bm->bn", A, h) + now[1]
        return h, h

    return scan(step, jnp.zeros_like(b[0]), (jax.nn.softmax(selection, axis=-1), b))[1]


def rows() -> tuple[Operation, ...]:
    return (
        Operation(
            "block_scan",
            {"S": dict(B=2, T=1024, D=256), "L": dict(B=1, T=8192, D=256)},
            block_inputs,
            "x",
            First(recurrence.block_scan),
            First(FORMS["block_scan"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_blocks), jax_rival("JAX lax.scan", jax_blocks)),
            block_work,
            grows=False,
        ),
        Operation(
            "low_rank_scan",
            {"S": dict(B=2, T=512, H=4, N=64, R=2), "L": dict(B=1, T=4096, H=8, N=64, R=2)},
            low_rank_inputs,
            "x",
            First(recurrence.low_rank_scan),
            First(FORMS["low_rank_scan"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_low_rank), jax_rival("JAX lax.scan", jax_low_rank)),
            low_rank_work,
            grows=False,
        ),
        Operation(
            "dictionary_scan",
            {"S": dict(B=2, T=1024, N=32, K=8), "L": dict(B=1, T=8192, N=32, K=8)},
            dictionary_inputs,
            "b",
            First(recurrence.dictionary_scan),
            First(FORMS["dictionary_scan"]["recurrent"]),
            (torch_rival("PyTorch loop", torch_dictionary), jax_rival("JAX lax.scan", jax_dictionary)),
            dictionary_work,
            grows=False,
        ),
    )
