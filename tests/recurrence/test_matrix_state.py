"""Matrix states where the table of roads does not reach: long sequences, a lone head, many factors; and what products are for."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from separatrix.recurrence import OPERATIONS, choose, delta_product, delta_rule
from separatrix.recurrence.kernels.chunk import CHUNK
from separatrix.recurrence.kernels.matrix_state import DISTANT
from tests.agree import agree, gradient
from tests.recurrence.roads import decay, product, randn

ruler = "a handful of numbers, nudged once, is a noisy ruler"


def road(operation: str, form: str, names: list[str]):
    return lambda *values: OPERATIONS[operation][form](**dict(zip(names, values)))


@pytest.mark.parametrize("factors", [1, 3])
@pytest.mark.parametrize("shape", [(2, 600, 2, 5, 3), (1, 40, 1, 9, 70)], ids=["longer than a stretch", "one head, cut into parts"])
def test_gradients_of_long_sequences_and_lone_heads(shape: tuple[int, ...], factors: int):
    B, T, H, K, V = shape
    arguments = {
        "q": randn(B, T, H, K),
        "k": normalize(randn(B, T, factors, H, K), dim=-1),
        "v": randn(B, T, factors, H, V),
        "beta": 2 * torch.rand(B, T, factors, H, dtype=torch.float64),
        "log_decay": decay(B, T, H, K),
        "initial_state": randn(B, H, K, V),
    }
    fast, slow = (road("delta_product", form, list(arguments)) for form in ("fused", "recurrent"))
    agree(fast, slow, tuple(arguments.values()), torch.float32, 8, ruler)
    agree(gradient(fast), gradient(slow), tuple(arguments.values()), torch.float32, 8, ruler)


@pytest.mark.parametrize("decays", ["none", "head", "key"])
def test_a_bonus_across_stretches_parts_and_shared_keys(decays: str):
    """Queries read before their step decays and writes, and at a reset find their own pair alone."""
    B, T, K, V = 1, 600, 5, 70
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[:, [0, 15, 16, 300]] = True
    arguments = {
        "q": randn(B, T, 1, K),
        "k": randn(B, T, 1, K),
        "v": randn(B, T, 2, V),
        "log_decay": {"none": None, "head": decay(B, T, 2), "key": decay(B, T, 2, K)}[decays],
        "initial_state": randn(B, 2, K, V),
        "reset": reset,
        "bonus": randn(2, K),
    }
    arguments = {name: x for name, x in arguments.items() if x is not None}
    fast, slow = (road("linear_attention", form, list(arguments)) for form in ("fused", "recurrent"))
    agree(fast, slow, tuple(arguments.values()), torch.float32, 8, ruler)
    agree(gradient(fast), gradient(slow), tuple(arguments.values()), torch.float32, 8, ruler)


def test_a_lone_head_of_ssd_is_cut_into_parts():
    """Each part of the channels has its share of the gradients of dt, A, B, C and D."""
    B, T, P, N = 1, 40, 70, 9
    arguments = {
        "x": randn(B, T, 1, P),
        "dt": torch.rand(B, T, 1, dtype=torch.float64),
        "A": -torch.rand(1, dtype=torch.float64),
        "B": randn(B, T, 1, N),
        "C": randn(B, T, 1, N),
        "D": randn(1),
    }
    fast, slow = (road("ssd", form, list(arguments)) for form in ("fused", "recurrent"))
    agree(fast, slow, tuple(arguments.values()), torch.float32, 8, ruler)
    agree(gradient(fast), gradient(slow), tuple(arguments.values()), torch.float32, 8, ruler)


@pytest.mark.parametrize("factors", [1, 3])
def test_rows_that_have_left_the_cache(factors: int):
    """The kernel asks for them early; that changes no number."""
    B, T, H, K, V = 1, DISTANT // factors // 44 + 100, 1, 20, 24
    steps = {
        "q": torch.randn(B, T, H, K),
        "k": normalize(torch.randn(B, T, factors, H, K), dim=-1),
        "v": torch.randn(B, T, factors, H, V),
        "beta": torch.rand(B, T, factors, H),
        "log_decay": -torch.rand(B, T, H),
    }
    whole, end = delta_product(**steps)
    tokens = CHUNK // factors  # of a chunk
    cut = T // 2 // tokens * tokens
    first, middle = delta_product(**{name: x[:, :cut] for name, x in steps.items()})
    second, final = delta_product(**{name: x[:, cut:] for name, x in steps.items()}, initial_state=middle)
    assert torch.equal(whole, torch.cat([first, second], dim=1)) and torch.equal(end, final)


def test_one_factor_is_the_delta_rule():
    a = {k: x if x is None else x.float() for k, x in product(30, 1, decay(2, 30, 2)).items()}
    one = {k: x.squeeze(2) if k in ("k", "v", "beta") else x for k, x in a.items()}
    for got, want in zip(delta_product(**a), delta_rule(**one)):
        assert torch.equal(got, want)


def test_more_factors_than_a_chunk_holds():
    a = {k: None if x is None else x.float() for k, x in product(2, 17, None).items()}
    form, why = choose("delta_product", tuple(a.values()), 2)
    assert form == "chunked" and "factors" in why
    assert choose("delta_product", tuple(product(2, 16, None).values()), 2)[0] == "chunked"  # float64


def test_two_reflections_are_a_rotation():
    """β = 2 along keys half an angle apart: after T tokens the state has turned T times, for every form."""
    T, angle = 50, 2 * math.pi / 7
    keys = torch.tensor([[1, 0], [math.cos(angle / 2), math.sin(angle / 2)]], dtype=torch.float64)
    k = keys.expand(1, T, 2, 2).unsqueeze(3)
    start = torch.tensor([[0.6], [0.8]], dtype=torch.float64).reshape(1, 1, 2, 1)
    turn = torch.tensor([[math.cos(T * angle), -math.sin(T * angle)], [math.sin(T * angle), math.cos(T * angle)]], dtype=torch.float64)
    q, v, beta = torch.zeros(1, T, 1, 2).double(), torch.zeros(1, T, 2, 1, 1).double(), torch.full((1, T, 2, 1), 2.0).double()
    for form in OPERATIONS["delta_product"]:
        if form == "cuda":
            continue
        dtype, close = (torch.float32, 1e-4) if form == "fused" else (torch.float64, 1e-12)  # 100 reflections by rounded keys
        _, final = OPERATIONS["delta_product"][form](*(x.to(dtype) for x in (q, k, v, beta)), initial_state=start.to(dtype))
        torch.testing.assert_close(final[0, 0].double(), turn @ start[0, 0], rtol=0, atol=close)


def test_factors_are_counted_at_the_door():
    a = product(4, 2, None)
    with pytest.raises(ValueError, match=r"^k is \[2, 4, 0, 2, 4\], expected at least one factor"):
        delta_product(**a | {"k": a["k"][:, :, :0]})
    with pytest.raises(ValueError, match=r"^beta is \[2, 4, 1, 2\], expected \[batch, time, factors, value heads\] = \[2, 4, 2, 2\]"):
        delta_product(**a | {"beta": a["beta"][:, :, :1]})
    with pytest.raises(ValueError, match=r"^k is \[2, 4, 2, 4\], expected \[batch, time, factors, heads, key\]"):
        delta_product(**a | {"k": a["k"][:, :, 0]})
