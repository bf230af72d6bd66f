"""Mixture of memories: every memory runs its own steps and nothing else touches it."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separatrix.recurrence import Routing, delta_rule, dplr, linear_attention, mixture_of_memories, route
from tests import golden
from tests.agree import agree, gradient
from tests.recurrence.roads import BATCH, decay, randn
from tests.recurrence.test_golden import TOLERANCE, cast, expect_reference

agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")
M, TOPK, H, K, V = 5, 2, 2, 4, 3


def example(T: int) -> tuple[Tensor, ...]:
    """(logits, q, k, v, beta, g, state)"""
    shape = (BATCH, T, TOPK, H)
    return (
        randn(BATCH, T, M),
        randn(*shape, K),
        F.normalize(randn(*shape, K), dim=-1),
        randn(*shape, V),
        torch.rand(shape, dtype=torch.float64),
        decay(*shape),
        randn(BATCH, M, H, K, V),
    )


def packed(logits, q, k, v, beta, g, state, reset=None):
    return mixture_of_memories(delta_rule, route(logits, TOPK), q, k, v, beta, g, initial_state=state, reset=reset)


def step_by_step(logits, q, k, v, beta, g, state, reset=None):
    """The definition: one step at a time, one row at a time, the chosen memories only."""
    weights, chosen, _ = route(logits, TOPK)
    outputs, finals = [], []
    for b in range(BATCH):
        memories, reads = list(state[b].unbind(0)), []
        for t in range(q.shape[1]):
            if reset is not None and reset[b, t]:
                memories = [torch.zeros_like(S) for S in memories]
            o = torch.zeros_like(v[b, t, 0])
            for j, m in enumerate(chosen[b, t].tolist()):
                step = (x[b, t, j][None, None] for x in (q, k, v, beta, g))
                read, last = delta_rule(*step, initial_state=memories[m][None])
                o, memories[m] = o + weights[b, t, j] * read[0, 0], last[0]
            reads.append(o)
        outputs.append(torch.stack(reads) if reads else v[b, :, 0])
        finals.append(torch.stack(memories))
    return torch.stack(outputs), torch.stack(finals)


@pytest.mark.parametrize("T", [0, 1, 2, 30])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_packing_is_the_definition(T: int, dtype: torch.dtype):
    values = example(T)
    agree(packed, step_by_step, values, dtype)
    agree(gradient(packed), gradient(step_by_step), values, dtype)


def test_a_reset_clears_every_memory():
    """Those that are read again later, and those that are not."""
    reset = torch.zeros(BATCH, 30, dtype=torch.bool)
    reset[0, [0, 7, 8]] = True
    reset[1, 28] = True
    values = example(30)
    agree(partial(packed, reset=reset), partial(step_by_step, reset=reset), values, torch.float64)
    agree(gradient(partial(packed, reset=reset)), gradient(partial(step_by_step, reset=reset)), values, torch.float64)


@pytest.mark.parametrize("at", [0, 1, 13, 30])
def test_cut_anywhere_is_whole(at: int):
    def pieces(*values):
        first, state = packed(*(x[:, :at] for x in values[:-1]), values[-1])
        second, state = packed(*(x[:, at:] for x in values[:-1]), state)
        return torch.cat([first, second], dim=1), state

    values = example(30)
    agree(pieces, packed, values, torch.float64)
    agree(gradient(pieces), gradient(packed), values, torch.float64)


def test_a_memory_that_is_not_chosen_is_not_touched():
    """Bit by bit, whatever the decays."""
    logits, *values = example(30)
    logits[:, :, 3] = -100
    _, final = packed(logits.float(), *(x.float() for x in values))
    assert torch.equal(final[:, 3], values[-1][:, 3].float())
    assert not torch.equal(final[:, 2], values[-1][:, 2].float())


@pytest.mark.parametrize("rule", ["attention", "rank one"])
def test_any_matrix_state_will_do(rule: str):
    """All memories chosen by all steps, with equal inputs: the mixture is the operation itself."""
    _, q, k, v, _, g, state = example(20)
    state = state[:, :TOPK]
    alike = [x[:, :, :1].expand(-1, -1, TOPK, *x.shape[3:]) for x in (q, k, v, g)]
    chosen = torch.arange(TOPK).expand(BATCH, 20, TOPK)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64).expand(BATCH, 20, TOPK)
    q, k, v, g = alike
    if rule == "attention":
        f, inputs = linear_attention, (q, k, v, g)
    else:
        f, inputs = dplr, (q, g, k, v, -k, k / 2)
    o, final = mixture_of_memories(f, Routing(weights, chosen, TOPK), *inputs, initial_state=state)
    alone = [f(*(x[:, :, 0] for x in inputs), initial_state=state[:, m]) for m in range(TOPK)]
    torch.testing.assert_close(o, 0.25 * alone[0][0] + 0.75 * alone[1][0])
    torch.testing.assert_close(final, torch.stack([S for _, S in alone], dim=1))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_it_gives_the_reference_numbers(dtype: torch.dtype):
    reference = golden.load("mom")
    inputs = {key: cast(x, dtype).requires_grad_() for key, x in reference.inputs.items()}
    x, heads, topk = inputs["x"], inputs["A_log"].shape[0], int(reference.options["topk"])
    routing = route(x @ inputs["Wgate"].T, topk)

    def unit(y: Tensor) -> Tensor:
        return y / (y.square().sum(-1, keepdim=True) + 1e-6).sqrt()

    def of_the_chosen(W: Tensor) -> Tensor:
        """x times the matrix of each chosen memory.   [B, T, topk, out]"""
        return torch.einsum("btjod,btd->btjo", W[routing.chosen], x)

    q = unit(F.silu(x @ inputs["Wq"].T).unflatten(-1, (heads, -1))).unsqueeze(2).expand(-1, -1, topk, -1, -1)
    k = unit(F.silu(of_the_chosen(inputs["Wk"])).unflatten(-1, (heads, -1)))
    v = F.silu(of_the_chosen(inputs["Wv"])).unflatten(-1, (heads, -1))
    beta = of_the_chosen(inputs["Wb"]).sigmoid()
    g = -inputs["A_log"].exp() * F.softplus(of_the_chosen(inputs["Wa"]) + inputs["dt_bias"])
    o, state = mixture_of_memories(delta_rule, routing, q, k, v, beta, g)
    expect_reference(reference, inputs, {"o": o, "state": state}, dtype)


def test_bad_arguments_are_refused():
    logits, q, k, v, beta, g, state = example(5)
    with pytest.raises(ValueError, match="topk is 6, expected between 1 and the 5 memories"):
        route(logits, 6)
    with pytest.raises(ValueError, match=r"^input 1 of the rule is \[2, 5, 1, 2, 4\], expected \[batch, time, topk, ...\]"):
        mixture_of_memories(linear_attention, route(logits, TOPK), q, k[:, :, :1], v)
    with pytest.raises(ValueError, match=r"^initial_state is \[2, 4, 2, 4, 3\]"):
        packed(logits, q, k, v, beta, g, state[:, :4])
