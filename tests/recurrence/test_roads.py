"""Every road leads to the same state.

For each row of roads.py and each form of its operation: equal to the definition in three precisions, forward and gradient; one step at
a time and cut anywhere equal to all at once; causal, batch by batch, linear; a reset is a restart.
What torch makes of an operation is in test_transforms.py.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from separatrix.recurrence import OPERATIONS
from separatrix.recurrence.plan import choose
from tests.agree import cast, gradient, is_number
from tests.recurrence.forms import (
    ALL,
    FINEST,
    agree,
    cut,
    differentiable_in,
    every_form,
    every_row,
    gradient_ruler,
    named,
    pick,
    public,
    road,
    rows_of,
    ruler,
)
from tests.recurrence.roads import BATCH, ROWS, Arguments, Row

TIMES = [0, 1, 2, 63, 64, 65]


@rows_of(ALL)
@pytest.mark.parametrize("T", TIMES)
def test_every_form_is_the_definition(name: str, form: str, dtype: torch.dtype, T: int):
    row = ROWS[name]
    arguments = row.example(T)
    fast, slow, values = road(row, form, arguments), road(row, "recurrent", arguments), tuple(arguments.values())
    ruler(row)(fast, slow, values, dtype)
    gradient_ruler(row)(gradient(fast), gradient(slow), values, dtype)


@every_form
def test_what_is_broken_in_one_row_stays_there(name: str, form: str, dtype: torch.dtype):
    """A NaN in a row of the batch reaches no output and no gradient of another: the rows of a kernel share its scratch."""
    row = ROWS[name]
    arguments = {key: cast(x, dtype) for key, x in row.example(21).items()}
    own = [key for key in (*row.timed, "initial_state") if is_number(arguments[key]) and arguments[key].shape[0] == BATCH]

    def results(values: Arguments) -> list[Tensor | None]:
        leaves = {key: x.clone().requires_grad_() if key in own else x for key, x in values.items()}
        y, final = named(row, form)(**leaves)
        return [y, final, *torch.autograd.grad(y.abs().sum() + final.abs().sum(), [leaves[key] for key in own], allow_unused=True)]

    want = results(arguments)
    for key in own:
        poisoned = arguments[key].clone()
        poisoned[0].view(-1)[poisoned[0].numel() // 4] = torch.nan
        for got, exact in zip(results(arguments | {key: poisoned}), want):
            if exact is not None:
                torch.testing.assert_close(got[1:], exact[1:])


@every_form
def test_one_by_one_is_all_at_once(name: str, form: str, dtype: torch.dtype):
    row = ROWS[name]
    arguments = row.example(17)
    f = road(row, form, arguments)

    def one_by_one(*values):
        given_, steps = dict(zip(arguments, values)), []
        state = given_["initial_state"]
        for t in range(17):
            step, state = f(*(cut(row, given_, t, t + 1) | {"initial_state": state}).values())
            steps.append(step)
        return torch.cat(steps, dim=1), state

    values = tuple(arguments.values())
    ruler(row)(one_by_one, road(row, "recurrent", arguments), values, dtype)
    gradient_ruler(row)(gradient(one_by_one), gradient(road(row, "recurrent", arguments)), values, dtype)


@every_row
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@given(T=st.integers(0, 150), data=st.data())
def test_cut_anywhere_is_whole(row: Row, dtype: torch.dtype, T: int, data: st.DataObject):
    """The public function, gradients through the cut included."""
    at = data.draw(st.integers(0, T))
    torch.manual_seed(0)
    arguments = row.example(T)

    def pieces(*values):
        given_ = dict(zip(arguments, values))
        first, state = public(row)(**cut(row, given_, 0, at))
        second, state = public(row)(**(cut(row, given_, at, T) | {"initial_state": state}))
        return torch.cat([first, second], dim=1), state

    values, whole = tuple(arguments.values()), road(row, "recurrent", arguments)
    ruler(row)(pieces, whole, values, dtype)
    gradient_ruler(row)(gradient(pieces), gradient(whole), values, dtype)


@rows_of([row for row in ALL if row[2] is not torch.bfloat16])
def test_the_future_cannot_touch_the_past(name: str, form: str, dtype: torch.dtype):
    """Equality, not closeness."""
    row = ROWS[name]
    arguments, other = ({k: cast(x, dtype) for k, x in row.example(70).items()} for _ in range(2))
    f = road(row, form, arguments)
    for t in (1, 33, 64):
        changed = {k: torch.cat([x[:, :t], other[k][:, t:]], 1) if k in row.timed else x for k, x in arguments.items()}
        assert torch.equal(f(*changed.values())[0][:, :t], f(*arguments.values())[0][:, :t])


@every_form
def test_rows_of_a_batch_do_not_meet(name: str, form: str, dtype: torch.dtype):
    row = ROWS[name]
    arguments = row.example(40)
    f = road(row, form, arguments)

    def row_by_row(*values):
        alone = [f(*pick(row, dict(zip(arguments, values)), i).values()) for i in range(BATCH)]
        return tuple(torch.cat(parts) for parts in zip(*alone))

    agree(row_by_row, road(row, "recurrent", arguments), tuple(arguments.values()), dtype)


@every_form
def test_a_batch_of_no_rows_is_legal(name: str, form: str, dtype: torch.dtype):
    """Nothing comes out, and what is shared by all rows has a gradient of zero."""
    row = ROWS[name]
    arguments = {key: cast(x, dtype) for key, x in row.example(5).items()}
    own = {key for key in (*row.timed, "initial_state") if is_number(arguments[key]) and arguments[key].shape[0] == BATCH}
    leaves = {key: (x[:0] if key in own else x).requires_grad_() if is_number(x) else x for key, x in arguments.items()}
    y, final = named(row, form)(**leaves)
    assert y.shape[0] == final.shape[0] == 0
    (y.abs().sum() + final.abs().sum()).backward()
    assert not any(x.grad.any() for x in leaves.values() if is_number(x) and x.grad is not None)


@every_form
@pytest.mark.parametrize("T, starts", [(1, [0]), (65, [30, 50])], ids=str)
def test_a_reset_is_a_restart(name: str, form: str, dtype: torch.dtype, T: int, starts: list[int]):
    """Sequences packed into one row give what each gives alone, gradients do not cross the border, the other row hears nothing of it."""
    row = ROWS[name]
    arguments = row.example(T)
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[1, starts] = True

    def packed(*values):
        return road(row, form, arguments | {"reset": reset})(*values, reset)

    def alone(*values):
        definition = road(row, "recurrent", arguments)
        given_ = dict(zip(arguments, values))
        y, final = definition(*pick(row, given_, 0).values())
        second, pieces = pick(row, given_, 1), []
        for start, stop in pairwise([0, *starts, T]):
            state = second["initial_state"] if start == 0 and 0 not in starts else row.rest(second)
            piece, last = definition(*(cut(row, second, start, stop) | {"initial_state": state}).values())
            pieces.append(piece)
        return torch.cat([y, torch.cat(pieces, dim=1)]), torch.cat([final, last])

    values = tuple(arguments.values())
    ruler(row)(packed, alone, values, dtype)
    gradient_ruler(row)(gradient(packed), gradient(alone), values, dtype)


@pytest.mark.parametrize("T", [1, 20])
@every_row
def test_a_reset_before_the_first_step_clears_whatever_the_state_is(row: Row, T: int):
    """A row of a batch that serves another sequence now: multiplied by zero, a NaN of the last one would stay in it for ever."""
    arguments = {k: cast(x, torch.float32) for k, x in row.example(T).items()}
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[0, 0] = True
    broken = arguments["initial_state"].clone()
    broken[0] = torch.nan

    def results(state: Tensor) -> tuple[Tensor, ...]:
        given_ = {k: x.clone().requires_grad_() if is_number(x) else x for k, x in (arguments | {"initial_state": state}).items()}
        y, final = public(row)(**given_, reset=reset)
        leaves = [x for x in given_.values() if is_number(x)]
        return y, final, *torch.autograd.grad(y.abs().sum() + final.abs().sum(), leaves, materialize_grads=True, allow_unused=True)

    for got, want in zip(results(broken), results(arguments["initial_state"])):
        torch.testing.assert_close(got, want)


@rows_of([row for row in FINEST if ROWS[row[0]].linear and not ROWS[row[0]].parts])  # a State may hold what is not: its own tests say
def test_it_superposes(name: str, form: str, dtype: torch.dtype):
    """Linear in what drives it together with the initial state."""
    row = ROWS[name]
    one, two = row.example(40), row.example(40)
    definition, f = road(row, "recurrent", one), road(row, form, one)
    drives = (row.driven_by, "initial_state")

    def of_the_sum(*values):
        given_ = dict(zip(one, values))
        return f(*(given_ | {k: 2 * given_[k] - 3 * cast(two[k], dtype) for k in drives}).values())

    def sum_of(*values):
        given_ = dict(zip(one, values))
        alone = [definition(*values), definition(*(given_ | {k: two[k] for k in drives}).values())]
        return tuple(2 * x - 3 * y for x, y in zip(*alone))

    agree(of_the_sum, sum_of, tuple(one.values()), dtype)


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name, form", dict.fromkeys((name, form) for name, form, dtype in ALL if dtype is torch.bfloat16))
def test_short_numbers_in_short_numbers_out_and_a_float32_state(name: str, form: str, short: torch.dtype):
    row = ROWS[name]
    arguments = {key: cast(x, short) for key, x in row.example(5).items()}
    names, leaves = differentiable_in(arguments)
    y, final = named(row, form)(**arguments)
    assert y.dtype is (torch.complex64 if y.is_complex() else short)
    assert final.dtype in (torch.float32, torch.complex64)
    for key, grad in zip(names, torch.autograd.grad(y.abs().sum() + final.abs().sum(), leaves, allow_unused=True)):
        assert grad is None or (grad.dtype is arguments[key].dtype and grad.isfinite().all())


@pytest.mark.parametrize("T", [0, 1, 20])
@every_row
def test_a_double_state_stays_one(row: Row, T: int):
    """Beside single inputs too: half of what it holds would be lost, and nobody would hear of it."""
    exact = row.example(T)
    single = {key: x if key == "initial_state" else cast(x, torch.float32) for key, x in exact.items()}
    operation = public(row)
    y, final = operation(**single)
    assert final.dtype in (torch.float64, torch.complex128)
    want, state = operation(**{key: x if key == "initial_state" else cast(x, torch.float64) for key, x in single.items()})
    assert torch.equal(y, want.to(y.dtype)) and torch.equal(final, state)


@pytest.mark.parametrize("T", [1, 20])
@every_form
def test_nobody_writes_into_the_state_of_another(name: str, form: str, dtype: torch.dtype, T: int):
    """Output, state and inputs lie apart, or whoever changes one in place would change another, at some lengths and not at others."""
    row = ROWS[name]
    for without in ({}, {"initial_state": None}):
        arguments = {k: cast(x, dtype) for k, x in row.example(T).items()} | without
        y, final = named(row, form)(**arguments)
        kept = final.clone()
        for x in (y, *arguments.values()):
            if is_number(x):
                x.zero_()
        assert torch.equal(final, kept)


@every_row
def test_without_an_initial_state_it_starts_at_rest(row: Row):
    arguments = row.example(20)
    rest = row.rest(arguments)
    without = {k: x for k, x in arguments.items() if k != "initial_state"}
    for got, want in zip(public(row)(**without), public(row)(**(arguments | {"initial_state": rest}))):
        assert torch.equal(got, want)


@every_row
def test_choose_says_why(row: Row):
    arguments = row.example(20)
    for T in (1, 20):
        form, reason = choose(row.operation, tuple(arguments.values()), T)
        assert form in OPERATIONS[row.operation] and reason
