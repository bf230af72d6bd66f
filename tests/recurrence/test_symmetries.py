"""What an operation cannot see: the other heads, and the basis its state is written in.

For each row of roads.py and each form of its operation, which is to be in both tables below.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.agree import cast, gradient, is_number
from tests.recurrence.forms import FINEST, gradient_ruler, named, road, rows_of, ruler
from tests.recurrence.roads import ROWS, Arguments, Row, randn

# The axis of heads, or of channels that do not meet, in every argument that has one; "y" is the output, "initial_state" the final one too.
HEADS = {"q": 2, "k": -2, "v": -2, "r": 2, "a": 2, "b": 2, "beta": -1, "log_decay": 2, "bonus": 0, "ridge": 0, "initial_state": 1, "y": 2}
CHANNELS = {"u": 2, "x": 2, "dt": 2, "delta": 2, "beta": 2, "z": 2, "initial_state": 1, "y": 2}
OF_EACH = dict.fromkeys(("A", "D", "a", "b", "c", "skip", "weight", "bias", "delta_bias", "dt_bias"), 0)  # parameters
LAST = {"a": -1, "x": -1, "initial_state": -1, "y": -1}
APART: dict[str, dict[str, int]] = {
    **dict.fromkeys(("linear_attention", "delta_rule", "delta_product", "dplr", "ridge_attention", "recursive_least_squares"), HEADS),
    **dict.fromkeys(("ssd", "selective_scan", "diagonal_ssm", "dense_ssm", "companion_ssm"), CHANNELS | OF_EACH),
    **dict.fromkeys(("longhorn", "longhorn_diagonal"), CHANNELS),
    **dict.fromkeys(("diagonal_scan", "scan2d"), LAST),
    "selective_scan2d": {"u": 3, "delta": -1, "A": -1, "D": 0, "initial_state": -2, "y": 3},
    "dense_scan": {"A": 2, "b": 2, "initial_state": 1, "y": 2},
    "low_rank_scan": {"diagonal": 2, "left": 2, "right": 2, "x": 2, "initial_state": 1, "y": 2},
    "short_convolution": {"u": -1, "weight": 0, "bias": 0, "initial_state": -1, "y": -1},
    "block_scan": {},  # one state of everything
    "dictionary_scan": {},
}


@rows_of([row for row in FINEST if APART[ROWS[row[0]].operation]])
def test_what_is_broken_in_one_head_stays_there(name: str, form: str, dtype: torch.dtype):
    """Neither a NaN nor a number that overflows reaches an output, a state or a gradient of another."""
    row = ROWS[name]
    arguments = {key: cast(x, dtype) for key, x in row.example(21).items()}
    axes = APART[row.operation]
    count = arguments["initial_state"].shape[axes["initial_state"]]
    own = [key for key, axis in axes.items() if is_number(x := arguments.get(key)) and x.shape[axis] == count]  # others share it

    def others(values: Arguments) -> list[Tensor]:
        leaves = {key: x.clone().requires_grad_() if key in own else x for key, x in values.items()}
        y, final = named(row, form)(**leaves)
        grads = torch.autograd.grad(y.abs().sum() + final.abs().sum(), [leaves[key] for key in own], allow_unused=True)
        found = [(y, axes["y"]), (final, axes["initial_state"]), *((grad, axes[key]) for key, grad in zip(own, grads))]
        return [x.movedim(axis, 0)[1:] for x, axis in found if x is not None]

    want = others(arguments)
    for key in own:
        poisoned = arguments[key].clone()
        first = poisoned.select(axes[key], 0)
        poison = torch.full(first.shape, 1e30, dtype=first.dtype)
        poison.view(-1)[: (poison.numel() + 1) // 2] = torch.nan
        first.copy_(poison)
        for got, exact in zip(others(arguments | {key: poisoned}), want, strict=True):
            torch.testing.assert_close(got, exact)


@dataclass(frozen=True)
class Basis:
    """What a change h -> P h of the state's basis, P orthogonal, makes of the arguments.

    turned    the axes that are multiplied by P; "y" is the output. An axis that is longer than the state turns in its first places.
    diagonal  the axes of diagonals, which a P that only permutes and changes signs keeps diagonal: where there is one, P is such.
    rotates   whether P may be anything else.
    """

    turned: dict[str, tuple[int, ...]]
    diagonal: dict[str, int] = field(default_factory=dict)
    rotates: bool = True


KEYS = Basis({"q": (-1,), "r": (-1,), "k": (-1,), "a": (-1,), "b": (-1,), "initial_state": (-2,)}, {"log_decay": -1, "bonus": -1})
READ = Basis({"q": (-1,), "k": (-1,), "B": (-1,), "C": (-1,), "initial_state": (-1,)})
BASES: dict[str, Basis | None] = {
    **dict.fromkeys(("linear_attention", "delta_rule", "delta_product", "dplr"), KEYS),
    **dict.fromkeys(  # P [K, K] beside R [K, V]
        ("ridge_attention", "recursive_least_squares"), Basis({"q": (-1,), "k": (-1,), "initial_state": (-2, -1)}, {"ridge": -1})
    ),
    **dict.fromkeys(("ssd", "longhorn"), READ),
    "longhorn_diagonal": Basis(READ.turned, rotates=False),
    **dict.fromkeys(("selective_scan", "selective_scan2d"), Basis(READ.turned, {"A": -1})),
    "diagonal_ssm": Basis({}, {"a": -1, "c": -1, "initial_state": -1}),  # its b is 1 in every basis
    **dict.fromkeys(("diagonal_scan", "scan2d"), Basis({"x": (-1,), "initial_state": (-1,), "y": (-1,)}, {"a": -1})),
    "dense_scan": Basis({"A": (-2, -1), "b": (-1,), "initial_state": (-1,), "y": (-1,)}),
    "dense_ssm": Basis({"a": (-2, -1), "b": (-1,), "c": (-1,), "initial_state": (-1,)}),
    "low_rank_scan": Basis({"left": (-2,), "right": (-2,), "x": (-1,), "initial_state": (-1,), "y": (-1,)}, {"diagonal": -1}),
    "dictionary_scan": Basis({"dictionary": (-2, -1), "b": (-1,), "initial_state": (-1,), "y": (-1,)}, rotates=False),  # keeps p-norms
    "block_scan": None,  # these know one basis only
    "companion_ssm": None,
    "short_convolution": None,
}


def turn(x: Tensor, P: Tensor, *axes: int) -> Tensor:
    for axis in axes:
        whole = torch.block_diag(P, torch.eye(x.shape[axis] - len(P))).to(x.dtype)
        x = (x.movedim(axis, -1) @ whole.mT).movedim(-1, axis)
    return x


def changed(row: Row, basis: Basis, arguments: Arguments) -> Callable[[Callable], Callable]:
    """A road in another basis: arguments go there, what comes out comes back."""
    N = arguments["initial_state"].shape[basis.turned.get("initial_state", (-1,))[0]]
    diagonal = {key: (axis,) for key, axis in basis.diagonal.items() if is_number(x := arguments.get(key)) and x.shape[axis] == N}
    P = torch.linalg.qr(randn(N, N)).Q
    if diagonal or not basis.rotates:
        P = torch.eye(N, dtype=P.dtype)[torch.randperm(N)] * P[0].sign()

    def by(P: Tensor, key: str, x: Tensor) -> Tensor:
        return turn(x, P.abs(), *diagonal[key]) if key in diagonal else turn(x, P, *basis.turned.get(key, ()))

    def elsewhere(f: Callable) -> Callable:
        def run(*values: Tensor) -> tuple[Tensor, Tensor]:
            y, final = f(*(by(P, key, x) if is_number(x) else x for key, x in zip(arguments, values)))
            return by(P.mT, "y", y), by(P.mT, "initial_state", final)

        return run

    return elsewhere


@rows_of([row for row in FINEST if BASES[ROWS[row[0]].operation]])
def test_a_change_of_basis_turns_the_state_and_nothing_else(name: str, form: str, dtype: torch.dtype):
    row = ROWS[name]
    basis = BASES[row.operation]
    assert basis is not None
    arguments = row.example(21)
    values, definition = tuple(arguments.values()), road(row, "recurrent", arguments)
    turned = changed(row, basis, arguments)(road(row, form, arguments))
    ruler(row)(turned, definition, values, dtype)
    gradient_ruler(row)(gradient(turned), gradient(definition), values, dtype)
