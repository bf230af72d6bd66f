"""The table of operations with example inputs. A row is tested by being here (test_roads.py), in every form that OPERATIONS lists.

An example is a dictionary of the operation's arguments in float64: decays from gentle to a step that forgets by exp(-30), negative and
complex multipliers, more value heads than query heads, an initial state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

Arguments = dict[str, Any]
BATCH = 2


@dataclass(frozen=True)
class Row:
    operation: str
    example: Callable[[int], Arguments]  # of the number of steps
    timed: tuple[str, ...]  # the arguments with axes [batch, time, ...]
    driven_by: str  # the argument in which, with the initial state, everything is linear


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def decay(*shape: int) -> Tensor:
    """Log decays: mostly slow, one in eight about exp(-30)."""
    return torch.where(torch.rand(*shape) < 0.125, -30.0, -0.3) * torch.rand(*shape, dtype=torch.float64)


def turning(*shape: int) -> Tensor:
    return torch.polar(torch.rand(*shape, dtype=torch.float64), 3 * randn(*shape))


def heads(time: int, log_decay: Tensor | None, query_heads: int = 2, delta: bool = False) -> Arguments:
    H, K, V = 2, 4, 3
    q, k = randn(BATCH, time, query_heads, K), normalize(randn(BATCH, time, query_heads, K), dim=-1)
    beta = {"beta": 2 * torch.rand(BATCH, time, H, dtype=torch.float64)} if delta else {}
    return {"q": q, "k": k, "v": randn(BATCH, time, H, V), **beta, "log_decay": log_decay, "initial_state": randn(BATCH, H, K, V)}


def ssd(time: int) -> Arguments:
    H, G, P, N = 4, 2, 3, 4
    return {
        "x": randn(BATCH, time, H, P),
        "dt": randn(BATCH, time, H),
        "A": -3 * torch.rand(H, dtype=torch.float64),
        "B": randn(BATCH, time, G, N),
        "C": randn(BATCH, time, G, N),
        "D": randn(H),
        "z": randn(BATCH, time, H, P),
        "dt_bias": randn(H),
        "dt_softplus": True,
        "initial_state": randn(BATCH, H, P, N),
    }


def selective(time: int, kind: Callable[..., Tensor] = randn) -> Arguments:
    D, N = 5, 3
    A = -3 * torch.rand(D, N, dtype=torch.float64)
    return {
        "u": randn(BATCH, time, D),
        "delta": randn(BATCH, time, D),
        "A": A if kind is randn else torch.complex(A, randn(D, N)),
        "B": kind(BATCH, time, N),
        "C": kind(BATCH, time, N),
        "D": randn(D),
        "z": randn(BATCH, time, D),
        "delta_bias": randn(D),
        "delta_softplus": True,
        "initial_state": kind(BATCH, D, N),
    }


def ssm(time: int) -> Arguments:
    D, N = 3, 4
    return {"u": randn(BATCH, time, D), "a": turning(D, N), "c": turning(D, N), "skip": randn(D), "initial_state": turning(BATCH, D, N)}


def rank_one(time: int, log_decay: Tensor | None) -> Arguments:
    """RWKV-7's: what b writes back is at most what a reads."""
    H, K, V = 2, 4, 3
    a = normalize(randn(BATCH, time, H, K), dim=-1)
    return {
        "r": randn(BATCH, time, H, K),
        "log_decay": log_decay,
        "k": randn(BATCH, time, H, K),
        "v": randn(BATCH, time, H, V),
        "a": -a,
        "b": a * torch.rand(BATCH, time, H, K, dtype=torch.float64),
        "scale": 0.5,
        "initial_state": randn(BATCH, H, K, V),
    }


def dense(time: int, batch: int = BATCH, steps: int | None = None, N: int = 4, kind: Callable[..., Tensor] = randn) -> Arguments:
    """Matrices that stretch some directions and shrink others, two heads."""
    A = kind(batch, time if steps is None else steps, 2, N, N) / N**0.5
    return {"A": A / (1.5 if kind is randn else 1), "b": kind(BATCH, time, 2, N), "initial_state": kind(BATCH, 2, N)}


def grid(time: int, variates: int, kind: Callable[..., Tensor] = randn, shared: bool = False) -> Arguments:
    """Every line and column adds up to less than one, or the paths through the grid would multiply without bound."""
    a = kind(2, 2, 3) if shared else kind(BATCH, time, variates, 2, 2, 3)
    return {
        "a": 0.9 * a / (1 + a.abs().sum(-2, keepdim=True)),
        "x": kind(BATCH, time, variates, 2, 3),
        "initial_state": kind(BATCH, variates, 2, 3),
    }


def selective_grid(time: int, variates: int) -> Arguments:
    """Steps from nearly none to forgetting; crossing slower than forgetting, or the paths through the grid would multiply without bound."""
    D, N = 3, 2
    A = 0.3 * randn(2, 2, D, N)
    A[0, 0], A[1, 1] = (-1 - 2 * torch.rand(D, N) for _ in range(2))
    return {
        "u": randn(BATCH, time, variates, D),
        "delta": torch.rand(BATCH, time, variates, 2, D, dtype=torch.float64) ** 4 * 3,
        "A": A,
        "B": randn(BATCH, time, variates, 2, N),
        "C": randn(BATCH, time, variates, 2, N),
        "D": randn(D),
        "initial_state": randn(BATCH, variates, 2, D, N),
    }


ROWS = {
    "diagonal, real": Row(
        "diagonal_scan",
        lambda T: {"a": randn(BATCH, T, 5).tanh(), "x": randn(BATCH, T, 5), "initial_state": randn(BATCH, 5)},
        ("a", "x"),
        "x",
    ),
    "diagonal, complex": Row(
        "diagonal_scan",
        lambda T: {"a": turning(BATCH, T, 5), "x": turning(BATCH, T, 5), "initial_state": turning(BATCH, 5)},
        ("a", "x"),
        "x",
    ),
    "diagonal, the same at all steps": Row(
        "diagonal_scan", lambda T: {"a": randn(5).tanh(), "x": randn(BATCH, T, 3, 5), "initial_state": randn(BATCH, 3, 5)}, ("x",), "x"
    ),
    "diagonal state space": Row("diagonal_ssm", ssm, ("u",), "u"),
    "selective": Row("selective_scan", selective, ("u", "delta", "B", "C", "z"), "u"),
    "selective, complex": Row("selective_scan", lambda T: selective(T, turning), ("u", "delta", "B", "C", "z"), "u"),
    "ssd": Row("ssd", ssd, ("x", "dt", "B", "C", "z"), "x"),
    "attention": Row("linear_attention", lambda T: heads(T, None), ("q", "k", "v"), "v"),
    "attention, one decay": Row("linear_attention", lambda T: heads(T, decay(BATCH, T, 2)), ("q", "k", "v", "log_decay"), "v"),
    "attention, decay per key": Row("linear_attention", lambda T: heads(T, decay(BATCH, T, 2, 4), 1), ("q", "k", "v", "log_decay"), "v"),
    "delta": Row("delta_rule", lambda T: heads(T, None, delta=True), ("q", "k", "v", "beta"), "v"),
    "delta, one decay": Row("delta_rule", lambda T: heads(T, decay(BATCH, T, 2), delta=True), ("q", "k", "v", "beta", "log_decay"), "v"),
    "delta, decay per key": Row(
        "delta_rule", lambda T: heads(T, decay(BATCH, T, 2, 4), 1, delta=True), ("q", "k", "v", "beta", "log_decay"), "v"
    ),
    "rank one": Row("dplr", lambda T: rank_one(T, None), ("r", "k", "v", "a", "b"), "v"),
    "rank one, one decay": Row("dplr", lambda T: rank_one(T, decay(BATCH, T, 2)), ("r", "log_decay", "k", "v", "a", "b"), "v"),
    "rank one, decay per key": Row("dplr", lambda T: rank_one(T, decay(BATCH, T, 2, 4)), ("r", "log_decay", "k", "v", "a", "b"), "v"),
    "dense": Row("dense_scan", dense, ("A", "b"), "b"),
    "dense, the same at all steps": Row("dense_scan", lambda T: dense(T, 1, 1, 9), ("b",), "b"),
    "dense, the same in all rows": Row("dense_scan", lambda T: dense(T, 1, T), ("A", "b"), "b"),
    "dense, complex": Row("dense_scan", lambda T: dense(T, kind=turning), ("A", "b"), "b"),
    "two dimensions": Row("scan2d", lambda T: grid(T, 2), ("a", "x"), "x"),
    "two dimensions, complex": Row("scan2d", lambda T: grid(T, 2, turning), ("a", "x"), "x"),
    "two dimensions, the same everywhere": Row("scan2d", lambda T: grid(T, 2, shared=True), ("x",), "x"),
    "two dimensions, selective": Row("selective_scan2d", lambda T: selective_grid(T, 2), ("u", "delta", "B", "C"), "u"),
}
