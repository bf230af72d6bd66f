"""The first eigenvalues and the kernels they make, against the published implementations' numbers."""

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import OPERATIONS, NormalMinusLowRank, diagonal_scan, hippo, init
from separatrix.recurrence.diagonal_ssm import ssm_kernel
from separatrix.recurrence.discretize import bilinear, dss, zoh
from separatrix.recurrence.selective2d import hold
from tests import golden

MEASURES = {"legs": hippo.legs, "legt": hippo.legt, "lagt": hippo.lagt, "fout": hippo.fout}


def close(got: Tensor, want: Tensor, within: float = 1e-10) -> None:
    assert got.shape == want.shape
    assert float((got - want).detach().abs().max() / want.abs().max()) < within


@pytest.mark.parametrize("n", [8, 16, 64])
@pytest.mark.parametrize("name", MEASURES)
def test_hippo(name: str, n: int):
    reference, _ = golden.load_raw("hippo_matrices")
    want = {key.rpartition(".")[2]: x for key, x in reference.items() if key.startswith(f"{name}.N{n}.")}
    A, B, P = init.hippo(name, n)
    close(A, want["A"])
    close(B, want["B"])
    close(P.T, want["P_real"])
    system = hippo.nplr(MEASURES[name], n)
    close(system.W, want["nplr_W"])
    close(system.B.abs(), want["nplr_absB"])
    close(system.B * system.P.conj().T, want["nplr_B_conjP"])
    close(A.trace(), want["eig_A"].sum().real)
    if name == "legs":
        # triangular: its eigenvalues stand on the diagonal. Those of legt and fout are never asked of LAPACK (wrong by 77 at N = 64).
        close(A.diagonal().sort().values, want["eig_A"].real.sort().values)


@pytest.mark.parametrize("name", MEASURES)
def test_diagonal_plus_low_rank_is_the_matrix_in_another_basis(name: str):
    """Both say the same about the input and the output: C A^j B for any C."""
    A, B, _ = MEASURES[name](8)
    system = hippo.nplr(MEASURES[name], 8)
    full = NormalMinusLowRank.of(system)
    V, rebuilt = full.basis, full.dense()
    close((V.mH @ V).real, torch.eye(8, dtype=torch.float64), 1e-12)
    close(rebuilt.real, A)
    assert rebuilt.imag.abs().max() < 1e-10
    close((V @ torch.cat([system.B, system.B.conj()])).real, B)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_by_name_has_the_time_that_is_asked_for(name: str):
    once, thrice = init.hippo(name, 8, 1.0), init.hippo(name, 8, 3.0)
    close(3 * thrice.A, once.A)
    close(3 * thrice.B, once.B)
    with pytest.raises(ValueError, match="measure is 'leg', expected one of legs, legt, lagt, fout"):
        init.hippo("leg", 8)


@pytest.mark.parametrize("n", [8, 16, 64])
@pytest.mark.parametrize("name", ["lin", "inv", "real", "legs"])
def test_s4d(name: str, n: int):
    reference, _ = golden.load_raw("s4d_inits")
    A, B = getattr(init, f"s4d_{name}")(n)
    close(A, reference[f"s4d_{name}.N{n}.A"])
    # the phase of an eigenvector is arbitrary and the clipping of Im B depends on it: legs' B is tested unclipped, as nplr_absB
    if name != "legs":
        close(B, reference[f"s4d_{name}.N{n}.B"])


def test_random_starts_are_stable_and_repeatable():
    draw = [init.s4d_random(32, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(draw[0][0], draw[1][0]) and (draw[0][0].real < 0).all()
    a = init.ring(1000, 0.5, 0.9, 1.0, torch.Generator().manual_seed(3))
    assert (a.abs() >= 0.5).all() and (a.abs() <= 0.9).all() and (a.angle() >= 0).all() and (a.angle() <= 1).all()
    # uniform by area: a third of the ring's area lies inside sqrt(low² + (high² - low²) / 3); 4 standard errors of 1000 draws
    inside = (a.abs() < (0.25 + 0.56 / 3) ** 0.5).double().mean()
    assert abs(inside - 1 / 3) < 4 * (2 / 9 / 1000) ** 0.5


@pytest.mark.parametrize("n, blocks, conjugate", [(16, 1, True), (16, 2, True), (8, 1, False)])
def test_s5_basis(n: int, blocks: int, conjugate: bool):
    reference, _ = golden.load_raw("s5")
    key = f"P{n}.J{blocks}.conj{int(conjugate)}"
    W, V, V_inverse = init.s5(n, blocks, conjugate)
    close(W, reference[f"{key}.Lambda"])
    # phases are arbitrary: compare what V W V^-1 does
    want = reference[f"{key}.V"] @ torch.diag(W) @ reference[f"{key}.Vinv"]
    close(V @ torch.diag(W) @ V_inverse, want)


@pytest.mark.parametrize("method", [zoh, bilinear], ids=["zoh", "bilinear"])
def test_s5_forward(method):
    reference, _ = golden.load_raw("s5")
    W, B, C, D, u = (reference[f"in.{name}"] for name in ("Lambda", "B_tilde", "C_tilde", "D", "u"))
    want = {key.rpartition(".")[2]: x for key, x in reference.items() if key.startswith(f"out.{method.__name__}.")}
    dt = reference["in.log_step"].exp()
    a, b = method(W.unsqueeze(-1), B, dt.unsqueeze(-1))
    close(a.squeeze(-1), want["Lambda_bar"])
    close(b, want["B_bar"])
    drive = (u.to(b.dtype) @ b.T).unsqueeze(0)
    x, last = diagonal_scan(a.squeeze(-1), drive)
    y = 2 * (x[0] @ C.T).real + D * u
    close(y, want["y"])
    close(last[0], want["final_state"])
    back = diagonal_scan(a.squeeze(-1), drive.flip(1))[0].flip(1)
    close(y + 2 * (back[0] @ reference["in.C_tilde_bwd"].T).real, want["y_bidirectional"])


KERNELS = [
    f"{method}_{start}_{variant}"
    for method, start in [("zoh", "lin"), ("zoh", "inv"), ("zoh", "legs"), ("bilinear", "lin"), ("dss", "legs")]
    for variant in "ab"
]


@pytest.mark.parametrize("form", OPERATIONS["diagonal_ssm"])
@pytest.mark.parametrize("name", KERNELS)
def test_s4d_kernels(name: str, form: str):
    """The kernel, its gradients, the convolution with it, and the recurrence that is the same thing."""
    case = golden.load(f"s4d_kernel_{name}")
    A, B, C, dt = inputs = [case.inputs[key].requires_grad_() for key in ("A", "B", "C", "dt")]
    length = case.outputs["K"].shape[1]
    if name.startswith("dss"):
        a, b = dss(A, B, dt.unsqueeze(-1), length)
        c = C * b / 2  # the reference's DSS has no factor 2
    else:
        a, b = (zoh if name.startswith("zoh") else bilinear)(A, B, dt.unsqueeze(-1))
        c = C * b
    kernel = ssm_kernel(a, c, length)
    close(kernel, case.outputs["K"])
    gradients = torch.autograd.grad((kernel * case.weights["K"]).sum(), inputs, retain_graph=True)
    for key, gradient in zip(("A", "B", "C", "dt"), gradients):
        close(gradient, case.gradients["K"][key])
    u = case.inputs["u"].transpose(1, 2)
    within = 1e-5 if form == "fused" else 1e-10  # the kernel keeps its state in float32
    close(OPERATIONS["diagonal_ssm"][form](u, a, c)[0].transpose(1, 2), case.outputs["y"], within)
    for name, convolution in OPERATIONS["long_convolution"].items():
        close(convolution(kernel, u)[0].transpose(1, 2), case.outputs["y"], 1e-5 if name == "fused" else 1e-10)


def test_zero_order_hold_of_an_integrator():
    a, b = zoh(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64), torch.full((3,), 0.1, dtype=torch.float64))
    assert torch.equal(a, torch.ones(3, dtype=torch.float64)) and torch.equal(b, torch.full((3,), 0.1, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("A", [0.0, -1e-30, -1e-12, -1e-7, -1e-4, -1e-2, -1.0])
def test_the_derivative_of_a_hold_is_right_down_to_an_integrator(A: float, dtype: torch.dtype):
    """b = Δ φ(Δ A), φ(z) = 1 + z/2 + z²/6 + ..., so db/dA = Δ² φ'."""
    slow, dt = torch.tensor(A, dtype=dtype, requires_grad=True), torch.tensor(0.1, dtype=dtype).real
    z = 0.1 * A
    want = 0.1**2 * (1 / 2 + z / 3 + z**2 / 8 + z**3 / 30 + z**4 / 144)
    within = 30 * torch.finfo(dtype).eps ** 0.5
    (got,) = torch.autograd.grad(zoh(slow, torch.ones_like(slow), dt)[1].real, slow)
    assert abs(complex(got) - want) < within * want
    if not dtype.is_complex:
        (got,) = torch.autograd.grad(hold(dt, slow)[1], slow)
        assert abs(float(got) - want) < within * want


@pytest.mark.parametrize("call", [lambda: init.s4d_lin(7), lambda: init.s5(12, 5), lambda: hippo.fout(5), lambda: init.ring(3, 0.9, 0.5)])
def test_a_size_that_has_no_meaning_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
