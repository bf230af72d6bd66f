"""Bad arguments are refused at the door, by name: what came, what was expected."""

import inspect
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from separatrix import recurrence
from separatrix.recurrence import (
    OPERATIONS,
    Companion,
    DiagonalGRU,
    Elman,
    block_scan,
    choose,
    companion_closed_loop,
    companion_kernel,
    companion_ssm,
    companion_state,
    delta_product,
    delta_rule,
    dense_scan,
    diagonal_scan,
    diagonal_ssm,
    dictionary_scan,
    dictionary_transition,
    dplr,
    forced_scan,
    forcing,
    kaczmarz_step,
    legs_online,
    linear_attention,
    linearize,
    log_linear_attention,
    log_positive,
    long_convolution,
    longhorn,
    longhorn_diagonal,
    low_rank_scan,
    lru_gain,
    mimo_ssm,
    mixture_of_memories,
    newton_scan,
    normalised_attention,
    plan,
    positive,
    rg_lru,
    ridge_attention,
    ridge_solve,
    rms_norm,
    route,
    scan,
    selective_scan,
    ssd,
)
from separatrix.recurrence.plan import COMPOSED
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
def test_what_is_no_tensor_is_refused(name: str):
    arguments = ROWS[name].example(5)
    parameters = inspect.signature(CALLS[name]).parameters
    for key, x in arguments.items():
        if isinstance(x, torch.Tensor):
            for other, kind in ((x.numpy(), "a ndarray"), (x.tolist(), "a list"), (1.5, "a float"), (None, "None")):
                if other is not None or (parameters[key].default is inspect.Parameter.empty and "None" not in parameters[key].annotation):
                    with pytest.raises(TypeError, match=rf"^{key} is {kind}, expected a tensor"):
                        CALLS[name](**(arguments | {key: other}))
    for other, kind in (([[True] * 5] * 2, "a list"), (np.zeros((2, 5), bool), "a ndarray")):
        with pytest.raises(TypeError, match=rf"^reset is {kind}, expected a tensor"):
            CALLS[name](**arguments, reset=other)


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


def test_a_bias_that_makes_a_step_go_back_is_refused():
    """And one that makes it go forward is not."""
    for name, key, softplus in (("selective", "delta", "delta_softplus"), ("ssd", "dt", "dt_softplus")):
        arguments = ROWS[name].example(5)
        step, bias = arguments[key].abs(), torch.full(arguments[key].shape[2:], -9.0).to(arguments[key])
        arguments |= {softplus: False}
        with pytest.raises(ValueError, match=rf"^{key} \+ {key}_bias must be >= 0, got min -"):
            CALLS[name](**(arguments | {key: step, f"{key}_bias": bias}))
        CALLS[name](**(arguments | {key: -step, f"{key}_bias": step.amax() - bias}))


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
    assert plan(rg_lru, 100).startswith("rg_lru runs as diagonal_scan, fused: ")
    assert all(operation in OPERATIONS and hasattr(recurrence, name) for name, operation in COMPOSED.items())
    with pytest.raises(ValueError, match=r"'nonsense', expected a Transition or one of .*delta_rule"):
        plan("nonsense", 5)


@pytest.mark.parametrize(
    "call, axis",
    [
        (lambda: linear_attention(ones(1, 3, 2, 0), ones(1, 3, 2, 0), ones(1, 3, 2, 4)), "key"),
        (lambda: linear_attention(ones(1, 3, 2, 4), ones(1, 3, 2, 4), ones(1, 3, 2, 0)), "value"),
        (lambda: delta_rule(ones(1, 3, 2, 4), ones(1, 3, 2, 4), ones(1, 3, 2, 0), ones(1, 3, 2)), "value"),
        (lambda: dictionary_scan(ones(1, 2, 3), ones(3, 0, 0), ones(1, 2, 0)), "state"),
        (lambda: diagonal_ssm(ones(1, 2, 3), ones(3, 0), ones(3, 0)), "state"),
        (lambda: companion_ssm(ones(1, 2, 3), ones(3, 0), ones(3, 0), ones(3, 0)), "state"),
    ],
)
def test_an_axis_without_numbers_is_refused(call: Callable, axis: str):
    """Gradients of what has no values were memory that nobody had written."""
    with pytest.raises(ValueError, match=f"^the {axis} axis has size 0, expected at least 1"):
        call()


@pytest.mark.parametrize(
    "k, eta, message",
    [
        (ones(1, 3, 2, 4), ones(1, 3, 1), r"^eta is \[1, 3, 1\], expected \[...\] = \[1, 3, 2\]"),
        (ones(1, 3, 2, 4), -ones(1, 3, 2), r"^eta must be >= 0, got min -1"),
        (ones(1, 3, 2, 4).long(), ones(1, 3, 2), r"^k is torch.int64, expected a floating point tensor"),
    ],
)
def test_a_kaczmarz_step_names_what_it_cannot_take(k: torch.Tensor, eta: torch.Tensor, message: str):
    with pytest.raises((ValueError, TypeError), match=message):
        kaczmarz_step(k, eta)


def test_a_kaczmarz_step_is_in_full_precision():
    """1 / |k|² in half precision would be 0 here, and no step would be made."""
    k, eta = torch.full((1, 1, 1, 4), 300.0), ones(1, 1, 1)
    torch.testing.assert_close(kaczmarz_step(k.half(), eta.half()), kaczmarz_step(k, eta))


@pytest.mark.parametrize("p", [0.5, torch.inf, torch.nan])
def test_a_norm_below_one_or_without_a_derivative_is_refused(p: float):
    with pytest.raises(ValueError, match=rf"^p is {p}, expected a norm with a derivative: 1 <= p < inf"):
        dictionary_scan(ones(1, 2, 3), ones(3, 4, 4), ones(1, 2, 4), p=p)


keys, gates, gains, h = ones(1, 3, 2, 4), ones(1, 3, 2), ones(2, 3), ones(1, 2, 3)
none, levels = torch.zeros(1, dtype=torch.int64), ones(1, 2, 3, 4, 4)
chosen = partial(mixture_of_memories, linear_attention, route(ones(1, 3, 4), 2))
mimo = partial(mimo_ssm, ones(1, 5, 4), ones(3), ones(3), ones(3, 2, 4))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rg_lru(h, h, h, ones(5)), r"lam is \[5\], expected \[channels\]"),
        (lambda: rg_lru(h, -h, h, ones(3)), r"r must lie in \[0, 1\], got -1 to -1"),
        (lambda: rg_lru(h, h, h * torch.nan, ones(3)), r"i must lie in \[0, 1\], got nan to nan"),
        (lambda: rg_lru(h, h, h, ones(3), c=-8.0), "c is -8.0, expected a positive number"),
        (lambda: lru_gain(h), "log_modulus must be <= 0, got max 1"),
        (lambda: companion_kernel(gains, ones(2, 4), gains, 5), r"b is \[2, 4\], expected \[..., state\] = \[2, 3\]"),
        (lambda: companion_kernel(gains, gains, gains, -5), "length is -5, expected a whole number of at least 0"),
        (lambda: companion_state(gains, gains, ones(1, 5, 3)), r"a is \[2, 3\], expected \[channels, state\] = \[3, 3\]"),
        (lambda: companion_state(gains, gains.int(), ones(1, 5, 2)), "b is torch.int32, expected a floating point tensor"),
        (lambda: companion_closed_loop(*[gains] * 4, h, -1), "horizon is -1, expected a whole number of at least 0"),
        (lambda: ridge_attention(keys, keys, keys, gates, solver=1.5), "solver is a float, expected a ConjugateGradient"),
        (
            lambda: ridge_solve(keys, keys, gates, ridge=0.1),
            r"ridge is a float, expected a tensor \[value heads, key\]",
        ),
        (lambda: ridge_solve(keys, keys, None), "beta is None, expected a tensor"),
        (lambda: legs_online(h, 0), "n is 0, expected a whole number of at least 1"),
        (lambda: legs_online(h, 4, initial_state=1.5), r"initial_state is a float, expected \(coefficients, count\)"),
        (lambda: normalised_attention(keys, keys, keys, initial_state=keys), r"initial_state is a Tensor, expected \(S, z\)"),
        (lambda: log_linear_attention(keys, keys, keys, None, keys, (keys,)), r"initial_state is a tuple of 1, expected \(S, position\)"),
        (
            lambda: log_linear_attention(keys, keys, keys, None, gates.unsqueeze(3).expand(-1, -1, -1, 3), (levels, none.float())),
            "position is torch.float32, expected whole numbers, such as torch.int64",
        ),
        (
            lambda: log_linear_attention(keys, keys, keys, None, gates.unsqueeze(3).expand(-1, -1, -1, 3), (levels + 0j, none)),
            "S is torch.complex64, expected a real tensor",
        ),
        (
            lambda: legs_online(h, 4, initial_state=(torch.zeros(1, 3, 4, dtype=torch.int64), none)),
            "initial_state's coefficients is torch.int64, expected a floating point tensor",
        ),
        (lambda: legs_online(h, 4, initial_state=(ones(1, 3, 4), none - 1)), "initial_state's count must be >= 0, got min -1"),
        (lambda: legs_online(h, 4, initial_state=(ones(1, 3, 4), none.float())), "initial_state's count is torch.float32, expected whole"),
        (lambda: linearize(Elman(torch.eye(3)), ones(2, 4), h[0]), r"h is \[2, 4\], expected \[..., state\] = \[2, 3\]"),
        (lambda: linearize(DiagonalGRU(ones(3, 3)), h, h), r"x is \[1, 2, 3\], expected \[..., width\] = \[1, 2, 9\]"),
        (lambda: choose("nonsense", (), 5), "operation is 'nonsense', expected one of .*delta_rule"),
        (lambda: rms_norm(h, ones(1, 3), eps=-5), "eps is -5, expected 0 or more"),
        (lambda: rms_norm(h + 0j, ones(1, 3)), "x is torch.complex64, expected a real tensor"),
        (lambda: rms_norm(h, ones(1, 3) + 0j), "weight is torch.complex64, expected a real tensor"),
        (lambda: rms_norm(h, ones(1, 3), h + 0j), "z is torch.complex64, expected a real tensor"),
        (lambda: positive(h + 0j), "x is torch.complex64, expected a real tensor"),
        (lambda: log_positive(h + 0j), "x is torch.complex64, expected a real tensor"),
        (lambda: log_positive(h.int()), "x is torch.int32, expected a floating point tensor"),
        (lambda: chosen([1]), "input 0 of the rule is a list, expected a tensor"),
        (lambda: chosen(initial_state=1.5), "initial_state is a float, expected a tensor"),
        (lambda: mixture_of_memories(linear_attention, None), "routing is a NoneType, expected a Routing"),
        (lambda: route(h, None), "topk is None, expected a whole number of at least 1"),
        (lambda: newton_scan(Elman(torch.eye(3)), h, guess=[0.0]), "guess is a list, expected a tensor"),
        (lambda: forced_scan(None, h, ones(2)), "cell is NoneType, expected a Cell"),
        (lambda: forced_scan(DiagonalGRU(ones(3, 3)), h, 0.5), "alpha is a float, expected a tensor"),
        (lambda: forcing(-5), "time is -5, expected a whole number of at least 0"),
        (lambda: forcing(5, interval=0), "interval is 0, expected a whole number of at least 1"),
        (lambda: forcing(5, alpha=2), "alpha is 2, expected a number from 0"),
        (lambda: dictionary_transition(ones(1, 3), ones(3, 4)), r"dictionary is \[3, 4\], expected \[entries, state, state\]"),
        (lambda: dictionary_transition(ones(1, 2), ones(3, 4, 4)), r"selection is \[1, 2\], expected \[..., entries\] with the 3 entries"),
        (lambda: mimo(ones(2, 3, 2), ones(4)), r"D is \[4\], expected \[outputs, channels\] = \[2, 4\]"),
        (lambda: rms_norm(h.int(), ones(1, 3)), "x is torch.int32, expected a floating point tensor"),
        (lambda: scan(gains, h), "A is a Tensor, expected a Transition"),
        (lambda: scan(Companion(ones(1, 1, 3)), [0.0]), "drive is a list, expected a tensor"),
        (lambda: plan(None, 5), "what is None, expected a Transition or one of"),
    ],
)
def test_functions_name_what_they_cannot_take(call, message: str):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    "scaled",
    [
        partial(linear_attention, keys, keys, keys),
        partial(delta_rule, keys, keys, keys, gates),
        partial(delta_product, keys, *[keys.unsqueeze(2)] * 2, gates.unsqueeze(2)),
        partial(dplr, keys, -keys, keys, keys, keys, keys),
        partial(normalised_attention, keys, keys, keys),
    ],
    ids=["linear_attention", "delta_rule", "delta_product", "dplr", "normalised_attention"],
)
def test_a_scale_is_one_finite_number(scaled: Callable):
    for scale in (torch.nan, -torch.inf):
        with pytest.raises(ValueError, match=f"^scale is {scale}, expected a finite number"):
            scaled(scale=scale)
    with pytest.raises(TypeError, match=r"^scale is a Tensor, expected a number\. Multiply q by one that is learned"):
        scaled(scale=torch.tensor(2.0))
    assert torch.equal(scaled(scale=np.float32(0.5))[0], scaled(scale=0.5)[0])
