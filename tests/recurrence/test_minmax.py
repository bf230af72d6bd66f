"""Min-max recurrences: every form gives the same numbers to the last bit, and the same gradients, ties included.

Exact, so no tolerance appears; what test_roads.py does for recurrences that are linear in the usual sense is done here with equality.
"""

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import OPERATIONS, Diagonal, MinMax, MinMaxDiagonal, minmax_scan, plan, scan
from separatrix.recurrence.plan import objection
from tests import golden
from tests.agree import gradient

B, N = 2, 3
KINDS = {"diagonal": (N,), "matrix": (N, N)}
FORMS = [(kind, form) for kind in KINDS for form in OPERATIONS["minmax_scan"] if (kind, form) != ("matrix", "fused")]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]

every_form = pytest.mark.parametrize("kind, form", FORMS)
every_kind = pytest.mark.parametrize("kind", KINDS)


def example(kind: str, T: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers, so that nearly every comparison is a tie somewhere; caps above floors mostly."""
    a = torch.randint(-2, 4, (B, T, 2, *KINDS[kind]))
    return a.to(dtype), torch.randint(-4, 2, (B, T, 2, N)).to(dtype), torch.randint(-3, 4, (B, 2, N)).to(dtype)


def resets(T: int) -> Tensor:
    flags = torch.rand(B, T) < 0.2
    flags[0] = False
    return flags


def form_of(name: str):
    return OPERATIONS["minmax_scan"][name]


@every_form
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("T", [0, 1, 2, 63, 64, 65])
def test_every_form_is_the_definition(kind: str, form: str, dtype: torch.dtype, T: int):
    for reset in (None, resets(T)):
        values = example(kind, T, dtype)
        fast, slow = (lambda a, b, h, f=f, reset=reset: form_of(f)(a, b, h, reset) for f in (form, "recurrent"))
        got, want = fast(*values), slow(*values)
        assert got[0].dtype is dtype and torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
        for one, other in zip(gradient(fast)(*values), gradient(slow)(*values)):  # weights are quarters: their sums are exact
            assert torch.equal(one, other)


@every_form
def test_rounded_numbers_are_the_same_numbers(kind: str, form: str):
    """4096 steps of arbitrary floats."""
    a, b = torch.randn(1, 4096, 1, *KINDS[kind]) + 1, torch.randn(1, 4096, 1, N) - 1
    for got, want in zip(form_of(form)(a, b), form_of("recurrent")(a, b)):
        assert torch.equal(got, want)


@every_form
@pytest.mark.parametrize("T", [1, 40])
def test_a_reset_is_a_restart_and_cuts_are_seamless(kind: str, form: str, T: int):
    a, b, h = example(kind, T)
    whole, final = form_of(form)(a, b, h)
    for at in range(0, T + 1, 5):
        first, state = form_of(form)(a[:, :at], b[:, :at], h)
        second, last = form_of(form)(a[:, at:], b[:, at:], state)
        assert torch.equal(torch.cat([first, second], 1), whole) and torch.equal(last, final)
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[1, T // 2] = True
    packed, _ = form_of(form)(a, b, h, reset)
    anew, _ = form_of(form)(a[1:, T // 2 :], b[1:, T // 2 :])
    assert torch.equal(packed[0], whole[0]) and torch.equal(packed[1, : T // 2], whole[1, : T // 2])
    assert torch.equal(packed[1:, T // 2 :], anew)


@every_form
def test_superposition_in_the_semiring(kind: str, form: str):
    """The maximum of two drives gives the maximum of the two states."""
    (a, b, h), (_, c, g) = example(kind, 40), example(kind, 40)
    run = form_of(form)
    one, two, both = run(a, b, h)[0], run(a, c, g)[0], run(a, torch.maximum(b, c), torch.maximum(h, g))[0]
    assert torch.equal(both, torch.maximum(one, two))


@every_form
def test_a_latch_keeps_its_value_and_its_gradient(kind: str, form: str):
    T = 100_000 if form != "recurrent" and kind == "diagonal" else 2000
    h = torch.tensor([[0.1, 0.3, 0.2]], requires_grad=True)
    a = torch.full((1, 1, *KINDS[kind]), torch.inf)
    if kind == "matrix":
        a = torch.where(torch.eye(N, dtype=torch.bool), torch.inf, -torch.inf)[None, None]
    _, last = form_of(form)(a.expand(1, T, *a.shape[2:]), torch.full((1, T, N), -1.0), h)
    assert torch.equal(last, h)
    assert torch.equal(torch.autograd.grad(last.sum(), h)[0], torch.ones_like(h))


@every_form
def test_a_tie_goes_to_the_past(kind: str, form: str):
    leaves = [torch.ones(1, 2, *KINDS[kind]), torch.ones(1, 2, N), torch.ones(1, N)]
    a, b, h = (x.requires_grad_() for x in leaves)
    states, _ = form_of(form)(a, b, h)
    grads = torch.autograd.grad(states[:, -1].sum(), (a, b, h))
    to_state = torch.ones(1, N) if kind == "diagonal" else torch.tensor([[3.0, 0.0, 0.0]])  # equal entries of a row: the lowest j
    for got, want in zip(grads, (torch.zeros_like(a), torch.zeros_like(b), to_state)):
        assert torch.equal(got, want)


@every_form
def test_not_even_a_nan_passes_a_reset(kind: str, form: str):
    reset = torch.zeros(B, 20, dtype=torch.bool)
    reset[:, [9, 14]] = True
    clean = example(kind, 20)
    broken = tuple(x.clone() for x in clean)
    broken[0][:, 3], broken[1][:, 7], broken[2][:] = torch.nan, torch.nan, torch.nan
    (got, last), (want, final) = (form_of(form)(*values, reset) for values in (broken, clean))
    assert got[:, :9].isnan().any() and torch.equal(got[:, 9:], want[:, 9:]) and torch.equal(last, final)


@every_form
def test_a_nan_stays_one(kind: str, form: str):
    for spoiled in range(3):
        values = [x.clone() for x in example(kind, 20)]
        values[spoiled].flatten()[0] = torch.nan
        states, last = form_of(form)(*values)
        assert torch.equal(states.isnan(), form_of("recurrent")(*values)[0].isnan()) and last.isnan().any()


@every_form
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_reference_numbers(kind: str, form: str, dtype: torch.dtype):
    case = golden.load({"diagonal": "minmax_diag", "matrix": "minmax_matrix"}[kind])
    leaves = {key: x.to(dtype).requires_grad_() for key, x in case.inputs.items()}
    a, b, h0 = leaves.values()
    outputs = dict(zip(("o", "state"), form_of(form)(a, b, h0)))
    for part, y in outputs.items():
        assert torch.equal(y.double(), case.outputs[part])
        grads = torch.autograd.grad((y * case.weights[part].to(dtype)).sum(), list(leaves.values()), retain_graph=True, allow_unused=True)
        for (key, leaf), grad in zip(leaves.items(), grads):
            want = case.gradients[part].get(key, torch.zeros_like(leaf))
            got = torch.zeros_like(leaf) if grad is None else grad
            # sums of weights: a few roundings
            torch.testing.assert_close(got.double(), want.double(), rtol=1e-6 if dtype is torch.float32 else 1e-12, atol=1e-6)


@every_kind
def test_transforms_of_torch_agree(kind: str):
    a, b, h = example(kind, 12)
    grads = torch.func.grad(lambda *x: minmax_scan(*x)[0].sum(), argnums=(0, 1, 2))(a, b, h)
    directions = tuple(torch.randint_like(x, -3, 4) for x in (a, b, h))
    _, forward = torch.func.jvp(lambda *x: minmax_scan(*x)[0].sum(), (a, b, h), directions)
    assert forward == sum((g * d).sum() for g, d in zip(grads, directions))
    many = torch.stack([b, b + 1])
    for i, states in enumerate(torch.func.vmap(lambda x: minmax_scan(a, x, h)[0])(many)):
        assert torch.equal(states, minmax_scan(a, many[i], h)[0])
    each = torch.func.grad(lambda x: minmax_scan(a, x, h)[0].square().sum())
    for i, gradients in enumerate(torch.func.vmap(each)(many)):
        assert torch.equal(gradients, each(many[i]))
    compiled = torch.compile(minmax_scan, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(a, b, h)[0], minmax_scan(a, b, h)[0])
    for T in (0, 12):
        hollow = minmax_scan(*(x.to("meta") for x in (a[:, :T], b[:, :T], h)))
        assert [x.shape for x in hollow] == [(B, T, 2, N), (B, 2, N)]


@every_form
def test_derivatives_are_those_of_differences(kind: str, form: str):
    shapes = ((1, 5, 1, *KINDS[kind]), (1, 5, 1, N), (1, 1, N))
    leaves = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(form_of(form), leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(form_of(form), leaves, fast_mode=True)


def test_the_door():
    a, b, h = example("diagonal", 5)
    with pytest.raises(ValueError, match=r"^a is \[4, 5, 2, 3\], expected"):
        minmax_scan(torch.cat([a, a]), b, h)
    with pytest.raises(ValueError, match=r"^a is \[5, 2, 3\], expected"):
        minmax_scan(a[0], b, h)
    with pytest.raises(TypeError, match=r"^a is torch.complex128, expected a real tensor"):
        minmax_scan(a + 0j, b)
    with pytest.raises(ValueError, match=r"^initial_state is \[1, 2, 3\]"):
        minmax_scan(a, b, h[:1])
    assert "elementwise" in objection("minmax_scan", example("matrix", 5))
    assert "not fused" in plan(minmax_scan, 5, *example("matrix", 5)) and "fused" in plan(minmax_scan, 5, a, b)


# ---- the maps themselves


def maps() -> list:
    return [MinMaxDiagonal(torch.randn(B, 5, N)), MinMax(torch.randn(B, 5, N, N))]


def test_maps_apply_and_compose_as_their_matrices_do():
    h, S = torch.randn(B, 5, N), torch.randn(B, 5, N, 4)
    for first in maps():
        assert torch.equal(first.apply(h), MinMax(first.dense()).apply(h))
        assert torch.equal(first.apply_to_columns(S), torch.stack([first.apply(S[..., i]) for i in range(4)], -1))
        for later in maps():
            both = first.compose(later)
            assert torch.equal(both.apply(h), later.apply(first.apply(h)))
            assert torch.equal(both.dense(), MinMax(later.dense()).apply_to_columns(first.dense()))
        with pytest.raises(TypeError, match="semiring"):
            first.compose(Diagonal(torch.ones(B, 5, N)))


def test_a_map_pulls_no_two_states_apart():
    for A in maps():
        x, y = torch.randn(200, B, 5, N), torch.randn(200, B, 5, N)
        stretch = (A.apply(x) - A.apply(y)).abs().amax(-1) / (x - y).abs().amax(-1)
        assert (stretch <= A.norm()).all()
        low = torch.full((B, 5, N), -50.0)
        assert torch.equal((A.apply(low + 1) - A.apply(low)).abs().amax(-1), A.norm())
        closed = type(A)(torch.full_like(next(iter(A.tensors().values())), -torch.inf))
        assert torch.equal(closed.norm(), torch.zeros(B, 5))


def test_the_spectrum_is_that_of_the_derivative_below_the_caps():
    for A in maps():
        spectrum = A.spectrum()
        assert spectrum.is_complex() and spectrum.shape == (B, 5, N)
        assert ((spectrum.abs() < 1e-6) | ((spectrum.abs() - 1).abs() < 1e-6)).all()
    assert torch.equal(maps()[0].spectrum(), torch.ones(B, 5, N, dtype=torch.complex64))


def test_scan_runs_them():
    drive, h = torch.randn(B, 5, N), torch.randn(B, N)
    for A in maps():
        states, last = scan(A, drive, h)
        for t in range(5):
            h_t = torch.maximum(A.at(t).apply(h if t == 0 else states[:, t - 1]), drive[:, t])
            assert torch.equal(states[:, t], h_t)
        assert torch.equal(last, states[:, -1])
        assert ("chunked" if isinstance(A, MinMax) else "fused") in plan(A, 5)
