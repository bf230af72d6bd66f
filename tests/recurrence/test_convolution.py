"""The long convolution: every form is the sum it is defined as, whole or in pieces, with resets; and its kernel at every edge of a block.

Not rows of roads.py, because a transform mixes all steps it sees: the past is untouched by the future to rounding, not to the bit.
"""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from separatrix.recurrence import OPERATIONS, long_convolution, plan
from separatrix.recurrence.kernels import convolution
from separatrix.recurrence.plan import objection
from tests.agree import agree, cast, gradient
from tests.recurrence.roads import BATCH, randn

FORMS = OPERATIONS["long_convolution"]
by_definition = FORMS["recurrent"]
agree = partial(agree, factor=20, because="a transform mixes large and small steps")
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
ALL = [(name, dtype) for name in FORMS for dtype in DTYPES if name != "fused" or dtype is not torch.float64]
every_form = pytest.mark.parametrize("form, dtype", ALL, ids=[f"{name} {str(dtype)[6:]}" for name, dtype in ALL])


def example(T: int, L: int, D: int = 3, batch: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    return randn(D, L), randn(batch, T, D), randn(batch, L - 1, D)


def resets(T: int, batch: int = BATCH) -> Tensor:
    reset = torch.rand(batch, T) < 0.1
    reset[:1, :1] = True
    return reset


@every_form
@pytest.mark.parametrize("L", [1, 5, 64, 100])
@pytest.mark.parametrize("T", [0, 1, 2, 63, 64])
def test_every_form_is_the_definition(form: str, dtype: torch.dtype, T: int, L: int):
    kernel, u, state = example(T, L)
    for values in ((kernel, u, None, None), (kernel, u, state, None), (kernel, u, state, resets(T)), (kernel, u, None, resets(T))):
        agree(FORMS[form], by_definition, values, dtype)
        agree(gradient(FORMS[form]), gradient(by_definition), values, dtype)
    y, last = FORMS[form](*(cast(x, dtype) for x in example(T, L)))
    assert y.dtype is dtype and last.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)


@every_form
@pytest.mark.parametrize("batch, D", [(0, 3), (2, 0)])
def test_nothing_to_convolve_is_legal(form: str, dtype: torch.dtype, batch: int, D: int):
    kernel, u, state = (cast(x, dtype).requires_grad_() for x in example(7, 5, D, batch))
    for before in (state, None):
        y, last = FORMS[form](kernel, u, before)
        assert y.shape == (batch, 7, D) and last.shape == (batch, 4, D)
        (y.sum() + last.sum()).backward()
    assert not kernel.grad.any()


@every_form
def test_the_state_is_no_part_of_the_input(form: str, dtype: torch.dtype):
    kernel, u, _ = (cast(x, dtype) for x in example(9, 9))
    _, last = FORMS[form](kernel, u)
    kept = last.clone()
    u.zero_()
    assert torch.equal(last, kept)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@given(T=st.integers(0, 90), L=st.sampled_from([1, 3, 40, 150]), packed=st.booleans(), data=st.data())
def test_cut_anywhere_is_whole(dtype: torch.dtype, T: int, L: int, packed: bool, data: st.DataObject):
    cuts = sorted({0, T, *data.draw(st.lists(st.integers(0, T), max_size=3))})
    torch.manual_seed(0)
    values = (*example(T, L), resets(T) if packed else None)

    def pieces(kernel, u, state, reset):
        outputs = [u[:, :0]]
        for start, stop in pairwise(cuts):
            y, state = long_convolution(kernel, u[:, start:stop], state, None if reset is None else reset[:, start:stop])
            outputs.append(y)
        return torch.cat(outputs, dim=1), state

    agree(pieces, by_definition, values, dtype)
    agree(gradient(pieces), gradient(by_definition), values, dtype)


@every_form
def test_one_by_one_is_all_at_once(form: str, dtype: torch.dtype):
    def one_by_one(kernel, u, state):
        steps = []
        for t in range(u.shape[1]):
            y, state = FORMS[form](kernel, u[:, t : t + 1], state)
            steps.append(y)
        return torch.cat(steps, dim=1), state

    agree(one_by_one, by_definition, example(12, 5), dtype)


@pytest.mark.parametrize("form", FORMS)
def test_a_reset_is_a_restart_whatever_was_before(form: str):
    """By selection, not by multiplication: NaN and infinity end there too."""
    kernel, u, state = (cast(x, torch.float32) for x in example(30, 12))
    reset = torch.zeros(BATCH, 30, dtype=torch.bool)
    reset[:, 10] = True
    alone, last = FORMS[form](kernel, u[:, 10:])
    u, state = u.clone(), state.clone()
    u[0, :10], u[1, 3], state[1] = float("nan"), float("inf"), float("nan")
    y, final = FORMS[form](kernel, u, state, reset)
    torch.testing.assert_close(y[:, 10:], alone)
    torch.testing.assert_close(final, last)


@pytest.mark.parametrize("form", FORMS)
def test_the_future_hardly_touches_the_past(form: str):
    other = randn(BATCH, 30, 3)

    def with_another(kernel: Tensor, u: Tensor, state: Tensor) -> Tensor:
        return FORMS[form](kernel, torch.cat([u[:, :20], other.to(u.dtype)], dim=1), state)[0][:, :20]

    agree(with_another, lambda *values: by_definition(*values)[0][:, :20], example(50, 50), torch.float32, factor=2)


@pytest.mark.parametrize(
    "batch, S, T, D, L, n", [(1, 0, 5, 3, 4, 32), (3, 0, 200, 9, 150, 64), (2, 99, 101, 8, 100, 64), (1, 10, 70, 20, 300, 32)]
)
def test_blocks(batch: int, S: int, T: int, D: int, L: int, n: int):
    """Kernels of many blocks, sequences of many, both ragged; rows of a batch without a partner; n an odd and an even power of two."""

    class Blocks(torch.autograd.Function):
        @staticmethod
        def forward(ctx, kernel, x):
            y = torch.full((batch, T, D), torch.nan)
            ctx.save_for_backward(kernel, x)
            convolution.forward(0, units, shape, n, convolution.twiddles(n), *flat(kernel, x, y))
            return y

        @staticmethod
        def backward(ctx, dy):
            kernel, x = ctx.saved_tensors
            dx, dk = torch.full_like(x, torch.nan), torch.full_like(kernel, torch.nan)
            dk[:, S + T :] = 0
            convolution.backward(0, units, shape, n, convolution.twiddles(n), *flat(kernel, x, dy, dx, dk))
            return dk, dx

    units, shape = -(-D // convolution.LANES), (batch, S, T, D, L)
    values = randn(D, L), randn(batch, S + T, D)
    values[1][2:, :, :1] *= 1e3  # where there are three rows, the last travels alone in its first channels

    def plain(kernel, x):
        return FORMS["dense"](kernel, x)[0][:, S:]

    agree(Blocks.apply, plain, values, torch.float32)
    agree(gradient(Blocks.apply), gradient(plain), values, torch.float32)


def flat(*tensors: Tensor) -> list:
    return [x.detach().contiguous().view(-1).numpy() for x in tensors]


def test_the_length_of_a_transform():
    assert convolution.transform_length(1024, 1024) == 2048
    assert convolution.transform_length(4, 10_000) == convolution.SHORTEST
    assert convolution.transform_length(100, 10_000) == 256
    assert convolution.transform_length(10_000, 10_000) == convolution.LONGEST
    assert convolution.transform_length(1_000_000, 1_000_000) == 32768  # 62 blocks


@pytest.mark.parametrize("form", FORMS)
def test_second_derivatives(form: str):
    kernel, u, state = (x.requires_grad_() for x in example(5, 4, D=2, batch=1))
    if form == "fused":  # through the spectra, since the kernel is for float32
        kernel, u, state = (x.detach().float().requires_grad_() for x in (kernel, u, state))
        by_kernel, plainly = (second(f, kernel, u, state) for f in (FORMS["fused"], FORMS["fft"]))
        for got, want in zip(by_kernel, plainly):
            torch.testing.assert_close(got, want)
        return
    assert torch.autograd.gradcheck(FORMS[form], (kernel, u, state), fast_mode=True)
    assert torch.autograd.gradgradcheck(FORMS[form], (kernel, u, state), fast_mode=True)


def second(f, *leaves: Tensor) -> tuple[Tensor, ...]:
    grads = torch.autograd.grad(sum(x.square().sum() for x in f(*leaves)), leaves, create_graph=True)
    return torch.autograd.grad(sum(x.square().sum() for x in grads), leaves)


def test_it_is_seen_by_torch():
    kernel, u, state = (cast(x, torch.float32) for x in example(20, 12))
    reset = resets(20)
    for packed in (None, reset):
        arguments = kernel, u, state, packed
        want = long_convolution(*arguments)
        torch._dynamo.reset()
        compiled = torch.compile(long_convolution, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(*arguments), want)
        hollow = long_convolution(*(x if x is None else x.to("meta") for x in arguments))
        assert [x.shape for x in hollow] == [x.shape for x in want]
        many = torch.func.vmap(lambda u, packed=packed: long_convolution(kernel, u, state, packed))(torch.stack([u, 2 * u]))
        torch.testing.assert_close(many[0][0], want[0])
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(long_convolution(*arguments)[0], want[0])
    _, forward = torch.func.jvp(lambda k: long_convolution(k, u, state)[0].sum(), (kernel,), (kernel,))
    torch.testing.assert_close(forward, long_convolution(kernel, u, state)[0].sum() - long_convolution(0 * kernel, u, state)[0].sum())


def test_it_says_what_it_runs_as_and_what_it_refuses():
    assert plan("long_convolution", 100).startswith("long_convolution, fused")
    assert plan("long_convolution", 100, torch.ones(1, dtype=torch.float64)).startswith("long_convolution, fft")
    assert plan("long_convolution", 1).startswith("long_convolution, recurrent")
    assert objection("long_convolution", (torch.ones(1, dtype=torch.float64),))
    kernel, u, state = example(5, 4)
    with pytest.raises(ValueError, match=r"^initial_state is \[2, 3, 2\], expected \[batch, taps - 1, channels\] = \[2, 3, 3\]"):
        long_convolution(kernel, u, state[..., :2])
    with pytest.raises(ValueError, match=r"^kernel is \[3, 0\], expected at least one tap"):
        long_convolution(kernel[:, :0], u)
    with pytest.raises(TypeError, match=r"^reset is torch.float32"):
        long_convolution(kernel, u, state, torch.zeros(2, 5))


def test_a_final_state_keeps_no_sequence_alive():
    _, state = long_convolution(torch.ones(3, 5), torch.ones(2, 1000, 3))
    assert state.untyped_storage().nbytes() == state.nbytes


def test_rows_that_travel_together_do_not_meet():
    """Two rows are one complex sequence in the kernel: what one holds, however large, is not heard in the other."""
    kernel, u = torch.randn(3, 9), torch.randn(4, 40, 3, requires_grad=True)
    weight = torch.randn(4, 40, 3)

    def results(scale: float, place: int) -> tuple[Tensor, Tensor]:
        factor = torch.ones(4, 1, 1)
        factor[place] = scale
        y, _ = FORMS["fused"](kernel, factor * u)
        (grad,) = torch.autograd.grad((weight * factor * y).sum(), u)
        return y, grad

    for scale in (1e12, torch.nan, 0.0):
        for place in (0, 3):
            others = [i for i in range(4) if i != place]
            for got, want in zip(results(scale, place), results(1.0, place)):
                torch.testing.assert_close(got[others], want[others])
