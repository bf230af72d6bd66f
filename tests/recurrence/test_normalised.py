"""Normalised decay: the state is the softmax-weighted mean it says it is, cut anywhere, reset anywhere, with logits of any size."""

from functools import partial

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import Average, normalised_attention
from tests import golden
from tests.agree import agree, gradient
from tests.recurrence.roads import BATCH, randn
from tests.recurrence.test_golden import TOLERANCE, cast, expect_reference

agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")
H, K, V = 2, 4, 3


def example(T: int) -> tuple[Tensor, ...]:
    return randn(BATCH, T, H, K), 3 * randn(BATCH, T, H, K), randn(BATCH, T, H, V), randn(BATCH, H, K, V), randn(BATCH, H, K)


def in_words(q: Tensor, k: Tensor, v: Tensor, S: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """S_t[i] is the mean of the values so far under softmax(k[i]); what came before is one more value, with logit z."""
    reads = []
    for t in range(q.shape[1]):
        logits = torch.cat([z.unsqueeze(1), k[:, : t + 1]], dim=1)
        share = logits.softmax(1)
        mean = share[:, 0].unsqueeze(-1) * S + torch.einsum("bshk,bshv->bhkv", share[:, 1:], v[:, : t + 1])
        reads.append(torch.einsum("bhkv,bhk->bhv", mean, q[:, t]) * K**-0.5)
    return torch.stack(reads, dim=1), mean, logits.logsumexp(1)


def call(q, k, v, S, z, reset=None) -> tuple[Tensor, ...]:
    o, state = normalised_attention(q, k, v, initial_state=Average(S, z), reset=reset)
    return o, state.S, state.z


@pytest.mark.parametrize("name", golden.names("lightnet"))
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_it_gives_the_reference_numbers(name: str, dtype: torch.dtype):
    reference = golden.load(name)
    inputs = {key: cast(x, dtype).requires_grad_() for key, x in reference.inputs.items()}
    S, z = inputs.get("S0"), inputs.get("z0")
    o, state = normalised_attention(inputs["q"], inputs["k"], inputs["v"], None, None if z is None else Average(S, z))
    expect_reference(reference, inputs, {"o": o, "state": state.S, "z": state.z}, dtype)


@pytest.mark.parametrize("T", [1, 2, 70])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_the_state_is_the_mean_it_says(T: int, dtype: torch.dtype):
    values = example(T)
    agree(call, in_words, values, dtype)
    agree(gradient(call), gradient(in_words), values, dtype)


@pytest.mark.parametrize("at", [0, 1, 30, 50])
def test_cut_anywhere_is_whole(at: int):
    def pieces(q, k, v, S, z):
        first, state = normalised_attention(q[:, :at], k[:, :at], v[:, :at], initial_state=Average(S, z))
        second, (S, z) = normalised_attention(q[:, at:], k[:, at:], v[:, at:], initial_state=state)
        return torch.cat([first, second], dim=1), S, z

    for dtype in (torch.float64, torch.float32):
        agree(pieces, call, example(50), dtype)
        agree(gradient(pieces), gradient(call), example(50), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_reset_is_a_restart_however_loud_the_past_was(dtype: torch.dtype):
    q, k, v, S, z = example(40)
    k[:, :10] += 500
    reset = torch.zeros(BATCH, 40, dtype=torch.bool)
    reset[0, [10, 11, 25]] = True

    def alone(q, k, v, S, z):
        other = [x[1:] for x in call(q, k, v, S, z)]
        pieces, state = [], Average(S[:1], z[:1])
        for start, stop in ((0, 10), (10, 11), (11, 25), (25, 40)):
            o, state = normalised_attention(*(x[:1, start:stop] for x in (q, k, v)), initial_state=state if start == 0 else None)
            pieces.append(o)
        return tuple(torch.cat([x, y]) for x, y in zip((torch.cat(pieces, dim=1), *state), other))

    agree(partial(call, reset=reset), alone, (q, k, v, S, z), dtype)
    agree(gradient(partial(call, reset=reset)), gradient(alone), (q, k, v, S, z), dtype)


def test_logits_of_any_size():
    """Only differences count: all logits 10,000 higher give the same means."""
    q, k, v, *_ = example(50)
    k = (k * 8).round() / 8  # so that moving them is exact
    one, (S, z) = normalised_attention(q, k, v)
    other, (mean, top) = normalised_attention(q, k + 10_000, v)
    torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)  # logits of 10,000 have four digits less
    torch.testing.assert_close(mean, S, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(top - 10_000, z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("packed", [False, True])
def test_a_logit_of_minus_infinity_writes_nothing(packed: bool):
    """Padding in front of a sequence, and a step within: values and gradients are those of the other steps alone, in all rows."""
    q, k, v, *_ = example(20)
    reset = torch.zeros(BATCH, 20, dtype=torch.bool)
    reset[1, 9] = packed
    skipped, rest = [0, 1, 2, 12], [t for t in range(20) if t not in (0, 1, 2, 12)]
    hidden = torch.zeros(20, dtype=torch.bool)
    hidden[skipped] = True

    def masked(q, k, v):
        o, state = normalised_attention(q, k.masked_fill(hidden[:, None, None], -torch.inf), v, reset=reset)
        assert not o[:, :3].any()
        return o[:, rest], state.S, state.z

    def without(q, k, v):
        o, state = normalised_attention(q[:, rest], k[:, rest], v[:, rest], reset=reset[:, rest])
        return o, state.S, state.z

    for dtype in (torch.float64, torch.float32):
        agree(masked, without, (q, k, v), dtype)
        agree(gradient(masked), gradient(without), (q, k, v), dtype)


def test_what_diverged_is_named_and_cleared_by_a_reset_before_the_first_step():
    q, k, v, S, z = example(5)
    z[0] = S[0] = torch.nan
    with pytest.raises(ValueError, match=r"^z must be < inf, got max nan"):
        call(q, k, v, S, z)
    with pytest.raises(ValueError, match=r"^k must be < inf, got max inf"):
        normalised_attention(q, k + torch.inf, v)
    reset = torch.zeros(BATCH, 5, dtype=torch.bool)
    reset[0, 0] = True
    for got, want in zip(call(q, k, v, S, z, reset), call(q, k, v, S.nan_to_num(1.0), z.nan_to_num(2.0), reset)):
        assert torch.equal(got, want)


def test_bad_states_are_refused():
    q, k, v, S, z = example(5)
    with pytest.raises(ValueError, match=r"^z is \[2, 2\], expected \[batch, heads, key\] = \[2, 2, 4\]"):
        normalised_attention(q, k, v, initial_state=Average(S, z[..., 0]))
    with pytest.raises(ValueError, match=r"^initial_state is "):
        normalised_attention(q, k, v, initial_state=Average(S[:1], z))


def test_a_batch_of_no_rows_is_legal():
    q, k, v, S, z = (x[:0] for x in example(5))
    for start in (None, Average(S, z)):
        o, state = normalised_attention(q, k, v, initial_state=start)
        assert o.shape == v.shape and state.S.shape == S.shape and state.z.shape == z.shape


def test_no_step_is_legal():
    q, k, v, S, z = example(0)
    o, state = normalised_attention(q, k, v, initial_state=Average(S, z))
    assert o.shape == (BATCH, 0, H, V) and torch.equal(state.S, S) and torch.equal(state.z, z)
