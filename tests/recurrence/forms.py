"""Every form of every row of roads.py: the tables that tests are parametrized by, and a form as a function that tests can call."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

import separatrix.recurrence
from separatrix.recurrence import OPERATIONS
from separatrix.recurrence.plan import objection
from tests.agree import agree, cast, is_number
from tests.recurrence.roads import BATCH, ROWS, Arguments, Row

DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def accepts(row: Row, form: str, dtype: torch.dtype) -> bool:
    """Whether the form takes such tensors; a compiled kernel may refuse some, and then `choose` does not choose it."""
    inputs = tuple(cast(x, dtype) for x in row.example(2).values())
    return form != "fused" or objection(row.operation, inputs) is None


# every form in every precision it takes, and every form in the finest of them
ALL = [
    (name, form, dtype) for name, row in ROWS.items() for form in OPERATIONS[row.operation] for dtype in DTYPES if accepts(row, form, dtype)
]
FINEST = [(name, form, dtype) for i, (name, form, dtype) in enumerate(ALL) if i == 0 or ALL[i - 1][:2] != (name, form)]


def rows_of(table: list) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name, form, dtype", table, ids=[f"{name}: {form} {str(dtype)[6:]}" for name, form, dtype in table])


every_form = rows_of(FINEST)
every_kernel = rows_of([row for row in ALL if row[1:] == ("fused", torch.float32)])
every_row = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
rounding = partial(agree, factor=30, because="the inverse is rounded at every step, where a nudge moves each input once")
cancelling = partial(agree, factor=30, because="with an adaptive ridge o is blind to the scale of P and R: its gradient is what cancels")
agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")


def road(row: Row, form: str, arguments: Arguments) -> Callable:
    """The form as a function of all arguments by position."""
    names, f = list(arguments), named(row, form)
    return lambda *values: f(**dict(zip(names, values)))


def named(row: Row, form: str) -> Callable:
    """The form as a function of its arguments by name."""
    return row.on_tensors(OPERATIONS[row.operation][form])


def public(row: Row) -> Callable:
    return row.on_tensors(getattr(separatrix.recurrence, row.operation))


def ruler(row: Row) -> Callable:
    """What the outputs of this row are measured with."""
    return rounding if row is ROWS["recursive least squares"] else agree


def gradient_ruler(row: Row) -> Callable:
    return cancelling if row is ROWS["ridge, adaptive"] else ruler(row)


def exported(function: Callable, tensors: Arguments, timed: tuple[str, ...]) -> Callable:
    """The function of these tensors by name as torch.export writes it down, for any length of the timed ones."""

    class Layer(torch.nn.Module):
        def forward(self, tensors):
            return function(**tensors)

    length = torch.export.Dim("T", max=2**20)
    shapes = {name: {1: length} if name in timed else None for name in tensors}
    program = torch.export.export(Layer(), (tensors,), dynamic_shapes=(shapes,)).module()
    return lambda **tensors: program(tensors)


def cut(row: Row, arguments: Arguments, start: int, stop: int) -> Arguments:
    return {key: x[:, start:stop] if key in row.timed and x is not None else x for key, x in arguments.items()}


def pick(row: Row, arguments: Arguments, i: int) -> Arguments:
    """Row i of the batch, still a batch; what has a batch of 1 is shared by all rows."""
    mine = {key for key in (*row.timed, "initial_state") if arguments[key] is not None and arguments[key].shape[0] == BATCH}
    return {key: x[i : i + 1] if key in mine else x for key, x in arguments.items()}


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)  # float64: one form in two ways


def differentiable_in(arguments: Arguments) -> tuple[list[str], list[Tensor]]:
    names = [k for k, x in arguments.items() if is_number(x)]
    return names, [arguments[k].requires_grad_() for k in names]
