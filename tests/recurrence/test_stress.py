"""Where faster forms usually break: steps that forget everything, multipliers of zero, long sequences."""

import pytest
import torch

from separatrix.recurrence import OPERATIONS
from tests.agree import cast, gradient, is_number
from tests.recurrence.forms import ALL, agree, named, road, rows_of
from tests.recurrence.roads import BATCH, ROWS

DECAYING = [
    "attention, one decay",
    "attention, decay per key",
    "delta, one decay",
    "delta, decay per key",
    "rank one, one decay",
    "rank one, decay per key",
    "ridge",
]
DECAYS = {
    "exp(-94) at every step": lambda g: torch.full_like(g, -94),
    "exp(-94) now and then": lambda g: torch.where(torch.rand_like(g) < 0.1, -94, g / 1000),
    "nothing is left": lambda g: torch.where(torch.rand_like(g) < 0.1, -torch.inf, g),
    "nothing is forgotten": torch.zeros_like,
}


@pytest.mark.parametrize("decay", DECAYS)
@rows_of([row for row in ALL if row[0] in DECAYING and row[1] != "recurrent" and row[2] is not torch.bfloat16])
def test_any_decay_is_exact(name: str, form: str, dtype: torch.dtype, decay: str):
    """Outputs, states and gradients: exp(-cumulative sum) would overflow in all but the last of these."""
    row = ROWS[name]
    arguments = row.example(100)
    arguments["log_decay"] = DECAYS[decay](arguments["log_decay"])
    fast, slow, values = road(row, form, arguments), road(row, "recurrent", arguments), tuple(arguments.values())
    agree(fast, slow, values, dtype)
    if decay in ("exp(-94) now and then", "nothing is forgotten"):
        agree(gradient(fast), gradient(slow), values, dtype)
    else:  # there is no ruler for a gradient of 1e-41, nor for a nudge of infinity
        for got in gradient(fast)(*(cast(x, dtype) for x in values)):
            assert got.isfinite().all()


@pytest.mark.parametrize("form", OPERATIONS["diagonal_scan"])
def test_multipliers_of_zero_and_one(form: str):
    """A zero cuts, a one adds up: no form takes a logarithm or divides."""
    a = torch.randint(-1, 2, (BATCH, 100, 3)).double()
    x, h = torch.randint(-3, 4, (BATCH, 100, 3)).double(), torch.randint(-3, 4, (BATCH, 3)).double()
    exact = OPERATIONS["diagonal_scan"]["recurrent"](a, x, h)
    for got, want in zip(OPERATIONS["diagonal_scan"][form](a, x, h), exact):
        assert torch.equal(got, want)


@pytest.mark.parametrize("name", ROWS)
def test_the_backward_of_the_definition_grows_with_the_length_not_its_square(name: str):
    """Numbers kept for the backward pass, counted: a loop that wrote into a tensor would keep one whole output per step."""
    row = ROWS[name]

    def kept(T: int) -> int:
        seen = {}

        def pack(x):
            seen[x.data_ptr()] = x.untyped_storage().nbytes()
            return x

        arguments = {k: x.requires_grad_() if is_number(x) else x for k, x in row.example(T).items()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            outputs = named(row, "recurrent")(**arguments)
        sum(y.real.sum() for y in outputs).backward()
        return len(seen)

    assert kept(64) < 2.2 * kept(32)


@rows_of([row for row in ALL if ROWS[row[0]].operation in ("diagonal_scan", "diagonal_ssm", "selective_scan")])
def test_a_reset_clears_by_selection(name: str, form: str, dtype: torch.dtype):
    """Multiplied by zero, a NaN would stay one. To the last bit, but for forms that mix steps, for which the recurrent one answers."""
    row, T, at = ROWS[name], 40, 23
    clean = {k: cast(x, dtype) for k, x in row.example(T).items()}
    spoilt = clean | {"initial_state": torch.full_like(clean["initial_state"], torch.nan)}
    for key in row.timed:
        spoilt[key] = clean[key].clone()
        spoilt[key][0, 4:9], spoilt[key][1, at - 1] = torch.nan, torch.inf
    reset = torch.zeros(BATCH, T, dtype=torch.bool)
    reset[:, at] = True
    (got, last), (want, final) = (OPERATIONS[row.operation][form](**arguments, reset=reset) for arguments in (spoilt, clean))
    assert got[:, :at].isnan().any()
    mixes = form == "dense" or (row.operation, form) == ("diagonal_ssm", "chunked")
    rounding = {} if mixes else {"rtol": 0, "atol": 0}
    torch.testing.assert_close((got[:, at:], last), (want[:, at:], final), **rounding)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30, 1e38])
@pytest.mark.parametrize("p", [1.0, 1.2, 2.0, 10.0])
@rows_of([row for row in ALL if row[0] == "dictionary" and row[2] is torch.float32])
def test_the_scale_of_a_dictionary_is_nothing(name: str, form: str, dtype: torch.dtype, p: float, size: float):
    """Powers of small numbers vanish and those of large ones are infinite, columns of norm 1 are neither. A column of zeros stays zero."""
    arguments = ROWS[name].example(20) | {"p": p}
    scaled = arguments | {"dictionary": size * arguments["dictionary"]}
    agree(road(ROWS[name], form, scaled), road(ROWS[name], "recurrent", scaled), tuple(scaled.values()), dtype)
    gradients = gradient(road(ROWS[name], form, scaled))(*(cast(x, dtype) for x in scaled.values()))
    wanted = gradient(road(ROWS[name], "recurrent", arguments if size else scaled))(*(arguments if size else scaled).values())
    for key, got, want in zip((key for key, x in scaled.items() if is_number(x)), gradients, wanted):
        want = want / size if size and key == "dictionary" else want
        assert (got.double() - want).abs().max() <= 1e-4 * want.abs().max(), key
