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

from separatrix.recurrence import AdaptiveRidge, State

Arguments = dict[str, Any]
BATCH = 2


@dataclass(frozen=True)
class Row:
    operation: str
    example: Callable[[int], Arguments]  # of the number of steps
    timed: tuple[str, ...]  # the arguments with axes [batch, time, ...]
    driven_by: str  # the argument in which, with the initial state, everything is linear
    parts: tuple[str, ...] = ()  # of a State, the columns of the example's initial_state: [..., K, K] and [..., K, V]
    linear: bool = True  # in what drives it
    rest: Callable[[Arguments], Tensor] = lambda arguments: torch.zeros_like(arguments["initial_state"])

    def on_tensors(self, operation: Callable) -> Callable:
        """The operation, its State as one tensor."""
        if not self.parts:
            return operation

        def call(**arguments: Any) -> tuple[Tensor, Tensor]:
            if (state := arguments.get("initial_state")) is not None:
                columns = state.split([state.shape[-2], state.shape[-1] - state.shape[-2]], dim=-1)
                arguments["initial_state"] = State(**dict(zip(self.parts, columns)))
            y, final = operation(**arguments)
            return y, torch.cat([final.parts[name] for name in self.parts], dim=-1)

        return call


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


def product(time: int, factors: int, log_decay: Tensor | None, query_heads: int = 2) -> Arguments:
    """Keys, values and steps of several factors a token."""
    H, K, V = 2, 4, 3
    return heads(time, log_decay, query_heads) | {
        "k": normalize(randn(BATCH, time, factors, query_heads, K), dim=-1),
        "v": randn(BATCH, time, factors, H, V),
        "beta": 2 * torch.rand(BATCH, time, factors, H, dtype=torch.float64),
    }


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


def dense_ssm(time: int) -> Arguments:
    """A stable matrix that is far from normal."""
    D, N = 3, 4
    a = torch.diag_embed(0.9 * randn(D, N).tanh()) + torch.triu(randn(D, N, N), 1) / 2
    return {"u": randn(BATCH, time, D), "a": a, "b": randn(D, N), "c": randn(D, N), "skip": randn(D), "initial_state": randn(BATCH, D, N)}


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


def longhorn(time: int) -> Arguments:
    N, D = 3, 5
    return {
        "q": randn(BATCH, time, N),
        "k": randn(BATCH, time, N) / 2,
        "x": randn(BATCH, time, D),
        "beta": randn(BATCH, time, D).exp(),
        "initial_state": randn(BATCH, D, N),
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


def low_rank(time: int, kind: Callable[..., Tensor] = randn, batch: int = BATCH, steps: int | None = None) -> Arguments:
    """Rank 2 beside multipliers of both signs, some of them 0; two heads."""
    N, leading = 4, (batch, time if steps is None else steps, 2)
    d = kind(*leading, N)
    d = d.tanh() / 1.5 if kind is randn else d / 2
    return {
        "diagonal": torch.where(torch.rand(d.shape) < 0.1, 0, d),
        "left": kind(*leading, N, 2) / 4,
        "right": kind(*leading, N, 2) / 4,
        "x": kind(BATCH, time, 2, N),
        "initial_state": kind(BATCH, 2, N),
    }


def regression(time: int, ridge: Tensor | AdaptiveRidge) -> Arguments:
    given = heads(time, decay(BATCH, time, 2), 1, delta=True)
    root = randn(BATCH, 2, 4, 6)
    given["beta"] = 0.2 + 0.9 * given["beta"]  # the adaptive ridge reads the same for any one small beta: all of its gradient cancels
    return given | {"ridge": ridge, "initial_state": torch.cat([root @ root.mT / 6, given["initial_state"]], dim=-1)}


def least_squares(time: int) -> Arguments:
    """Gentle decays: the inverse grows in every direction that no key excites, and its rounding with it."""
    given = regression(time, 0.2 + torch.rand(2, 4, dtype=torch.float64))
    return given | {"log_decay": -0.02 * torch.rand(BATCH, time, 2, dtype=torch.float64)}


def prior(given: Arguments) -> Tensor:
    """The inverse of the ridge, beside no memory."""
    Q, W = given["initial_state"].split([4, 3], dim=-1)
    return torch.cat([torch.diag_embed(1 / given["ridge"]).expand(Q.shape), torch.zeros_like(W)], dim=-1)


def dictionary(time: int, N: int = 4, K: int = 3) -> Arguments:
    return {
        "selection": randn(BATCH, time, K),
        "dictionary": randn(K, N, N),
        "b": randn(BATCH, time, N),
        "initial_state": randn(BATCH, N),
    }


def companion(time: int) -> Arguments:
    H, N = 3, 4
    a = randn(H, N)
    return {
        "u": randn(BATCH, time, H),
        "a": a / a.abs().sum(-1, keepdim=True),
        "b": randn(H, N),
        "c": randn(H, N),
        "initial_state": randn(BATCH, H, N),
    }


def filters(time: int) -> Arguments:
    C, K = 5, 4
    h = randn(BATCH, K - 1, C)
    return {"u": randn(BATCH, time, C), "weight": randn(C, K), "bias": randn(C), "silu": True, "initial_state": h}


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
    "dense state space": Row("dense_ssm", dense_ssm, ("u",), "u"),
    "blocks": Row(
        "block_scan",
        lambda T: {"A": randn(BATCH, T, 2, 2, 3).tanh() / 1.5, "x": randn(BATCH, T, 6), "initial_state": randn(BATCH, 6)},
        ("A", "x"),
        "x",
    ),
    "blocks, the same at all steps": Row(
        "block_scan",
        lambda T: {"A": randn(1, 1, 2, 2, 3).tanh() / 1.5, "x": randn(BATCH, T, 6), "initial_state": randn(BATCH, 6)},
        ("x",),
        "x",
    ),
    "delta product": Row("delta_product", lambda T: product(T, 2, None), ("q", "k", "v", "beta"), "v"),
    "delta product, one decay": Row(
        "delta_product", lambda T: product(T, 3, decay(BATCH, T, 2), 1), ("q", "k", "v", "beta", "log_decay"), "v"
    ),
    "delta product, decay per key": Row(
        "delta_product", lambda T: product(T, 2, decay(BATCH, T, 2, 4)), ("q", "k", "v", "beta", "log_decay"), "v"
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
    "attention, bonus": Row(
        "linear_attention",
        lambda T: heads(T, decay(BATCH, T, 2, 4), 1) | {"bonus": randn(2, 4)},
        ("q", "k", "v", "log_decay"),
        "v",
    ),
    "longhorn": Row("longhorn", longhorn, ("q", "k", "x", "beta"), "x"),
    "longhorn, diagonal": Row("longhorn_diagonal", longhorn, ("q", "k", "x", "beta"), "x"),
    "low rank": Row("low_rank_scan", low_rank, ("diagonal", "left", "right", "x"), "x"),
    "low rank, complex": Row("low_rank_scan", lambda T: low_rank(T, turning), ("diagonal", "left", "right", "x"), "x"),
    "low rank, the same at all steps": Row("low_rank_scan", lambda T: low_rank(T, randn, 1, 1), ("x",), "x"),
    "ridge": Row(
        "ridge_attention",
        lambda T: regression(T, 0.2 + torch.rand(2, 4, dtype=torch.float64)),
        ("q", "k", "v", "beta", "log_decay"),
        "v",
        ("P", "R"),
    ),
    "ridge, adaptive": Row(
        "ridge_attention", lambda T: regression(T, AdaptiveRidge(0.05)), ("q", "k", "v", "beta", "log_decay"), "v", ("P", "R")
    ),
    "recursive least squares": Row(
        "recursive_least_squares", least_squares, ("q", "k", "v", "beta", "log_decay"), "v", ("Q", "W"), rest=prior
    ),
    "dictionary": Row("dictionary_scan", dictionary, ("selection", "b"), "b"),
    "dictionary, several registers": Row("dictionary_scan", lambda T: dictionary(T, 37, 2), ("selection", "b"), "b"),
    "companion": Row("companion_ssm", companion, ("u",), "u"),
    "short convolution": Row("short_convolution", lambda T: filters(T) | {"bias": None, "silu": False}, ("u",), "u"),
    "short convolution, silu": Row("short_convolution", filters, ("u",), "u", linear=False),
}
