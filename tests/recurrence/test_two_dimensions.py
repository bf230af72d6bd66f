"""What the table of roads cannot ask of a grid: both axes, both edges, every shape; and images read in four directions."""

from functools import partial

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import cross_merge, cross_scan, diagonal_scan, four_directions, linear_attention, plan, scan2d, selective_scan2d
from separatrix.recurrence.plan import OPERATIONS
from tests.agree import agree, cast, gradient
from tests.recurrence.roads import BATCH, grid, randn, selective_grid

agree = partial(agree, factor=8, because="a handful of numbers, nudged once, is a noisy ruler")
FORMS = OPERATIONS["scan2d"]
SHAPES = [(0, 0), (0, 3), (3, 0), (1, 1), (1, 7), (7, 1), (2, 9), (5, 4), (3, 33)]


def whole(T: int, V: int) -> dict:
    return grid(T, V) | {"edge": randn(BATCH, T, 2, 3)}


@pytest.mark.parametrize("T, V", SHAPES)
@pytest.mark.parametrize("form, dtype", [("chunked", torch.float64), ("fused", torch.float64), ("fused", torch.float32)], ids=str)
def test_every_shape_is_the_definition(form: str, dtype: torch.dtype, T: int, V: int):
    arguments = whole(T, V)

    def road(form, *values):
        return FORMS[form](**dict(zip(arguments, values)))

    fast, slow, values = partial(road, form), partial(road, "recurrent"), tuple(arguments.values())
    agree(fast, slow, values, dtype)
    agree(gradient(fast), gradient(slow), values, dtype)


def test_equations_by_hand():
    """Two by two cells, one number each."""
    a = torch.tensor([[0.5, 2.0], [3.0, -1.0]], dtype=torch.float64).reshape(2, 2, 1)
    x = torch.arange(1.0, 9.0, dtype=torch.float64).reshape(1, 2, 2, 2, 1)
    h, final = scan2d(a, x, torch.ones(1, 2, 2, 1), edge=torch.full((1, 2, 2, 1), 10.0))
    # h1 = a11 above1 + a12 above2 + x1,   h2 = a21 left1 + a22 left2 + x2
    expected = [[(2.5 + 1, 20.0 + 2), (2.5 + 3, 3 * 3.5 - 22 + 4)], [(1.75 + 44 + 5, 20.0 + 6), (2.75 - 15 + 7, 3 * 50.75 - 26 + 8)]]
    assert torch.equal(h[0, ..., 0], torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(final, h[:, -1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("T, V", [(6, 9), (9, 6)])
def test_four_quarters_are_the_whole(form: str, T: int, V: int):
    """Cut along both axes: lines go on from the final state, columns from the last states to their left."""
    given, t, v = whole(T, V), T // 2, V // 3

    def in_quarters(a: Tensor, x: Tensor, start: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        halves, finals = [], []
        for columns in (slice(0, v), slice(v, V)):
            state, pieces = start[:, columns], []
            for lines in (slice(0, t), slice(t, T)):
                left = halves[0][:, lines, -1] if halves else edge[:, lines]
                piece, state = FORMS[form](a[:, lines, columns], x[:, lines, columns], state, None, left)
                pieces.append(piece)
            halves.append(torch.cat(pieces, dim=1))
            finals.append(state)
        return torch.cat(halves, dim=2), torch.cat(finals, dim=1)

    def at_once(a: Tensor, x: Tensor, start: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        return FORMS[form](a, x, start, None, edge)

    agree(in_quarters, at_once, tuple(given[name] for name in ("a", "x", "initial_state", "edge")), torch.float64)


@pytest.mark.parametrize("form", FORMS)
def test_a_cell_hears_only_what_is_above_and_left_of_it(form: str):
    given, other = whole(6, 8), whole(6, 8)
    h, _ = FORMS[form](**given)
    for t, v in ((0, 0), (2, 5), (5, 7)):
        changed = dict(given)
        for name in ("a", "x"):
            changed[name] = given[name].clone()
            changed[name][:, t, v] = other[name][:, t, v]
        moved = (FORMS[form](**changed)[0] != h).any(-1).any(-1).any(0)
        expected = torch.zeros(6, 8, dtype=torch.bool)
        expected[t:, v:] = True
        assert torch.equal(moved, expected)


@pytest.mark.parametrize("form", FORMS)
def test_without_crossing_it_is_two_scans(form: str):
    given = whole(5, 7)

    def apart(a: Tensor, x: Tensor, start: Tensor, edge: Tensor) -> Tensor:
        along_time, _ = diagonal_scan(a[:, :, :, 0, 0], x[:, :, :, 0], start[:, :, 0])
        along_variates, _ = diagonal_scan(a[:, :, :, 1, 1].transpose(1, 2), x[:, :, :, 1].transpose(1, 2), edge[:, :, 1])
        return torch.stack([along_time, along_variates.transpose(1, 2)], dim=3)

    a = given["a"] * torch.eye(2, dtype=torch.float64).unsqueeze(-1)
    inputs = a, given["x"], given["initial_state"], given["edge"]
    agree(lambda a, x, start, edge: FORMS[form](a, x, start, None, edge)[0], apart, inputs, torch.float64)


@pytest.mark.parametrize("T, V", [(5, 9), (9, 5)])
def test_the_axes_may_change_places(T: int, V: int):
    def swapped(a: Tensor, x: Tensor, start: Tensor, edge: Tensor) -> Tensor:
        h, _ = scan2d(a.transpose(1, 2).flip(3, 4), x.transpose(1, 2).flip(3), edge.flip(2), None, start.flip(2))
        return h.transpose(1, 2).flip(3)

    inputs = tuple(whole(T, V)[name] for name in ("a", "x", "initial_state", "edge"))
    agree(swapped, lambda a, x, start, edge: scan2d(a, x, start, None, edge)[0], inputs, torch.float64)


def test_every_way_of_sharing_a():
    """Shared over batch, time or variates: one stored copy, gradients summed."""
    given = whole(6, 5)
    for shape in ((1, 6, 5), (BATCH, 1, 5), (BATCH, 6, 1), (1, 1, 5), (1, 6, 1), (BATCH, 1, 1)):
        a = 0.4 * randn(*shape, 2, 2, 3).tanh()
        values = (a, given["x"], given["initial_state"], given["edge"])
        fast, slow = ((lambda a, x, s, e, form=form: FORMS[form](a, x, s, None, e)) for form in ("fused", "recurrent"))
        for dtype in (torch.float64, torch.float32):
            agree(fast, slow, values, dtype)
            agree(gradient(fast), gradient(slow), values, dtype)
    one = 0.4 * randn(2, 2, 1).tanh()
    torch.testing.assert_close(scan2d(one, given["x"]), scan2d(one.expand(2, 2, 3), given["x"]))


def test_one_line_of_many_variates_is_not_a_loop():
    assert plan(scan2d, 1000).startswith("scan2d, fused")
    given = {name: cast(y, torch.float32) for name, y in grid(1, 500).items()}
    torch.testing.assert_close(scan2d(**given), FORMS["recurrent"](**given))


def test_what_is_refused():
    a, x = torch.zeros(2, 2, 3), torch.zeros(1, 4, 5, 2, 3)
    for arguments, complaint in [
        ((a, torch.zeros(1, 4, 5, 3)), r"x is \[1, 4, 5, 3\], expected \[batch, time, variate, 2, ...\]"),
        ((torch.zeros(3, 2, 3), x), r"a is \[3, 2, 3\], expected a shape that broadcasts to \[batch, time, variate, 2, 2, ...\]"),
        ((a, x, torch.zeros(1, 4, 2, 3)), "initial_state is"),
        ((a, x, None, None, torch.zeros(1, 5, 2, 3)), "edge is"),
        ((a, x, None, torch.zeros(1, 5, dtype=torch.bool)), "reset is"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            scan2d(*arguments)


# -- the selective scan --------------------------------------------------------------------------------------------------------------------

SELECTIVE = OPERATIONS["selective_scan2d"]


def by_its_own_formula(u, delta, A, B, C, D, initial_state):
    """Equation (1) with the held integral as A⁻¹ (exp(δ A) - 1), run by `scan2d`."""
    own, other = torch.stack([A[0, 0], A[1, 1]]), torch.stack([A[0, 1], A[1, 0]])
    kept, held = torch.exp(delta.unsqueeze(-1) * own), torch.expm1(delta.unsqueeze(-1) * own) / own
    a = torch.empty(*kept.shape[:4], 2, *kept.shape[4:], dtype=u.dtype)
    for i in (0, 1):
        a[:, :, :, i, i], a[:, :, :, i, 1 - i] = kept[:, :, :, i], (held * other)[:, :, :, i]
    h, final = scan2d(a, held * B.unsqueeze(4) * u[:, :, :, None, :, None], initial_state)
    return (h * C.unsqueeze(4)).sum((3, 5)) + D * u, final


@pytest.mark.parametrize("T, V", [(1, 1), (4, 6), (9, 2)])
def test_the_selective_scan_is_its_equation(T: int, V: int):
    values = tuple(selective_grid(T, V).values())
    agree(SELECTIVE["recurrent"], by_its_own_formula, values, torch.float64)


@pytest.mark.parametrize("T, V", [(0, 2), (2, 0), (1, 5), (4, 6), (33, 3)])
@pytest.mark.parametrize("form, dtype", [("chunked", torch.float64), ("fused", torch.float32)], ids=str)
def test_every_shape_is_the_selective_definition(form: str, dtype: torch.dtype, T: int, V: int):
    values = tuple(selective_grid(T, V).values())
    agree(SELECTIVE[form], SELECTIVE["recurrent"], values, dtype)
    agree(gradient(SELECTIVE[form]), gradient(SELECTIVE["recurrent"]), values, dtype)


@pytest.mark.parametrize("form, dtype", [("chunked", torch.float64), ("fused", torch.float32)], ids=str)
@pytest.mark.parametrize("longest", [1e-5, 1e-3, 0.3, 30.0])
def test_steps_from_nothing_to_forgetting(form: str, dtype: torch.dtype, longest: float):
    """Where exp(δ A) - 1 is all rounding, where it is a series, and where it is -1."""
    given = selective_grid(18, 3)
    given["delta"] = longest * torch.rand_like(given["delta"])
    values = tuple(given.values())
    agree(SELECTIVE[form], SELECTIVE["recurrent"], values, dtype)
    agree(gradient(SELECTIVE[form]), gradient(SELECTIVE["recurrent"]), values, dtype)


@pytest.mark.parametrize("form, dtype", [("recurrent", torch.float64), ("chunked", torch.float64), ("fused", torch.float32)], ids=str)
def test_an_eigenvalue_of_zero_holds(form: str, dtype: torch.dtype):
    given = {name: cast(y, dtype) for name, y in selective_grid(5, 4).items()}
    A, nearly = given["A"].clone(), given["A"].clone()
    A[0, 0], nearly[0, 0] = 0.0, 1e-9
    A.requires_grad_()
    nearly.requires_grad_()
    pairs = []
    for at in (A, nearly):
        y, final = SELECTIVE[form](**(given | {"A": at}))
        pairs.append((y, final, *torch.autograd.grad(y.sum() + final.sum(), at)))
    for got, want in zip(*pairs):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)  # a rate of 1e-9 moves nothing by more than that, but float32 rounds


def test_held_inputs_are_integrated_exactly():
    """Constant input, no crossing: n short steps end where one long step does, whatever their length."""
    A = torch.zeros(2, 2, 1, 1, dtype=torch.float64)
    A[0, 0], A[1, 1] = -0.7, -0.2
    ends = []
    for steps in (1, 4, 64):
        ones = torch.ones(1, steps, 1, 2, 1, dtype=torch.float64)
        _, final = selective_scan2d(ones[:, :, :, 0], ones * 3.0 / steps, A, ones, ones)
        ends.append(final[0, 0, 0, 0, 0])
    torch.testing.assert_close(torch.stack(ends), torch.full((3,), (1 - torch.e ** (-0.7 * 3.0)) / 0.7, dtype=torch.float64))


def test_no_tensor_of_all_states_is_kept():
    """Forward and backward with 64 states a channel, in memory for a few lines of them."""
    T, V, D, N = 512, 4, 32, 64
    given = {"u": randn(1, T, V, D), "delta": torch.rand(1, T, V, 2, D), "A": -torch.rand(2, 2, D, N) * torch.eye(2)[:, :, None, None],
             "B": randn(1, T, V, 2, N), "C": randn(1, T, V, 2, N)}  # fmt: skip
    leaves = [y.float().requires_grad_() for y in given.values()]
    with torch.autograd.graph.saved_tensors_hooks(lambda y: kept.append(y.numel()) or y, lambda y: y):
        kept: list[int] = []
        y, _ = selective_scan2d(*leaves)
    y.sum().backward()
    assert max(kept) <= (T // 16 + 1) * V * 2 * D * N and all(leaf.grad.isfinite().all() for leaf in leaves)


def test_what_the_selective_scan_refuses():
    given = selective_grid(3, 2)
    for change, complaint in [
        ({"delta": given["delta"][:, :, :, 0]}, "delta is .*expected .batch, time, variate, 2, channel. = .2, 3, 2, 2, 3."),
        ({"A": given["A"][0]}, "A is .*expected .2, 2, channel, state."),
        ({"C": given["C"][..., :1]}, "C is "),
        ({"D": given["D"][:2]}, "D is "),
        ({"initial_state": given["initial_state"][:, :1]}, "initial_state is "),
        ({"delta": -given["delta"]}, "delta must be >= 0, got min -"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            selective_scan2d(**(given | change))


# -- four directions -----------------------------------------------------------------------------------------------------------------------

SIZES = [(0, 3), (1, 1), (1, 5), (4, 1), (3, 4), (5, 5)]


def integers(*shape: int) -> Tensor:
    return torch.randint(-9, 10, shape).double()


@pytest.mark.parametrize("H, W", SIZES)
def test_what_is_taken_apart_is_put_back(H: int, W: int):
    x = integers(BATCH, H, W, 3)
    assert torch.equal(cross_merge(cross_scan(x), H, W), 4 * x)
    for k, order in enumerate([[(i, j) for i in range(H) for j in range(W)], [(i, j) for j in range(W) for i in range(H)]]):
        path = torch.stack([x[:, i, j] for i, j in order], dim=1) if order else x.flatten(1, 2)
        assert torch.equal(cross_scan(x)[k], path) and torch.equal(cross_scan(x)[k + 2], path.flip(1))


@pytest.mark.parametrize("H, W", SIZES)
def test_running_sums_in_four_directions_know_the_whole_image(H: int, W: int):
    """What comes before, what comes after and the place itself twice, both by rows and by columns: 2 (sum + x), exactly."""
    x = integers(BATCH, H, W, 3)
    expected = 2 * (x.sum((1, 2), keepdim=True) + x)
    assert torch.equal(four_directions(lambda s: s.cumsum(1), x), expected)
    assert torch.equal(four_directions(lambda a, s: diagonal_scan(a, s), torch.ones_like(x), x), expected)


def test_each_direction_may_have_parameters_of_its_own():
    x = integers(BATCH, 3, 4, 2)
    scaled = four_directions([lambda s, k=k: k * s for k in (1, 10, 100, 1000)], x)
    assert torch.equal(scaled, 1111 * x)
    with pytest.raises(ValueError, match="3 operations were given"):
        four_directions([torch.relu] * 3, x)
    with pytest.raises(ValueError, match="with the 3 x 4 of the first"):
        four_directions(diagonal_scan, x, x[:, :2])
    with pytest.raises(ValueError, match=r"expected height \* width = 15"):
        cross_merge(cross_scan(x), 3, 5)
    with pytest.raises(ValueError, match=r"expected \[batch, height, width, ...\]"):
        cross_scan(x[0, 0])


@pytest.mark.parametrize(
    "call, complaint",
    [
        (lambda x, s: four_directions(torch.relu), "no image was given, expected at least one"),
        (lambda x, s: four_directions(torch.relu, x.tolist()), "an image is a list, expected a tensor"),
        (lambda x, s: four_directions(torch.relu, x[0, 0, 0]), r"an image is \[2\], expected \[batch, height, width, ...\]"),
        (lambda x, s: four_directions(None, x), "operation is None, expected a function of sequences, or four of them"),
        (lambda x, s: four_directions([torch.relu, 2, 3, 4], x), "operation is .*expected a function"),
        (lambda x, s: cross_merge(s[:3], 3, 4), "3 sequences were given, expected the four of cross_scan"),
        (lambda x, s: cross_merge([*s[:3], s[3][:, :1]], 3, 4), r"a sequence is \[2, 1, 2\], expected height \* width = 12 steps"),
        (lambda x, s: cross_merge([*s[:3], s[3][:1]], 3, 4), r"a sequence is \[1, 12, 2\], expected .* = \[2, 12, 2\]"),
        (lambda x, s: cross_merge([*s[:3], None], 3, 4), "a sequence is None, expected a tensor"),
    ],
)
def test_what_is_no_image_and_no_sequence_of_one_is_refused(call, complaint: str):
    x = integers(BATCH, 3, 4, 2)
    with pytest.raises((TypeError, ValueError), match=f"^{complaint}"):
        call(x, cross_scan(x))


def test_every_place_hears_of_every_other():
    q, k, v = (randn(1, 3, 4, 1, 2) for _ in range(3))
    v.requires_grad_()
    y = four_directions(lambda q, k, v: linear_attention(q, k, v), q, k, v)
    for i in range(3):
        for j in range(4):
            (grad,) = torch.autograd.grad(y[0, i, j].sum(), v, retain_graph=True)
            assert (grad != 0).all()
