"""Bad arguments are refused at the door, by name: what came, what was expected."""

import pytest
import torch

from separatrix.recurrence import (
    block_scan,
    companion_ssm,
    delta_rule,
    dense_scan,
    diagonal_scan,
    diagonal_ssm,
    dictionary_scan,
    dplr,
    linear_attention,
    long_convolution,
    longhorn,
    longhorn_diagonal,
    low_rank_scan,
    plan,
    selective_scan,
    ssd,
)
from tests.recurrence.roads import ROWS

CALLS = {
    "attention, one decay": linear_attention,
    "attention, decay per key": linear_attention,
    "delta, one decay": delta_rule,
    "diagonal, real": diagonal_scan,
    "diagonal state space": diagonal_ssm,
    "selective": selective_scan,
    "ssd": ssd,
    "rank one, decay per key": dplr,
    "attention, bonus": linear_attention,
    "longhorn": longhorn,
    "longhorn, diagonal": longhorn_diagonal,
    "dense": dense_scan,
    "low rank": low_rank_scan,
    "dictionary": dictionary_scan,
    "companion": companion_ssm,
}


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(*shape, dtype=dtype)


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_of_a_wrong_shape_is_named(name: str):
    """One row, one step, one head too many: whichever tensor it is, the message starts with a name and a shape."""
    arguments = ROWS[name].example(5)
    for key, x in arguments.items():
        if not isinstance(x, torch.Tensor):
            continue
        with pytest.raises(ValueError, match=r"(is \[[\d, ]*\], expected|must be a multiple)"):
            CALLS[name](**(arguments | {key: torch.cat([x, x])}))
        with pytest.raises(ValueError, match=r"is \[[\d, ]*\], expected"):
            CALLS[name](**(arguments | {key: x.reshape(*x.shape, 1, 1)}))


@pytest.mark.parametrize("name", CALLS)
def test_integers_and_a_reset_that_is_not_a_flag_are_refused(name: str):
    arguments = ROWS[name].example(5)
    for key, x in arguments.items():
        if isinstance(x, torch.Tensor):
            with pytest.raises(TypeError, match=rf"^{key} is torch.int64, expected a floating point tensor"):
                CALLS[name](**(arguments | {key: torch.zeros_like(x, dtype=torch.int64)}))
    with pytest.raises(TypeError, match=r"^reset is torch.float32, expected torch.bool"):
        CALLS[name](**arguments, reset=torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"^reset is \[2, 4\], expected \[batch, time\] = \[2, 5\]"):
        CALLS[name](**arguments, reset=torch.zeros(2, 4, dtype=torch.bool))


@pytest.mark.parametrize("name", CALLS)
def test_another_device_is_refused(name: str):
    arguments = ROWS[name].example(5)
    elsewhere = arguments["initial_state"].to("meta")
    with pytest.raises(ValueError, match=r"^initial_state is on meta but .* is on cpu"):
        CALLS[name](**(arguments | {"initial_state": elsewhere}))


@pytest.mark.parametrize("T", [1, 5])
@pytest.mark.parametrize("value, message", [(0.31, "got max 0.31"), (float("nan"), "got max nan")])
def test_a_decay_that_grows_is_refused(value: float, message: str, T: int):
    for name in ("attention, one decay", "attention, decay per key", "delta, one decay", "rank one, decay per key"):
        arguments = ROWS[name].example(T)
        bad = arguments["log_decay"].clone()
        bad.view(-1)[-1] = value
        with pytest.raises(ValueError, match=f"^log_decay must be <= 0, {message}"):
            CALLS[name](**(arguments | {"log_decay": bad}))
    for name in ("selective", "ssd"):
        arguments = ROWS[name].example(T)
        bad = arguments["A"].clone()
        bad.view(-1)[-1] = value
        with pytest.raises(ValueError, match=f"^A must be <= 0, {message}"):
            CALLS[name](**(arguments | {"A": bad}))


def test_a_step_back_in_time_is_refused():
    for name, key, bias, softplus in (("selective", "delta", "delta_bias", "delta_softplus"), ("ssd", "dt", "dt_bias", "dt_softplus")):
        with pytest.raises(ValueError, match=f"^{key} must be >= 0, got min -"):
            CALLS[name](**(ROWS[name].example(5) | {bias: None, softplus: False}))


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="v has 3 heads and q has 2"):
        linear_attention(ones(1, 2, 2, 4), ones(1, 2, 2, 4), ones(1, 2, 3, 4))
    with pytest.raises(ValueError, match="x has 3 heads and B has 2 groups"):
        ssd(ones(1, 2, 3, 4), ones(1, 2, 3), -ones(3), ones(1, 2, 2, 4), ones(1, 2, 2, 4))


def test_complex_where_only_real_makes_sense():
    q = ones(1, 2, 1, 4)
    with pytest.raises(TypeError, match=r"^v is torch.complex64, expected a real tensor"):
        linear_attention(q, q, ones(1, 2, 1, 4, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"^u is torch.complex64, expected a real tensor"):
        diagonal_ssm(ones(1, 2, 3, dtype=torch.complex64), ones(3, 4), ones(3, 4))
    arguments = ROWS["selective"].example(5)
    with pytest.raises(TypeError, match=r"^initial_state is torch.complex128, expected a real tensor"):
        selective_scan(**(arguments | {"initial_state": arguments["initial_state"] + 1j}))


def test_a_state_that_is_not_k_parts_is_refused():
    with pytest.raises(ValueError, match=r"^x is \[1, 3, 5\], expected .* = \[1, 3, 4\]"):
        block_scan(ones(1, 3, 2, 2, 2), ones(1, 3, 5))


def test_a_kernel_for_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"^kernel is \[2, 5\], expected \[channels, taps\] = \[3, 5\]"):
        long_convolution(ones(2, 5), ones(1, 7, 3))
    with pytest.raises(ValueError, match=r"^u is \[7, 3\], expected \[batch, time, channels\]"):
        long_convolution(ones(3, 5), ones(7, 3))


def test_plan_speaks_of_what_it_knows():
    assert plan(delta_rule, 100).startswith("delta_rule, ")
    assert "one step" in plan("delta_rule", 1)
    with pytest.raises(ValueError, match=r"'nonsense', expected a Transition or one of .*delta_rule"):
        plan("nonsense", 5)


def test_a_norm_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^p is 0.5, expected a norm: p >= 1"):
        dictionary_scan(ones(1, 2, 3), ones(3, 4, 4), ones(1, 2, 4), p=0.5)
