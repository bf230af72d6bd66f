"""Nothing passes a reset: what is not finite in one packed sequence reaches no output and no gradient of the next.

Every row of roads.py in every form that OPERATIONS lists; every form of the operations that have no row there, and what is made of them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix import recurrence
from separatrix.recurrence import OPERATIONS, DiagonalGRU, Elman, State
from separatrix.recurrence.checks import NotANumber
from tests.agree import cast, is_number
from tests.recurrence.forms import FINEST, named
from tests.recurrence.roads import BATCH, ROWS, Arguments, decay, heads, randn

# steps, the broken one, the reset: within a chunk, and across several
PLACES = [(40, 5, 20), (140, 70, 100)]


def unit(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def minmax(T: int, *shape: int) -> Arguments:
    return {"a": randn(BATCH, T, *shape), "b": randn(BATCH, T, 3)}


def gates(T: int, *names: str) -> Arguments:
    return {name: unit(BATCH, T, 5) for name in names}


def drive(T: int) -> Arguments:
    return {"x": randn(BATCH, T, 5)}


def memories(T: int) -> Arguments:
    return {"logits": randn(BATCH, T, 5)} | {name: randn(BATCH, T, 2, 2, n) for name, n in (("q", 4), ("k", 4), ("v", 3))}


def mixed(logits: Tensor, q: Tensor, k: Tensor, v: Tensor, reset: Tensor | None = None):
    return recurrence.mixture_of_memories(recurrence.linear_attention, recurrence.route(logits, 2), q, k, v, reset=reset)


def forced(x: Tensor, targets: Tensor, reset: Tensor | None = None):
    alpha = torch.full(x.shape[1:2], 0.3, dtype=x.dtype)
    return recurrence.forced_scan(Elman(torch.eye(5) / 2), targets, alpha, reset=reset, inputs=x)[:1]


OTHERS: dict[str, tuple[Callable[..., Any], Callable[[int], Arguments]]] = {
    "min_gru": (recurrence.min_gru, lambda T: gates(T, "z", "h_tilde")),
    "min_lstm": (recurrence.min_lstm, lambda T: gates(T, "f", "i", "h_tilde")),
    "rg_lru": (partial(recurrence.rg_lru, lam=torch.ones(5)), lambda T: gates(T, "x", "r", "i")),
    "legs_online": (partial(recurrence.legs_online, n=4), lambda T: {"u": randn(BATCH, T, 3)}),
    "mimo_ssm": (
        partial(recurrence.mimo_ssm, b=torch.ones(4), B=torch.ones(4, 2, 3), C=torch.ones(2, 4, 2)),
        lambda T: {"u": randn(BATCH, T, 3), "a": randn(BATCH, T, 4).tanh()},
    ),
    "spectral_convolution": (partial(recurrence.spectral_convolution, filters=torch.ones(6, 2)), lambda T: {"u": randn(BATCH, T, 3)}),
    "normalised_attention": (
        recurrence.normalised_attention,
        lambda T: {"q": randn(BATCH, T, 2, 4), "k": randn(BATCH, T, 2, 4), "v": randn(BATCH, T, 2, 3)},
    ),
    "mixture_of_memories": (mixed, memories),
    "forced_scan": (forced, lambda T: drive(T) | {"targets": randn(BATCH, T, 3)}),
    "scan, step by step": (
        partial(recurrence.transition.scan.dispatch(recurrence.Transition), recurrence.Dense(torch.eye(5)[None, None] / 2)),
        lambda T: {"drive": randn(BATCH, T, 5)},
    ),
}

# operations without a row in roads.py, in all their forms
EXAMPLES: dict[str, tuple[dict[str, Any], Callable[[int], Arguments]]] = {
    "log_linear_attention": ({}, lambda T: heads(T, decay(BATCH, T, 2)) | {"level_scale": randn(BATCH, T, 2, 9), "initial_state": None}),
    "minmax_scan": ({}, lambda T: minmax(T, 3)),
    "log_scan": ({}, lambda T: {"log_a": -unit(BATCH, T, 5), "log_x": randn(BATCH, T, 5)}),
    "long_convolution": ({"kernel": torch.ones(3, 7)}, lambda T: {"u": randn(BATCH, T, 3)}),
    "cell_scan": ({"cell": DiagonalGRU(torch.ones(3, 5) / 2)}, lambda T: {"x": randn(BATCH, T, 15)}),
}
for operation, (fixed, example) in EXAMPLES.items():
    for name, function in OPERATIONS[operation].items():
        OTHERS[f"{operation}, {name}"] = partial(function, **fixed), example


def numbers(answer: Any) -> list[Tensor]:
    """The output, and what the final state consists of."""
    if isinstance(answer, State):
        return list(answer.tensors().values())
    return [x for part in answer for x in (numbers(part) if isinstance(part, tuple | State) else [part]) if is_number(x)]


def holds(function: Callable[..., Any], arguments: Arguments, T: int, broken: int, at: int) -> None:
    """A NaN and an infinity in any argument of row 1, where not refused, change nothing from the reset on, nor anything in row 0."""
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[1, at] = True
    timed = [k for k, x in arguments.items() if is_number(x) and x.shape[:2] == reset.shape]

    def results(values: Arguments) -> list[Tensor]:
        leaves = {k: x.clone().requires_grad_() if k in timed else x for k, x in values.items()}
        y, *final = numbers(function(**leaves, reset=reset))
        kept = [y[:1], y[1:, at:], *final]
        grads = torch.autograd.grad(sum(x.abs().sum() for x in kept), [leaves[k] for k in timed], allow_unused=True, materialize_grads=True)
        return [*kept, *(part for g in grads for part in (g[:1], g[1:, at:]))]

    want = results(arguments)
    for key, value in ((k, v) for k in (*timed, "initial_state") if arguments.get(k) is not None for v in (torch.nan, -torch.inf)):
        poisoned = arguments[key].clone()
        (poisoned[1] if key == "initial_state" else poisoned[1, broken]).view(-1)[1] = value
        try:
            found = results(arguments | {key: poisoned})
        except ValueError as refused:  # a NaN by its own error, an infinity because it is out of range
            assert isinstance(refused, NotANumber) or (math.isinf(value) and "must" in str(refused)), refused
            continue
        for got, exact in zip(found, want):
            torch.testing.assert_close(got, exact, msg=f"{value} in {key} passed")


@pytest.mark.parametrize("T, broken, at", PLACES)
@pytest.mark.parametrize("name, form, dtype", FINEST, ids=[f"{name}: {form}" for name, form, _ in FINEST])
def test_nothing_passes_a_reset(name: str, form: str, dtype: torch.dtype, T: int, broken: int, at: int):
    row = ROWS[name]
    holds(named(row, form), {key: cast(x, dtype) for key, x in row.example(T).items()}, T, broken, at)


@pytest.mark.parametrize("T, broken, at", PLACES)
@pytest.mark.parametrize("name", OTHERS)
def test_nor_elsewhere(name: str, T: int, broken: int, at: int):
    function, example = OTHERS[name]
    holds(function, {key: cast(x, torch.float32) for key, x in example(T).items()}, T, broken, at)


def causal(function: Callable[..., Any], arguments: Arguments, T: int, broken: int) -> None:
    """A NaN and an infinity in any argument of row 1, where not refused, change nothing before them, nor anything in row 0."""
    timed = [k for k, x in arguments.items() if is_number(x) and x.shape[:2] == (BATCH, T)]
    want = numbers(function(**arguments))[0]
    for key, value in ((k, v) for k in timed for v in (torch.nan, -torch.inf)):
        poisoned = arguments[key].clone()
        poisoned[1, broken].view(-1)[1] = value
        try:
            found = numbers(function(**arguments | {key: poisoned}))[0]
        except ValueError as refused:
            assert isinstance(refused, NotANumber) or (math.isinf(value) and "must" in str(refused)), refused
            continue
        for got, exact in ((found[:1], want[:1]), (found[1:, :broken], want[1:, :broken])):
            torch.testing.assert_close(got, exact, msg=f"{value} in {key} was heard before it came")


@pytest.mark.parametrize("T, broken", [(21, 14), (70, 37)])
@pytest.mark.parametrize("name, form, dtype", FINEST, ids=[f"{name}: {form}" for name, form, _ in FINEST])
def test_nothing_is_heard_before_it_comes(name: str, form: str, dtype: torch.dtype, T: int, broken: int):
    row = ROWS[name]
    causal(named(row, form), {key: cast(x, dtype) for key, x in row.example(T).items()}, T, broken)


@pytest.mark.parametrize("T, broken", [(21, 14), (70, 37)])
@pytest.mark.parametrize(
    "name", [name for name in OTHERS if "convolution" not in name]
)  # products of spectra and blocks mix what is in one
def test_nor_is_it_elsewhere(name: str, T: int, broken: int):
    function, example = OTHERS[name]
    causal(function, {key: cast(x, torch.float32) for key, x in example(T).items()}, T, broken)
