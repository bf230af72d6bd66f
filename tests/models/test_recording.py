"""A record plays what the function says, or the function plays itself."""

import threading

import pytest
import torch

from separatrix.models.recording import Program, Recorded, plain_parameters
from separatrix.recurrence import delta_rule, linear_attention, ridge_attention
from tests.recurrence.test_direct import Seen

DTYPES = [torch.float32, torch.float64]
ROUNDING = {torch.float32: 2e-6, torch.float64: 4e-15}


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed + sum(shape)))


def close(found, wanted, factor=1.0):
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    limit = factor * ROUNDING[wanted.real.dtype]
    torch.testing.assert_close(found, wanted, rtol=limit, atol=limit, equal_nan=True)


def test_a_record_is_its_function_and_computes_constants_once():
    weight = draw(3, 3)
    calls = []

    def function(x):
        calls.append(x.shape)
        return torch.tanh(x @ torch.linalg.matrix_exp(weight).T)

    record = Recorded(function)
    for rows in (2, 2, 5, 5, 2):
        x = draw(rows, 3)
        close(record(x), torch.tanh(x @ torch.linalg.matrix_exp(weight).T))
    assert set(calls) == {(2, 3), (5, 3)} and len(calls) == 2
    assert all(isinstance(played, Program) for played in record.records.values())


# Everything on two tensors x [3, 1, 20], y [4, 20] and a positive p like y, so that rows broadcast.
CALLS = {
    "sums": lambda x, y, p: x + 2 * y - 0.5,
    "alpha": lambda x, y, p: torch.sub(torch.add(x, y, alpha=3), p, alpha=0.25),
    "scalar first": lambda x, y, p: 1.5 - x * y,
    "quotients": lambda x, y, p: x / p + 1 / p,
    "a product and a sum": lambda x, y, p: x * y + p * y - x,
    "a product that is read twice": lambda x, y, p: (t := x * y) + t * t,
    "difference of products": lambda x, y, p: x * y - p * x,
    "powers": lambda x, y, p: x**2 + p**1.5 + x**3 + x**1,
    "exponential": lambda x, y, p: torch.exp(x * y),
    "sigmoid, tanh": lambda x, y, p: torch.sigmoid(4 * x) * torch.tanh(y),
    "silu, gelu": lambda x, y, p: torch.nn.functional.silu(x) + torch.nn.functional.gelu(y),
    "softplus, logsigmoid": lambda x, y, p: torch.nn.functional.softplus(9 * x) + torch.nn.functional.logsigmoid(9 * y),
    "roots": lambda x, y, p: p.sqrt() + p.rsqrt() + p.log() + p.reciprocal(),
    "small": lambda x, y, p: torch.log1p(1e-4 * y) + torch.where(torch.isnan(x / (x - x[:1])), p, 0.1 * y),
    "cancelling": lambda x, y, p: torch.expm1(1e-4 * y) * 1e4 + torch.expm1(x),
    "padded": lambda x, y, p: torch.nn.functional.pad(y, (1, -2, 0, 3), value=0.5) + torch.nn.functional.pad(p, (-1, 0, 2, 1)),
    "turns": lambda x, y, p: torch.cos(x) * torch.sin(y) + torch.erf(x) - abs(x),
    "choice": lambda x, y, p: torch.where(x > y, torch.maximum(x, p), torch.minimum(y, p)),
    "comparisons": lambda x, y, p: ((x < 0.1).to(x.dtype) - (y > 0.3).to(x.dtype)) * x,
    "ties": lambda x, y, p: ((y >= y.flip(0)) * p - (y <= y[0]) * 2 * p + (y != y[1]) * x) * p,
    "truths": lambda x, y, p: torch.where((x > 0) & (y < 0) | ~(p > 0.5), x, y * p),
    "clamped": lambda x, y, p: x.clamp(-0.5, 0.5) * y.clamp(min=0.1) + p.clamp(max=x) - torch.relu(x),
    "in place and leaking": lambda x, y, p: (y * 2).relu_() + torch.nn.functional.leaky_relu(x) + torch.relu(y) ** 2,
    "largest": lambda x, y, p: y.amax(0) + y.amin(1, keepdim=True) - (x * y).amax((0, -1))[:, None] + p.amax(),
    "softmax": lambda x, y, p: torch.softmax(x * y, -1) * torch.softmax(y, 0) + torch.log_softmax(p, 1),
    "layer norm": lambda x, y, p: torch.nn.functional.layer_norm(x * y, (20,), p[0], y[0]),
    "masked": lambda x, y, p: x.masked_fill(x.expand(3, 4, 20)[:, :1] > 0, 0.0),
    "sums of axes": lambda x, y, p: (x * y).sum(0) + (x * y).mean((0, 1)) + (x * y).sum(-1, keepdim=True)[0],
    "sum of rows": lambda x, y, p: y.sum(0) + (x * y).sum(1).sum(0),
    "product of constants and numbers": lambda x, y, p: y @ torch.ones(20, 70, dtype=y.dtype),
    "product": lambda x, y, p: y @ p.mT @ y,
    "product with columns": lambda x, y, p: torch.einsum("ik,bk->bi", y, p) + (y.mT @ p[:, :1]).sum(),
    "transposed": lambda x, y, p: (y.mT * p[0, :4] + y.mT * x[0].mT).mT @ p.mT,
    "transposed, read twice": lambda x, y, p: ((t := y.mT * p.mT) + t * 2).mT + t.mT,
    "short rows": lambda x, y, p: (y.reshape(16, 5) * p[0, :16, None] - p.reshape(16, 5)) / p.reshape(16, 5),
    "batched product": lambda x, y, p: torch.einsum("aib,jb->aij", x, y),
    "many rows": lambda x, y, p: torch.cat([y, p, y, x[:, 0]]) @ torch.arange(60, dtype=y.dtype).reshape(20, 3) / 60,
    "addmm": lambda x, y, p: torch.addmm(p[:, :4], y, p.mT, beta=0.5, alpha=2.0),
    "views": lambda x, y, p: torch.cat([x.transpose(0, 2)[2:, 0].flip(0), y[:3, ::2].T.repeat(2, 1)], 0).unfold(0, 3, 2),
    "stack, split": lambda x, y, p: torch.stack(y.split([5, 10, 5], dim=1)[::2]) + x.reshape(3, 4, 5)[:1],
    "norm": lambda x, y, p: torch.nn.functional.rms_norm(x, (20,), p[0], 1e-5),
    "glu": lambda x, y, p: torch.nn.functional.glu(y),
    "in place, on its own": lambda x, y, p: (y * 2).add_(p).sigmoid_().mul_(y),
    "complex": lambda x, y, p: torch.view_as_real(torch.complex(x, p) * torch.complex(y, p).conj() / p).flatten(-2),
    "complex sums": lambda x, y, p: torch.view_as_real((torch.complex(y, p) - 1j * y).sum(1) + y[:, 0]),
    "complex exponential": lambda x, y, p: torch.view_as_real(torch.exp(torch.complex(y, p))),
    "modulus": lambda x, y, p: torch.complex(y, p).abs() + torch.view_as_complex(y.reshape(4, 10, 2)).real.sum(),
    "nothing": lambda x, y, p: y[:0].sum(0) + y[:, :0].sum(1)[0],
    "constants side by side": lambda x, y, p: y[0, :2] + torch.cat([torch.zeros_like(y[0, :1]), torch.ones_like(y[0, :1])]),
    "sum of a number": lambda x, y, p: y.sum().sum(),
    "filled": lambda x, y, p: torch.zeros_like(x) + torch.ones_like(y) + y.new_zeros(20) + torch.full_like(y, 0.5),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_a_program_says_what_torch_says(name, dtype):
    inputs = draw(3, 1, 20, dtype=dtype), draw(4, 20, dtype=dtype), draw(4, 20, dtype=dtype, seed=1).abs() + 0.1
    record = Recorded(CALLS[name])
    assert isinstance(record.played(*inputs), Program)
    close(record(*inputs), CALLS[name](*inputs), 20)


@pytest.mark.parametrize("name", ["ties", "truths", "clamped", "in place and leaking", "largest", "softmax", "layer norm", "glu", "norm"])
def test_a_gradient_is_a_program_too(name):
    """At ties too: the largest numbers share what comes back."""
    inputs = draw(3, 1, 20), draw(4, 20).round(decimals=1), draw(4, 20, seed=1).abs() + 0.1

    def gradient(*inputs):
        y, pull = torch.func.vjp(CALLS[name], *inputs)
        return pull(torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape))

    record = Recorded(gradient)
    assert isinstance(record.played(*inputs), Program)
    for found, wanted in zip(record(*inputs), gradient(*inputs), strict=True):
        close(found, wanted, 20)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_not_finite_or_far_from_zero_comes_out_as_torch_says(dtype):
    x = torch.tensor([0.0, -0.0, 1e-30, 90.0, -90.0, 200.0, -200.0, torch.inf, -torch.inf, torch.nan], dtype=dtype)
    F = torch.nn.functional
    functions = (
        torch.exp,
        torch.sigmoid,
        torch.tanh,
        F.silu,
        F.softplus,
        F.logsigmoid,
        torch.abs,
        torch.sqrt,
        torch.rsqrt,
        torch.log,
        torch.log1p,
        torch.expm1,
    )
    ordered = (
        torch.relu, F.leaky_relu, lambda x: x.clamp(-1, 1), lambda x: torch.where(x >= 0, x, 1.0), lambda x: torch.where(x <= 0, x, 1.0),
        lambda x: torch.where(x != x, x, 1.0), lambda x: torch.where(x.isnan(), 2.0, x),
        lambda x: x.amax(), lambda x: x[:-1].amin(), lambda x: x[:7].softmax(0),
    )  # fmt: skip
    for function in (*functions, *ordered, torch.cos, lambda x: 1 / x, lambda x: x / (x - x)):
        close(Recorded(function)(x), function(x), 10)


def test_several_results_and_complex_inputs_and_a_result_that_is_an_input():
    record = Recorded(lambda z, x: (z * x, z, x.flip(0), z.real[1:]))
    z, x = torch.complex(draw(5), draw(5, seed=3)), draw(5, seed=4)
    for found, wanted in zip(record(z, x), (z * x, z, x.flip(0), z.real[1:]), strict=True):
        close(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["as they are", "turned", "mirrored", "one for all", "none"])
def test_complex_numbers_go_in_and_out_as_torch_lays_them(name, dtype):
    """Row lengths that are no multiple of a register, parts that come out in another order than they went in."""
    function = {
        "as they are": lambda z, w: (z * w, z, w.conj()),
        "turned": lambda z, w: ((z * w).mT, torch.cat([z, w], 1)[:, 5:41]),
        "mirrored": lambda z, w: (z.flip(1) * 2, torch.complex(w.imag, w.real)),
        "one for all": lambda z, w: (w.sum(1, keepdim=True).expand(3, 21), z.real.to(z.dtype)),
        "none": lambda z, w: (z[:0] * w[:0], z + w),
    }[name]
    z, w = (torch.complex(draw(3, 21, dtype=dtype, seed=i), draw(3, 21, dtype=dtype, seed=i + 1)) for i in (1, 3))
    record = Recorded(function)
    assert isinstance(record.played(z, w), Program)
    for given in ((z, w), (z.mT.contiguous().mT, w.conj())):
        for found, wanted in zip(record(*given), function(*given), strict=True):
            assert found.dtype is wanted.dtype and found.shape == wanted.shape
            close(torch.view_as_real(found), torch.view_as_real(wanted.resolve_conj()), 4)


def powers(x):
    power, total = torch.ones(5), x
    for _ in range(3):
        total = total + x * power
        power *= 0.5
    return total


def conjugate_of_what_changes(x):
    z = torch.complex(x, x)
    w = z.conj()
    z.mul_(2)
    return w * 1


# What no program says as torch does.
OTHERWISE = {
    "a constant that changes": powers,
    "a conjugate of what changes": conjugate_of_what_changes,
    "sum in another dtype": lambda x: x.sum(dtype=torch.float64),
    "a constant in another dtype": lambda x: x * torch.linspace(0, 1, 5, dtype=torch.float64),
    "truths": lambda x: x > 0,
    "a count": lambda x: (x > 0).sum(),
    "a sum of truths": lambda x: ((x > 0) + (x > -1)).to(x.dtype),
    "logic of numbers": lambda x: torch.logical_and(x, x > 0).to(x.dtype),
    "another layout": lambda x: torch.cumsum(x.reshape(-1), 0),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_a_program_cannot_say_comes_out_as_torch_says(name):
    record = Recorded(OTHERWISE[name])
    for x in (draw(4, 5, dtype=torch.float32), draw(5, 4, dtype=torch.float32).mT):
        found, wanted = record(x), OTHERWISE[name](x)
        assert found.dtype is wanted.dtype and torch.allclose(found, wanted)


def test_random_numbers_are_drawn_anew_at_every_call():
    record = Recorded(lambda x: x + torch.randn(5))
    x = draw(5, dtype=torch.float32)
    assert not torch.equal(record(x), record(x))


def test_derivatives_are_recorded_too():
    record = Recorded(lambda x, v: torch.func.jvp(lambda x: torch.nn.functional.glu(torch.sin(x) * x), (x,), (v,)))
    x, v = draw(2, 4), draw(2, 4, seed=1)
    assert isinstance(record.played(x, v), Program)
    for found, wanted in zip(record(x, v), record.function(x, v)):
        close(found, wanted, 10)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_function_of_its_own_results_and_of_a_series(dtype):
    weight = draw(6, 6, dtype=dtype) / 4
    record = Recorded(lambda h, c, u: (torch.tanh(h @ weight.T + u + c.roll(1, -1)), h))
    h, c, series = draw(2, 6, dtype=dtype), draw(2, 6, dtype=dtype, seed=1), draw(11, 12, dtype=dtype)
    (last, before), seen = record.played(h, c, c).iterate(h, c, c, steps=11, every=3, series=series)
    wanted = []
    for u in series:
        h, c = record.function(h, c, u.view(2, 6))
        wanted.append(h)
    close(last, h, 100)
    close(before, c, 100)
    close(seen, torch.stack(wanted[2::3]).flatten(1), 100)


def test_threads_do_not_meet():
    record = Recorded(lambda x: torch.tanh(x * 3) + x)
    inputs = [draw(500, seed=i) for i in range(8)]
    record(inputs[0])
    wrong = []

    def work(x):
        for _ in range(300):
            if not torch.allclose(record(x), torch.tanh(x * 3) + x):
                wrong.append(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_step_of_an_operation_is_recorded_in_plain_calls_and_many_run_as_torch_calls():
    q, k, v = draw(1, 1, 2, 4), draw(1, 1, 2, 4, seed=1), draw(1, 1, 2, 4, seed=2)
    beta, state = torch.rand(1, 1, 2, dtype=torch.float64), draw(1, 2, 4, 4)
    for function in (lambda q, k, v: linear_attention(q, k, v, -beta, initial_state=state)[0],
                     lambda q, k, v: delta_rule(q, k, v, beta, initial_state=state)[0]):  # fmt: skip
        record = Recorded(function)
        assert isinstance(record.played(q, k, v), Program)
        close(record(q, k, v), function(q, k, v), 10)
        long = [x.float().repeat(1, 9, 1, 1) for x in (q, k, v)]
        record = Recorded(lambda q, k, v: linear_attention(q, k, v)[0])
        assert not isinstance(record.played(*long), Program)
        close(record(*long), linear_attention(*long)[0], 10)


def test_what_changes_under_a_view_is_not_made_a_program():
    def function(x):
        whole = x * 2
        part = whole[1:]
        whole.add_(1)
        return part * 3

    record = Recorded(function)
    x = draw(4)
    assert not isinstance(record.played(x), Program)
    close(record(x), function(x))


def test_a_branch_on_values_is_not_frozen():
    record = Recorded(lambda x: x + 1 if float(x.sum()) > 0 else x - 1)
    assert float(record(torch.ones(1))) == 2 and float(record(-torch.ones(1))) == -2


def test_a_constant_that_is_written_to_stays_a_variable():
    total = torch.zeros(2)
    record = Recorded(lambda x: total.add_(x).clone())
    start = record(torch.ones(2))
    assert torch.equal(record(torch.ones(2)), start + 1) and torch.equal(record(torch.ones(2)), start + 2)


def test_plain_parameters_hold_the_same_numbers():
    class Marked(torch.nn.Parameter):
        pass

    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    layer.weight = Marked(layer.weight.detach())
    plain_parameters(layer)
    assert type(layer.weight) is torch.nn.Parameter and torch.equal(layer.weight, before) and not layer.weight.requires_grad


def test_played_call_by_call_a_kernel_is_one_call():
    """No program solves systems: torch plays the record, which would be slower than the step itself if it spelled the kernel out."""
    k, v, beta, ridge = draw(1, 1, 2, 4).float(), draw(1, 1, 2, 3).float(), torch.ones(1, 1, 2), torch.ones(2, 4)

    def step(q):
        return ridge_attention(q, k, v, beta, None, ridge)[0]

    record, q = Recorded(step), draw(1, 1, 2, 4, seed=5).float()
    played = record.played(q)
    assert not isinstance(played, Program)
    with torch.no_grad(), Seen() as seen:
        y = played(q)
    close(y, step(q))
    assert "separatrix.gram_solve.default" in seen.names and not any("solve_ex" in name for name in seen.names)
