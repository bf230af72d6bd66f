"""Ridge attention: the published numbers, regression as it is done elsewhere, and what the iterative solvers promise."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import (
    OPERATIONS,
    AdaptiveRidge,
    Chebyshev,
    ConjugateGradient,
    State,
    recursive_least_squares,
    ridge_attention,
    ridge_solve,
)
from separatrix.recurrence.plan import objection
from tests import golden
from tests.agree import agree, gradient
from tests.recurrence.forms import close, road, rounding
from tests.recurrence.roads import BATCH, ROWS, regression
from tests.recurrence.test_golden import TOLERANCE, cast, error

TIMED = ("q", "k", "v", "beta", "log_decay")
CASES = [*golden.names("mesa"), *golden.names("gated_kalmanet")]
EXACT = [
    pytest.param(form, None, dtype, id=f"{form} {str(dtype)[6:]}")
    for form in OPERATIONS["ridge_attention"]
    for dtype in TOLERANCE
    if form != "fused" or objection("ridge_attention", (torch.zeros(1, dtype=dtype),)) is None
]
ITERATED = [
    pytest.param(form, ConjugateGradient(60, 1e-13), torch.float64, id=f"{form}, conjugate gradients") for form in ("recurrent", "chunked")
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("form, solver, dtype", EXACT + ITERATED)
def test_every_form_gives_the_reference_numbers(name: str, form: str, solver: ConjugateGradient | None, dtype: torch.dtype):
    """Gradients go through the adaptive ridge, and through every number of the initial P by itself."""
    reference = golden.load(name)
    given = {key: cast(x, dtype).requires_grad_() for key, x in reference.inputs.items()}
    state = State(P=given["Hkk0"], R=given["Hkv0"]) if "Hkk0" in given else None
    ridge = given.get("lamb", AdaptiveRidge(0.05))
    o, final = OPERATIONS["ridge_attention"][form](*(given[x] for x in ("q", "k", "v", "beta", "g")), ridge, solver, state)
    outputs, gradients = TOLERANCE[dtype]
    for part, y in {"o": o, "state": final.R, "state_kk": final.P}.items():
        assert error(y, reference.outputs[part], dtype) < outputs, part
        if part in reference.weights:
            loss = (y * cast(reference.weights[part], dtype)).sum()
            for key, x in given.items():
                expected = reference.gradients[part].get(key)
                if expected is not None:
                    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
                    assert error(gradient, expected, dtype) < gradients, f"d {part} / d {key}"


def arguments(time: int, ridge: Tensor | AdaptiveRidge, slow: bool = True) -> dict:
    given = regression(time, ridge)
    P, R = given.pop("initial_state").split([4, 3], dim=-1)
    return given | {"initial_state": State(P=P, R=R), "log_decay": given["log_decay"] / 30 if slow else given["log_decay"]}


def test_it_is_the_regression_that_numpy_would_do():
    """Of values on keys weighted by β and by what the decay left, the ridge whole: one least squares problem a step, nothing shared."""
    given = arguments(12, torch.rand(2, 4).double() + 0.1) | {"initial_state": None}
    o, _ = ridge_attention(**given)
    for t in range(12):
        since = given["log_decay"][0, : t + 1, 1].flip(0).cumsum(0).flip(0) - given["log_decay"][0, : t + 1, 1]
        weight = (given["beta"][0, : t + 1, 1] * since.exp()).sqrt().unsqueeze(-1)
        keys = torch.cat([weight * given["k"][0, : t + 1, 0], given["ridge"][1].sqrt().diag()])
        values = torch.cat([weight * given["v"][0, : t + 1, 1], torch.zeros(4, 3)])
        W = torch.linalg.lstsq(keys, values).solution
        close(o[0, t, 1], given["q"][0, t, 0] @ W)


@pytest.mark.parametrize("form", OPERATIONS["ridge_attention"])
def test_it_is_linear_in_values_and_in_what_was_read_from_them(form: str):
    given, other = (arguments(20, AdaptiveRidge()) for _ in range(2))
    P, f = given["initial_state"].P, OPERATIONS["ridge_attention"][form]

    def at(v: Tensor, R: Tensor) -> Tensor:
        o, final = f(**(given | {"v": v, "initial_state": State(P=P, R=R)}))
        return torch.cat([o.flatten(), final.R.flatten()])

    pairs = [(x["v"], x["initial_state"].R) for x in (given, other)]
    together = at(*(2 * x - 3 * y for x, y in zip(*pairs)))
    torch.testing.assert_close(together, 2 * at(*pairs[0]) - 3 * at(*pairs[1]), **({"rtol": 1e-4, "atol": 1e-5} if form == "fused" else {}))


@pytest.mark.parametrize("size", [-60.0, -45.0, 50.0])
@pytest.mark.parametrize("form", OPERATIONS["ridge_attention"])
def test_an_adaptive_ridge_follows_however_far_the_gram_matrix_fades_or_grows(form: str, size: float):
    """|P|² has left float32 at |P| = 1e-19, where P itself has all its digits."""
    row = ROWS["ridge, adaptive"]
    given = row.example(12)
    given["log_decay"] /= 30
    if size < 0:  # one row writes on as small as all is by then, the other nothing
        given["log_decay"][:, 5] = size
        given["beta"][:, 5:] *= torch.tensor([math.exp(size), 0.0])[:, None, None]
    else:
        given["beta"] *= math.exp(size)
        given["initial_state"] *= math.exp(size)
    fast, slow, values = road(row, form, given), road(row, "recurrent", given), tuple(given.values())
    agree(fast, slow, values, torch.float32)
    single = gradient(fast)(*(x if x is None or isinstance(x, AdaptiveRidge) else x.float() for x in values))
    for got, want in zip(single, gradient(slow)(*values)):
        assert (got - want).norm() < 1e-4 * want.norm()


@pytest.mark.parametrize("solver", [ConjugateGradient, Chebyshev])
@pytest.mark.parametrize("iterations", [1, 4, 16])
def test_iterations_converge_as_fast_as_the_condition_number_promises(solver: type, iterations: int):
    """An adaptive ridge bounds it by 1 + 1/rho at every step, whatever the decay and whatever the keys."""
    given = arguments(65, AdaptiveRidge(0.1), slow=False)
    given["P"] = given.pop("initial_state").P
    del given["v"]
    root = (1 + 1 / 0.1) ** 0.5
    promise = 2 * ((root - 1) / (root + 1)) ** iterations
    exact, found = ridge_solve(**given), ridge_solve(**given, solver=solver(iterations, tolerance=0.0))
    assert exact.residual.amax() < 1e-13
    if solver is Chebyshev:  # its polynomial bounds the residual, conjugate gradients the error in the norm of A, whose condition is root
        assert found.residual.amax() <= promise
    else:
        assert ((found.x - exact.x).norm(dim=-1) / exact.x.norm(dim=-1)).amax() <= root * promise


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e18])
def test_more_iterations_than_digits_do_no_harm(size: float):
    """Once solved, a system stays solved: the first steps have rank one and are done after two iterations of eighty."""
    given = {k: cast(x, torch.float32) for k, x in arguments(20, torch.rand(2, 4) + 0.1).items() if k not in ("v", "initial_state")}
    given["q"] = size * given["q"]
    found = ridge_solve(**given, solver=ConjugateGradient(80, tolerance=0.0))
    assert found.residual.amax() < 1e-5 and found.x.isfinite().all()


@pytest.mark.parametrize("T", [1, 10])
def test_what_did_not_converge_says_so(T: int):
    given = arguments(T, AdaptiveRidge())
    with pytest.warns(UserWarning, match=r"Chebyshev\(iterations=2, tolerance=0.01\) left a residual of") as said:
        ridge_attention(**given, solver=Chebyshev(2))
    assert said[0].filename == __file__  # the line that asked
    o, _ = ridge_attention(**given, solver=Chebyshev(60))  # and what did is silent: warnings are errors here
    close(o, ridge_attention(**given)[0])


def test_the_recursion_of_the_inverse_is_ridge_attention_while_nothing_fades():
    given = arguments(40, torch.rand(2, 4).double() + 0.1) | {"initial_state": None, "log_decay": None}
    starts = torch.zeros(BATCH, 40, dtype=torch.bool)
    starts[1, 17] = True
    o, _ = recursive_least_squares(**(given | {"reset": starts}))
    close(o, ridge_attention(**(given | {"reset": starts}))[0])


def test_with_a_decay_the_inverse_of_the_recursion_fades_ridge_and_all():
    given = arguments(20, torch.rand(2, 4).double() + 0.1) | {"initial_state": None}
    o, final = recursive_least_squares(**given)
    left = given["log_decay"].sum(1).exp()[..., None, None]
    P = ridge_attention(**given)[1].P
    close(final.Q.inverse(), P + left * torch.diag_embed(given["ridge"]))
    first, state = recursive_least_squares(**(given | {k: given[k][:, :9] for k in TIMED}))
    second, last = recursive_least_squares(**(given | {k: given[k][:, 9:] for k in TIMED} | {"initial_state": state}))
    close(torch.cat([first, second], dim=1), o)
    close(last.W, final.W)


@pytest.mark.parametrize("K", [2, 3, 5, 33])
def test_a_key_that_is_no_number_stays_in_its_row(K: int):
    """Heads share a kernel's scratch, whose rows go in fours."""
    q, k = torch.randn(2, 2, 20, 2, K).unbind()
    v, beta = torch.randn(2, 20, 2, 3), torch.rand(2, 20, 2)
    (want, final), poisoned = ridge_attention(q, k, v, beta), k.clone()
    poisoned[0] = torch.nan
    got, last = ridge_attention(q, poisoned, v, beta)
    assert torch.equal(got[1], want[1]) and torch.equal(last.P[1], final.P[1])


@pytest.mark.parametrize("K, V", [(1, 1), (3, 5), (5, 70), (33, 2), (70, 3)])
@pytest.mark.parametrize("T", [1, 32, 33, 70])
def test_the_recursion_at_ragged_sizes(K: int, V: int, T: int):
    """Rows go in fours and checkpoints every 32 steps: a reset and a key that is no number stay where they are."""
    q, k = torch.nn.functional.normalize(torch.randn(2, 2, T, 2, K).double(), dim=-1).unbind()
    v, beta, log_decay = torch.randn(2, T, 2, V).double(), torch.rand(2, T, 2).double(), -0.02 * torch.rand(2, T, 2).double()
    ridge, reset = 0.5 + torch.rand(2, K).double(), torch.zeros(2, T, dtype=torch.bool)
    reset[1, T // 2 :: 20] = True
    values = (q, k, v, beta, ridge, log_decay)

    def by(form: str, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        o, final = OPERATIONS["recursive_least_squares"][form](*inputs, None, reset)
        return o, final.Q, final.W

    fused, recurrent = partial(by, "fused"), partial(by, "recurrent")
    rounding(fused, recurrent, values, torch.float32)
    rounding(gradient(fused), gradient(recurrent), values, torch.float32)
    leaves = [x.float().requires_grad_() for x in values]
    poisoned = leaves[1].detach().clone()
    poisoned[0] = torch.nan
    poisoned.requires_grad_()
    parts = []
    for keys in (leaves[1], poisoned):
        given = [leaves[0], keys, *leaves[2:]]
        parts.append(torch.autograd.grad(fused(*given)[0][1].square().sum(), given[:4]))
    assert all(torch.equal(got[1], want[1]) for want, got in zip(*parts))


def test_the_door():
    given = arguments(5, torch.ones(2, 4).double())
    P, R = given["initial_state"].P, given["initial_state"].R
    for change, message in [
        ({"ridge": torch.zeros(2, 4)}, r"^ridge must be > 0, got min 0"),
        ({"ridge": torch.ones(4)}, r"^ridge is \[4\], expected \[value heads, key\] = \[2, 4\]"),
        ({"ridge": AdaptiveRidge(0.0)}, r"^ridge.rho must be > 0"),
        ({"beta": -given["beta"]}, r"^beta must be >= 0"),
        ({"log_decay": given["log_decay"].unsqueeze(-1).expand(-1, -1, -1, 4)}, r"^log_decay is \[2, 5, 2, 4\], expected \[batch, time"),
        ({"initial_state": State(P=P)}, r"^initial_state is a State of \['P'\], expected State\(P=..., R=...\)"),
        ({"initial_state": State(P=R, R=R)}, r"^initial_state.P is \[2, 2, 4, 3\], expected \[batch, value heads, key, key\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            ridge_attention(**(given | change))


def test_the_second_derivative_of_the_compiled_solve_is_the_definitions():
    """It goes through plain torch."""

    def second(form: str, dtype: torch.dtype) -> Tensor:
        ours = {name: cast(x, dtype) if isinstance(x, Tensor) else x for name, x in plain.items()}
        k = ours["k"].requires_grad_()
        o, _ = OPERATIONS["ridge_attention"][form](**ours)
        (gradient,) = torch.autograd.grad(o.square().sum(), k, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), k)[0]

    plain = arguments(11, AdaptiveRidge(0.2)) | {"initial_state": None}
    assert error(second("fused", torch.float32), second("recurrent", torch.float64), torch.float32) < 1e-4


def test_the_recursion_takes_no_rule_for_its_ridge():
    with pytest.raises(TypeError, match="ridge is"):
        recursive_least_squares(**(arguments(5, torch.ones(2, 4).double()) | {"initial_state": None, "ridge": AdaptiveRidge()}))


@pytest.mark.parametrize("K", [1, 6, 16, 19])
@pytest.mark.parametrize("batch", [1, 7])
def test_a_single_step_eliminates_for_all_heads_at_once(batch: int, K: int):
    """More heads than lanes and fewer, ridges of both kinds, with rows that are cleared; the last P symmetric to the last bit."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    q, k, v, root = draw(batch, 1, 3, K), draw(batch, 1, 3, K), draw(batch, 1, 3, 5), draw(batch, 3, K, K)
    beta, log_decay = draw(batch, 1, 3).sigmoid(), -draw(batch, 1, 3).square()
    state = State(P=root @ root.mT, R=draw(batch, 3, K, 5))
    reset = torch.arange(batch).unsqueeze(1) % 3 == 2
    for ridge in (draw(3, K).exp(), AdaptiveRidge(0.1)):
        given = q, k, v, beta, log_decay, ridge, None, state, reset
        o, final = OPERATIONS["ridge_attention"]["fused"](*given)
        exactly = (x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in given[:7])
        wanted, last = OPERATIONS["ridge_attention"]["recurrent"](*exactly, state.map(Tensor.double), reset)
        assert torch.equal(final.P, final.P.mT)
        for found, exact in ((o, wanted), (final.P, last.P), (final.R, last.R)):
            torch.testing.assert_close(found.double(), exact.double(), rtol=1e-3, atol=1e-4)
