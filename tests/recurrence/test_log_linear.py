"""Log-linear attention: every form is the sum over levels, the state is a binary number, cut anywhere, reset anywhere."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import OPERATIONS, Fenwick, linear_attention, log_linear_attention
from separatrix.recurrence.plan import choose
from tests.agree import agree, cast, gradient
from tests.recurrence.forms import exported
from tests.recurrence.roads import BATCH, decay, randn

agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")
H, K, V, LEVELS = 2, 4, 3, 9
FORMS = OPERATIONS["log_linear_attention"]
ROADS = [
    (form, dtype) for form in FORMS for dtype in (torch.float64, torch.float32, torch.bfloat16) if (form, dtype) != ("fused", torch.float64)
]


def finest(form: str) -> torch.dtype:
    return torch.float32 if form == "fused" else torch.float64


def example(T: int) -> tuple[Tensor, ...]:
    """To go on after 5 and 64 steps, digits 101 and 1000000; what the other digits of the state hold is not to be read."""
    q, k = randn(BATCH, T, 1, K), randn(BATCH, T, 1, K)
    return q, k, randn(BATCH, T, H, V), decay(BATCH, T, H), randn(BATCH, T, H, LEVELS), randn(BATCH, H, LEVELS, K, V)


def tensors(form, q, k, v, g, scale, S, reset=None) -> tuple[Tensor, Tensor]:
    o, state = form(q, k, v, g, scale, Fenwick(S, torch.tensor([5, 64])), reset)
    return o, state.S


def in_words(q, k, v, g, scale, S) -> Tensor:
    """Equation (1) from rest, pair by pair."""
    rows = []
    for t in range(v.shape[1]):
        o = torch.zeros_like(v[:, t])
        for s in range(t + 1):
            weight = scale[:, t, :, (t ^ s).bit_length()] * g[:, s + 1 : t + 1].sum(1).exp() * (q[:, t] * k[:, s]).sum(-1)
            o = o + weight.unsqueeze(-1) * v[:, s]
        rows.append(o)
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_sum_over_levels(form: str):
    values = example(37)

    def outputs(*x: Tensor) -> Tensor:
        return FORMS[form](*x[:5])[0]

    agree(outputs, in_words, values, finest(form))
    agree(gradient(outputs), gradient(in_words), values, finest(form))


@pytest.mark.parametrize("form, dtype", ROADS, ids=str)
@pytest.mark.parametrize("T", [0, 1, 2, 15, 16, 17, 63, 64, 65, 130])
def test_every_form_is_the_definition(form: str, T: int, dtype: torch.dtype):
    fast, slow = partial(tensors, FORMS[form]), partial(tensors, FORMS["recurrent"])
    agree(fast, slow, example(T), dtype)
    agree(gradient(fast), gradient(slow), example(T), dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [0, 1, 31, 64, 99, 100])
def test_cut_anywhere_is_whole(form: str, at: int):
    def pieces(*values):
        *parts, S = values
        first, state = FORMS[form](*(x[:, :at] for x in parts), Fenwick(S, torch.tensor([5, 64])))
        second, state = FORMS[form](*(x[:, at:] for x in parts), state)
        assert state.position.tolist() == [105, 164]
        return torch.cat([first, second], dim=1), state.S

    values, whole = example(100), partial(tensors, FORMS["recurrent"])
    for dtype in {torch.float32, finest(form)}:
        agree(pieces, whole, values, dtype)
    agree(gradient(pieces), gradient(whole), values, finest(form))


@pytest.mark.parametrize("form", FORMS)
def test_a_reset_counts_anew(form: str):
    reset = torch.zeros(BATCH, 100, dtype=torch.bool)
    starts = [0, 10, 64, 70, 100]
    reset[1, starts[:-1]] = True

    def alone(*values):
        *parts, S = values
        o, state = FORMS["recurrent"](*(x[:1] for x in parts), Fenwick(S[:1], torch.tensor([5])))
        pieces = []
        for start, stop in pairwise(starts):
            piece, last = FORMS["recurrent"](*(x[1:, start:stop] for x in parts))
            pieces.append(piece)
        return torch.cat([o, torch.cat(pieces, dim=1)]), torch.cat([state.S, last.S])

    for dtype in {torch.float32, finest(form)}:
        packed = partial(tensors, FORMS[form], reset=reset)
        agree(packed, alone, example(100), dtype)
        agree(gradient(packed), gradient(alone), example(100), dtype)


def test_the_state_is_a_binary_number():
    """A digit that is 0 holds nothing; one that is 1 holds its span, here without decay."""
    q, k, v, _, scale, _ = example(53)
    _, (S, position) = log_linear_attention(q, k, v, None, scale)
    assert position.tolist() == [53, 53]
    spans = {0: (52, 53), 2: (48, 52), 4: (32, 48), 5: (0, 32)}  # 53 = 110101
    for digit in range(LEVELS):
        start, stop = spans.get(digit, (0, 0))
        want = torch.einsum("bshk,bshv->bhkv", k[:, start:stop].expand(-1, -1, H, -1), v[:, start:stop])
        torch.testing.assert_close(S[:, :, digit], want)


def test_with_all_levels_equal_it_is_linear_attention():
    q, k, v, g, scale, _ = example(100)
    o, state = log_linear_attention(q, k, v, g, torch.ones_like(scale))
    want, S = linear_attention(q, k, v, g, 1.0)
    torch.testing.assert_close(o, want)
    torch.testing.assert_close(state.S.sum(2), S)


def test_the_future_cannot_touch_the_past():
    one, two = (tuple(cast(x, torch.float32) for x in example(100)) for _ in range(2))
    for form in FORMS.values():
        for t in (1, 33, 64, 80):
            changed = (*(torch.cat([x[:, :t], y[:, t:]], dim=1) for x, y in zip(one[:5], two[:5])), one[5])
            assert torch.equal(tensors(form, *changed)[0][:, :t], tensors(form, *one)[0][:, :t])


@pytest.mark.parametrize("shape", [(1, 2, 8, 40), (1, 1, 5, 70), (2, 4, 4, 3)], ids=["", "one head, cut into parts", "heads that share"])
@pytest.mark.parametrize("starts", [[], [0, 300], [256, 511]], ids=str)
def test_many_stretches(shape: tuple[int, ...], starts: list[int]):
    """Resumed inside a stretch and in a tree of several; the marks of two sequences in one row."""
    G, H, K, V = shape
    T, levels, position = 700, 12, torch.tensor([250, 1003])
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[1, starts] = True
    q, k, v, g = randn(BATCH, T, G, K), randn(BATCH, T, G, K), randn(BATCH, T, H, V), decay(BATCH, T, H) / 100
    values = (q, k, v, g, randn(BATCH, T, H, levels), randn(BATCH, H, levels, K, V))

    def road(form):
        def call(q, k, v, g, scale, S):
            o, state = FORMS[form](q, k, v, g, scale, Fenwick(S, position), reset)
            return o, state.S

        return call

    agree(road("fused"), road("chunked"), values, torch.float32)
    agree(gradient(road("fused")), gradient(road("chunked")), values, torch.float32)


@pytest.mark.parametrize("T", [255, 256, 257, 511, 512, 513])
def test_around_a_full_number(T: int):
    """From rest, without a decay: the last digits of 2^n - 1, 2^n and 2^n + 1."""
    q, k, v, scale = randn(1, T, 1, K), randn(1, T, 1, K), randn(1, T, 2, V), randn(1, T, 2, 11)

    def road(form):
        def call(*values):
            o, (S, position) = FORMS[form](*values[:3], None, values[3])
            assert position.tolist() == [T]
            return o, S

        return call

    agree(road("fused"), road("chunked"), (q, k, v, scale), torch.float32)
    agree(gradient(road("fused")), gradient(road("chunked")), (q, k, v, scale), torch.float32)


DECAYS = {
    "exp(-94) at every step": lambda g: torch.full_like(g, -94),
    "exp(-94) now and then": lambda g: torch.where(torch.rand_like(g) < 0.1, -94, g / 1000),
    "exp(-20) now and then": lambda g: torch.where(torch.rand_like(g) < 0.1, -20, g / 1000),
    "nothing is left": lambda g: torch.where(torch.rand_like(g) < 0.1, -torch.inf, g),
    "nothing is forgotten": torch.zeros_like,
}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "recurrent"])
@pytest.mark.parametrize("kind", DECAYS)
def test_any_decay_is_exact(form: str, kind: str):
    q, k, v, g, scale, S = example(80)
    values = (q, k, v, DECAYS[kind](g), scale, S)
    fast, slow = partial(tensors, FORMS[form]), partial(tensors, FORMS["recurrent"])
    for dtype in {torch.float32, finest(form)}:
        agree(fast, slow, values, dtype)
        if "now and then" in kind or kind == "nothing is forgotten":
            agree(gradient(fast), gradient(slow), values, dtype)
        else:  # there is no ruler for a gradient of 1e-41, nor for a nudge of infinity
            assert all(x.isfinite().all() for x in gradient(fast)(*(cast(x, dtype) for x in values)))


def test_the_kernel_is_seen_by_those_who_look():
    """Compiled, exported, without numbers, under autocast, differentiated twice: one function."""
    values = tuple(cast(x, torch.float32) for x in example(40))
    whole = partial(tensors, log_linear_attention)
    want = whole(*values)
    assert choose("log_linear_attention", values[:5], 40)[0] == "fused"
    torch._dynamo.reset()
    for got, exact in zip(torch.compile(whole, backend="aot_eager", fullgraph=True)(*values), want):
        torch.testing.assert_close(got, exact)

    class Layer(torch.nn.Module):
        def forward(self, *values):
            return whole(*values)

    for got, exact in zip(torch.export.export(Layer(), values).module()(*values), want):
        torch.testing.assert_close(got, exact)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(got, exact) for got, exact in zip(whole(*values), want))
    hollow = log_linear_attention(*(x.to("meta") for x in values[:5]))
    assert [x.shape for x in (hollow[0], hollow[1].S)] == [x.shape for x in want]

    def second(form: str, *values: Tensor) -> Tensor:
        leaves = [x.detach().requires_grad_() for x in values]
        o, S = tensors(FORMS[form], *leaves)
        first = torch.autograd.grad(o.square().sum() + S.square().sum(), leaves, create_graph=True)
        return torch.cat([x.flatten() for x in torch.autograd.grad(sum(x.square().sum() for x in first), leaves)])

    agree(partial(second, "fused"), partial(second, "chunked"), tuple(x.double() for x in values), torch.float32)


def test_an_exported_program_takes_any_length():
    names = ("q", "k", "v", "g", "scale", "S")

    def inputs(T: int) -> dict[str, Tensor]:
        return {name: cast(x, torch.float32).requires_grad_() for name, x in zip(names, example(T))}

    program = exported(partial(tensors, log_linear_attention), inputs(9), names[:5])
    for T in (1, 150):
        given = inputs(T)
        assert all(map(torch.equal, program(**given), tensors(FORMS["fused"], **given)))


def test_one_step_is_one_kernel_while_nothing_records_it():
    values = tuple(cast(x, torch.float32) for x in example(1))
    assert choose("log_linear_attention", values[:5], 1)[0] == "fused"
    assert choose("log_linear_attention", (values[0].requires_grad_(), *values[1:5]), 1)[0] == "recurrent"
    with torch.no_grad():
        for got, want in zip(tensors(log_linear_attention, *values), tensors(FORMS["recurrent"], *values)):
            torch.testing.assert_close(got, want)


def test_derivatives_of_both_kinds():
    values = [x.requires_grad_() for x in example(5)]
    assert torch.autograd.gradgradcheck(partial(tensors, FORMS["chunked"]), values, fast_mode=True)
    jvp = torch.func.jvp(partial(tensors, log_linear_attention), tuple(values), tuple(torch.ones_like(x) for x in values))[1]
    assert all(x.isfinite().all() for x in jvp)


def test_gradients_under_vmap_are_those_of_a_loop():
    q, k, v, g, scale, _ = example(9)
    each = torch.func.grad(lambda v: log_linear_attention(q, k, v, g, scale)[0].square().sum())
    for got, values in zip(torch.func.vmap(each)(torch.stack([v, 2 * v])), (v, 2 * v)):
        torch.testing.assert_close(got, each(values))


def test_more_steps_than_levels_are_refused():
    q, k, v, g, scale, _ = example(33)
    with pytest.raises(ValueError, match=r"^level_scale has 6 levels, which is enough for 32 steps, and step 33 is here"):
        log_linear_attention(q, k, v, g, scale[..., :6])
    log_linear_attention(q, k, v, g, scale[..., :7])
    reset = torch.zeros(BATCH, 33, dtype=torch.bool)
    reset[:, 16] = True
    log_linear_attention(q, k, v, g, scale[..., :6], reset=reset)
    with pytest.raises(ValueError, match=r"^level_scale is \[2, 33, 2\], expected"):
        log_linear_attention(q, k, v, g, scale[..., 0])


def test_the_state_is_saved_and_loaded(tmp_path):
    *inputs, S = example(7)
    _, state = log_linear_attention(*inputs, Fenwick(S, torch.tensor([5, 64])))
    torch.save(state, tmp_path / "state.pt")
    again = torch.load(tmp_path / "state.pt")
    assert isinstance(again, Fenwick) and all(map(torch.equal, again, state))
