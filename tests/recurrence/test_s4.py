"""S4: two ways to its kernel, the published numbers, and the recurrence that is the same system."""

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import OPERATIONS, dense_ssm, hippo, long_convolution
from separatrix.recurrence.dense_ssm import dense_kernel
from separatrix.recurrence.discretize import bilinear_matrix, zoh, zoh_matrix
from separatrix.recurrence.s4 import cauchy_kernel, s4_kernel, s4_system
from tests import golden

CASES = [f"s4_kernel_{measure}_{variant}" for measure in ("legs", "fout") for variant in "ab"]
LETTERS = ("A", "B", "C", "P", "dt")


def strays(got: Tensor, want: Tensor) -> float:
    assert got.shape == want.shape
    return float((got - want).detach().abs().max() / want.abs().max())


def arguments(name: str) -> tuple[golden.Case, list[Tensor]]:
    case = golden.load(name)
    return case, [case.inputs[key] for key in LETTERS]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kernel", [s4_kernel, cauchy_kernel])
def test_the_kernel_and_its_gradients_are_the_published_ones(name: str, kernel):
    case, inputs = arguments(name)
    want = case.outputs["K_bilinear"]
    found = kernel(*(x.requires_grad_() for x in inputs), want.shape[1])
    assert strays(found, want) < 1e-10
    gradients = torch.autograd.grad((found * case.weights["K_bilinear"]).sum(), inputs)
    for key, gradient in zip(LETTERS, gradients):
        # fout's poles stand a thousandth from the axis on which the roots of unity sample the resolvent
        within = 1e-9 if (kernel is cauchy_kernel and "fout" in name) else 1e-10
        assert strays(gradient, case.gradients["K_bilinear"][key]) < within, key


@pytest.mark.parametrize("name", CASES)
def test_the_zero_order_hold_is_the_published_one(name: str):
    case, inputs = arguments(name)
    assert strays(s4_kernel(*inputs, case.outputs["K_zoh"].shape[1], zoh_matrix), case.outputs["K_zoh"]) < 1e-10


@pytest.mark.parametrize("form", OPERATIONS["dense_ssm"])
@pytest.mark.parametrize("name", CASES)
def test_convolution_is_recurrence(name: str, form: str):
    case, inputs = arguments(name)
    kernel = case.outputs["K_bilinear"]
    u = torch.randn(2, kernel.shape[1], kernel.shape[0], dtype=torch.float64)
    assert strays(OPERATIONS["dense_ssm"][form](u, *s4_system(*inputs))[0], long_convolution(kernel, u)[0]) < 1e-10


@pytest.mark.parametrize("rule", [bilinear_matrix, zoh_matrix])
def test_single_precision(rule):
    """Against the same numbers in double precision; what float32 costs is about its resolution times the length of the memory."""
    case, inputs = arguments("s4_kernel_legs_a")
    narrow = [x.to(torch.complex64 if x.is_complex() else torch.float32) for x in inputs]
    want = case.outputs["K_bilinear" if rule is bilinear_matrix else "K_zoh"]
    assert strays(s4_kernel(*narrow, want.shape[1], rule).double(), want) < 2e-5
    if rule is bilinear_matrix:
        assert strays(cauchy_kernel(*narrow, want.shape[1]).double(), want) < 2e-5


@pytest.mark.parametrize("length", [0, 1, 2, 3, 17, 64, 65])
def test_two_ways_at_every_length(length: int):
    _, inputs = arguments("s4_kernel_legs_b")
    a, b, c = s4_system(*inputs)
    one, other = dense_kernel(a, b, c, length), cauchy_kernel(*inputs, length, chunk=5)
    assert one.shape == other.shape == (a.shape[0], length)
    if length:
        assert strays(other, one) < 1e-10
        plain = [c.unsqueeze(1) @ torch.linalg.matrix_power(a, l) @ b.unsqueeze(2) for l in range(length)]
        assert strays(one, torch.cat(plain, dim=1).squeeze(-1)) < 1e-10


@pytest.mark.parametrize("measure", [hippo.legs, hippo.legt, hippo.lagt])
def test_the_complex_half_is_the_real_system(measure):
    """S4 in the diagonal basis against the measure's own matrices: the same kernel, rank 1 and rank 2."""
    n, dt = 12, torch.tensor([0.03, 0.2], dtype=torch.float64)
    A, B, _ = measure(n)
    C = torch.randn(2, n, dtype=torch.float64)
    system = hippo.nplr(measure, n)
    half = (system.W.expand(2, -1), system.B.expand(2, -1), C.to(system.V.dtype) @ system.V, system.P.T.unsqueeze(1).expand(-1, 2, -1))
    for rule in (zoh_matrix, bilinear_matrix):
        a, b = rule(A.expand(2, n, n), B.expand(2, n), dt)
        want = dense_kernel(a, b, C, 50)
        assert strays(s4_kernel(*half, dt, 50, rule), want) < 1e-10
        if rule is bilinear_matrix:
            assert strays(cauchy_kernel(*half, dt, 50), want) < 1e-10


def test_the_hold_of_a_diagonal_matrix_is_the_hold_of_its_entries():
    A, B, dt = -torch.rand(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    A[0] = 0  # an integrator
    a, b = zoh_matrix(torch.diag(A), B, dt)
    torch.testing.assert_close(torch.diagonal(a), zoh(A, B, dt)[0])
    torch.testing.assert_close(b, zoh(A, B, dt)[1])


def test_it_goes_on_where_it_stopped():
    _, inputs = arguments("s4_kernel_legs_a")
    system = s4_system(*inputs)
    u = torch.randn(2, 200, 3, dtype=torch.float64)
    whole, _ = dense_ssm(u, *system)
    first, state = dense_ssm(u[:, :77], *system)
    steps = [first]
    for t in range(77, 200):
        y, state = dense_ssm(u[:, t : t + 1], *system, initial_state=state)
        steps.append(y)
    assert strays(torch.cat(steps, dim=1), whole) < 1e-12


def test_modes_and_dt_that_do_not_fit_are_refused():
    _, (A, B, C, P, dt) = arguments("s4_kernel_legs_a")
    for bad in ((A, B[:, :3], C, P, dt), (A, B, C, P[0], dt), (A, B, C, P, dt[:2])):
        with pytest.raises(ValueError, match="expected"):
            s4_kernel(*bad, 10)
