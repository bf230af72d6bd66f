"""Every road leads to the same state.

For each row of roads.py and each form of its operation: equal to the definition in three precisions, forward and gradient; one step at
a time and cut anywhere equal to all at once; causal, batch by batch, linear; a reset is a restart; second derivatives, jvp, vmap, compile.
"""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import separatrix.recurrence
from separatrix.recurrence import OPERATIONS
from separatrix.recurrence.plan import choose, objection
from tests.agree import agree, cast, gradient, is_number
from tests.recurrence.roads import BATCH, ROWS, Arguments, Row

TIMES = [0, 1, 2, 63, 64, 65]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]

ALL = [(name, form) for name, row in ROWS.items() for form in OPERATIONS[row.operation]]
every_form = pytest.mark.parametrize("name, form", ALL, ids=[f"{name}: {form}" for name, form in ALL])
every_row = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])


def road(row: Row, form: str, arguments: Arguments, dtype: torch.dtype = torch.float64):
    """The form as a function of all arguments by position; skips with the form's own objection."""
    if form == "fused":
        why = objection(row.operation, [cast(x, dtype) for x in arguments.values() if isinstance(x, Tensor)])
        if why:
            pytest.skip(why)
    names = list(arguments)
    return lambda *values: OPERATIONS[row.operation][form](**dict(zip(names, values)))


def public(row: Row):
    return getattr(separatrix.recurrence, row.operation)


def cut(row: Row, arguments: Arguments, start: int, stop: int) -> Arguments:
    return {key: x[:, start:stop] if key in row.timed and x is not None else x for key, x in arguments.items()}


@every_form
@pytest.mark.parametrize("T", TIMES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_form_is_the_definition(name: str, form: str, T: int, dtype: torch.dtype):
    row = ROWS[name]
    arguments = row.example(T)
    fast, slow = road(row, form, arguments, dtype), road(row, "recurrent", arguments)
    values = tuple(arguments.values())
    why = "a handful of numbers, nudged once, is a noisy ruler"
    agree(fast, slow, values, dtype, factor=5, because=why)
    agree(gradient(fast), gradient(slow), values, dtype, factor=5, because=why)


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@every_form
def test_one_by_one_is_all_at_once(name: str, form: str):
    row = ROWS[name]
    arguments = row.example(17)
    f = road(row, form, arguments)
    y, final = f(*arguments.values())
    steps, state = [], arguments["initial_state"]
    for t in range(17):
        step, state = f(*(cut(row, arguments, t, t + 1) | {"initial_state": state}).values())
        steps.append(step)
    close(torch.cat(steps, dim=1), y)
    close(state, final)


@every_row
@given(T=st.integers(0, 150), data=st.data())
def test_cut_anywhere_is_whole(row: Row, T: int, data: st.DataObject):
    """The public function, gradients through the cut included."""
    at = data.draw(st.integers(0, T))
    torch.manual_seed(0)
    arguments = row.example(T)

    def whole(*values):
        return public(row)(**dict(zip(arguments, values)))

    def pieces(*values):
        given_ = dict(zip(arguments, values))
        first, state = public(row)(**cut(row, given_, 0, at))
        second, state = public(row)(**(cut(row, given_, at, T) | {"initial_state": state}))
        return torch.cat([first, second], dim=1), state

    values = tuple(arguments.values())
    for got, want in zip(pieces(*values) + gradient(pieces)(*values), whole(*values) + gradient(whole)(*values)):
        close(got, want)


@every_form
def test_the_future_cannot_touch_the_past(name: str, form: str):
    row = ROWS[name]
    arguments, other = row.example(70), row.example(70)
    for dtype in (torch.float64, torch.float32):
        try:
            f = road(row, form, arguments, dtype)
        except pytest.skip.Exception:
            continue
        for t in (1, 33, 64):
            changed = {k: torch.cat([x[:, :t], other[k][:, t:]], 1) if k in row.timed else x for k, x in arguments.items()}
            past = f(*(cast(x, dtype) for x in arguments.values()))[0][:, :t]
            assert torch.equal(f(*(cast(x, dtype) for x in changed.values()))[0][:, :t], past)


@every_form
def test_rows_of_a_batch_do_not_meet(name: str, form: str):
    row = ROWS[name]
    arguments = row.example(40)
    f = road(row, form, arguments)
    y, final = f(*arguments.values())
    for i in range(BATCH):
        one = {k: x[i : i + 1] if k in (*row.timed, "initial_state") else x for k, x in arguments.items()}
        y_one, final_one = f(*one.values())
        close(y_one, y[i : i + 1])
        close(final_one, final[i : i + 1])


@every_form
@pytest.mark.parametrize("T, starts", [(1, [0]), (65, [30, 50])], ids=str)
def test_a_reset_is_a_restart(name: str, form: str, T: int, starts: list[int]):
    """Sequences packed into one row give what each gives alone, and gradients do not cross the border; the other row hears nothing of it."""
    row = ROWS[name]
    arguments = {k: x.requires_grad_() if is_number(x) else x for k, x in row.example(T).items()}
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[1, starts] = True
    f = road(row, form, arguments | {"reset": reset})
    y, final = f(*arguments.values(), reset)

    whole, last = public(row)(**arguments)
    close(y[:1], whole[:1])
    close(final[:1], last[:1])
    close(y[1, : starts[0]], whole[1, : starts[0]])
    for start, stop in pairwise([*starts, T]):
        piece, last = public(row)(**(cut(row, arguments, start, stop) | {"initial_state": torch.zeros_like(final)}))
        close(y[1, start:stop], piece[1])
    close(final[1], last[1])
    crossing = torch.autograd.grad(y[1, starts[0] :].real.sum(), arguments["initial_state"])[0]
    assert not crossing.any()


@every_form
def test_it_superposes(name: str, form: str):
    """Linear in what drives it together with the initial state."""
    row = ROWS[name]
    one, two = row.example(40), row.example(40)
    f = road(row, form, one)
    drives = (row.driven_by, "initial_state")
    both = one | {k: 2 * one[k] - 3 * two[k] for k in drives}
    alone = [f(*(one | {k: x[k] for k in drives}).values()) for x in (one, two)]
    for got, first, second in zip(f(*both.values()), *alone):
        close(got, 2 * first - 3 * second)


@every_form
def test_bfloat16_in_bfloat16_out_and_a_float32_state(name: str, form: str):
    row = ROWS[name]
    arguments = row.example(5)
    f = road(row, form, arguments, torch.bfloat16)
    y, final = f(*(cast(x, torch.bfloat16) for x in arguments.values()))
    if not y.is_complex():
        assert y.dtype is torch.bfloat16
    assert final.dtype in (torch.float32, torch.complex64)


@every_row
def test_autocast_does_not_touch_the_state(row: Row):
    arguments = {k: cast(x, torch.float32) for k, x in row.example(20).items()}
    y, final = public(row)(**arguments)
    with torch.autocast("cpu", torch.bfloat16):
        inside, last = public(row)(**arguments)
    assert torch.equal(inside, y) and torch.equal(last, final)


@every_row
def test_without_an_initial_state_it_starts_at_rest(row: Row):
    arguments = row.example(20)
    rest = torch.zeros_like(arguments["initial_state"])
    without = {k: x for k, x in arguments.items() if k != "initial_state"}
    for got, want in zip(public(row)(**without), public(row)(**(arguments | {"initial_state": rest}))):
        assert torch.equal(got, want)


def differentiable_in(arguments: Arguments) -> tuple[list[str], list[Tensor]]:
    names = [k for k, x in arguments.items() if is_number(x)]
    return names, [arguments[k].requires_grad_() for k in names]


@pytest.mark.parametrize("name, form", [x for x in ALL if x[1] in ("recurrent", "chunked")])
def test_second_derivatives(name: str, form: str):
    row = ROWS[name]
    arguments = row.example(3)
    names, leaves = differentiable_in(arguments)

    def f(*values):
        return OPERATIONS[row.operation][form](**(arguments | dict(zip(names, values))))

    assert torch.autograd.gradcheck(f, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, leaves, fast_mode=True)


@every_row
def test_forward_derivatives_are_the_backward_ones(row: Row):
    """v·(J u) from jvp equals (v·J)·u from the backward pass."""
    arguments = row.example(20)
    names = [k for k, x in arguments.items() if is_number(x)]
    values = tuple(arguments[k].detach() for k in names)

    def loss(*inputs):
        y, final = public(row)(**(arguments | dict(zip(names, inputs))))
        return sum((x.real * torch.linspace(-1, 1, x.numel(), dtype=torch.float64).reshape(x.shape)).sum() for x in (y, final))

    directions = tuple(torch.randn_like(x) for x in values)
    _, forward = torch.func.jvp(loss, values, directions)
    backward = torch.func.grad(loss, argnums=tuple(range(len(values))))(*values)
    # torch's gradient of a complex input is dL/dRe + i dL/dIm
    close(
        forward,
        sum(
            (torch.view_as_real(g) * torch.view_as_real(d)).sum() if g.is_complex() else (g * d).sum() for g, d in zip(backward, directions)
        ),
    )


@every_row
def test_vmap_is_a_loop(row: Row):
    arguments = row.example(10)
    many = torch.stack([arguments[row.driven_by], 2 * arguments[row.driven_by]])

    def f(drive):
        return public(row)(**(arguments | {row.driven_by: drive}))

    together = torch.func.vmap(f)(many)
    for i in range(2):
        for got, want in zip(together, f(many[i])):
            close(got[i], want)


@every_row
def test_compiled_is_eager(row: Row):
    torch._dynamo.reset()  # or the rows before this one count as recompilations
    arguments = {k: cast(x, torch.float32) for k, x in row.example(20).items()}
    compiled = torch.compile(partial(public(row)), backend="aot_eager", fullgraph=True)
    for got, want in zip(compiled(**arguments), public(row)(**arguments)):
        torch.testing.assert_close(got, want)


@every_row
def test_an_exported_program_is_the_function(row: Row):
    arguments = {k: cast(x, torch.float32) for k, x in row.example(20).items()}

    class Layer(torch.nn.Module):
        def forward(self, tensors):
            return public(row)(**(arguments | tensors))

    tensors = {k: x for k, x in arguments.items() if is_number(x)}
    program = torch.export.export(Layer(), (tensors,))
    for got, want in zip(program.module()(tensors), public(row)(**arguments)):
        torch.testing.assert_close(got, want)


@every_row
def test_choose_says_why(row: Row):
    arguments = row.example(20)
    for T in (1, 20):
        form, reason = choose(row.operation, tuple(arguments.values()), T)
        assert form in OPERATIONS[row.operation] and reason
