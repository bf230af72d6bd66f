"""Spectral filters: the published ones, what they are exact for, and what they hold of a linear system."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.recurrence import spectral_convolution
from separatrix.recurrence.spectral import _hankel, _sector, chebyshev, chebyshev_filters, hankel_filters, precondition
from tests import golden


def matrix(length: int) -> Tensor:
    n = torch.arange(1, length + 1, dtype=torch.float64)
    n = n[:, None] + n[None, :]
    return 2 / (n**3 - n)


@pytest.mark.parametrize("length", [256, 1024])
def test_the_filters_are_the_published_ones(length: int):
    """σ to 1e-9 of itself, down to 1e-17; φ to what the reference's own quadrature moves it by (6e-10 for the last)."""
    numbers, _ = golden.load_raw("stu_filters")
    sigma, phi = hankel_filters(length, 24)
    assert (sigma / numbers[f"L{length}.sigma"] - 1).abs().max() < 1e-9
    gaps = (phi - numbers[f"L{length}.phi"]).abs().amax(0)
    assert gaps[:8].max() < 1e-12 and gaps[:16].max() < 1e-10 and gaps.max() < 1e-9


def test_the_convolutions_are_the_published_ones():
    numbers, _ = golden.load_raw("stu_filters")
    _, phi = hankel_filters(256, 8)
    for name, alternating in (("plus", False), ("minus", True)):
        want = numbers[f"out.U_{name}"]
        assert (spectral_convolution(numbers["in.u"], phi, alternating=alternating)[0] - want).abs().max() < 1e-10 * want.abs().max()


@pytest.mark.parametrize("alternating", [False, True])
def test_the_convolutions_go_on_where_they_stopped(alternating: bool):
    _, phi = hankel_filters(12, 3)
    u = torch.randn(2, 40, 2, dtype=torch.float64)

    def close(got: Tensor, want: Tensor) -> None:
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)  # float64, in another order

    run = partial(spectral_convolution, filters=phi, alternating=alternating)
    whole, final = run(u)
    for k in range(3):
        taps = phi[:, k] * (-1.0 if alternating else 1.0) ** torch.arange(12)
        close(whole[:, 20, k], (taps[:, None] * u[:, 9:21].flip(1)).sum(1))
    for at in (0, 1, 7, 40):
        first, state = run(u[:, :at])
        second, state = run(u[:, at:], initial_state=state)
        close(torch.cat([first, second], dim=1), whole)
        close(state, final)
    reset = torch.zeros(2, 40, dtype=torch.bool)
    reset[1, 15] = True
    packed, _ = run(u, reset=reset)
    close(packed[0], whole[0])
    close(packed[1, 15:], run(u[1:, 15:])[0][0])
    c = chebyshev(3)
    first, state = precondition(u[:, :9], c)
    close(torch.cat([first, precondition(u[:, 9:], c, state)[0]], dim=1), precondition(u, c)[0])


@pytest.mark.parametrize("length", [1, 2, 3, 24, 100, 700])
def test_the_factor_is_the_matrix(length: int):
    """Entry by entry, though far entries are 1e-9 of the first, and its columns are independent as they are."""
    M = torch.from_numpy(_hankel(length, length))
    assert torch.linalg.cond(M / M.norm(dim=0)) < 100
    Z = matrix(length)
    assert ((M @ M.T) / Z - 1).abs().max() < 1e-11
    sigma, phi = hankel_filters(length, length if length < 20 else 12)
    assert (phi.T @ phi - torch.eye(phi.shape[1], dtype=torch.float64)).abs().max() < 1e-12
    assert (Z @ phi - sigma * phi).abs().max() < 1e-15
    assert (phi.gather(0, phi.abs().argmax(0, keepdim=True)) > 0).all()


def exact(mpmath, length: int):
    return mpmath.matrix([[mpmath.mpf(2) / ((i + j) ** 3 - (i + j)) for j in range(1, length + 1)] for i in range(1, length + 1)])


@pytest.mark.parametrize(("length", "digits"), [(12, 60), (40, 100)])
def test_every_pair_is_right_where_those_of_the_matrix_are_noise(length: int, digits: int):
    """At L = 40 the last σ is 1e-59 of the first."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(digits):
        values, vectors = mpmath.eigsy(exact(mpmath, length))
        want = torch.tensor([float(x) for x in values], dtype=torch.float64).flip(0)
        basis = torch.tensor([[float(x) for x in row] for row in vectors.tolist()], dtype=torch.float64).flip(1)
    for count in (1, length // 3, length):
        sigma, phi = hankel_filters(length, count)
        assert (sigma / want[:count] - 1).abs().max() < 1e-14
        assert (phi - basis[:, :count] * (phi * basis[:, :count]).sum(0).sign()).norm(dim=0).max() < 1e-14
    naive = torch.linalg.eigvalsh(matrix(length)).flip(0)
    assert (naive / want - 1).abs().max() > 1e-4


@pytest.mark.parametrize("k", [24, 99])
def test_a_pair_of_a_hundred_is_where_inverse_iteration_ends(k: int):
    """One step from it in 220 digits, where Z has σ from 0.4 to 7e-152, leaves the square of its error."""
    mpmath = pytest.importorskip("mpmath")
    sigma, phi = hankel_filters(100, k + 1)
    with mpmath.workdps(220):
        Z, x = exact(mpmath, 100), mpmath.matrix(phi[:, k].tolist())
        y = mpmath.lu_solve(Z - mpmath.mpf(sigma[k].item()) * mpmath.eye(100), x)
        y /= mpmath.norm(y)
        assert abs(mpmath.mpf(sigma[k].item()) / (y.T * Z * y)[0] - 1) < 1e-14
        assert min(mpmath.norm(x - y), mpmath.norm(x + y)) < 1e-14


@pytest.mark.parametrize("length", [1, 2, 24, 100, 130])
def test_the_product_of_all_eigenvalues_is_the_determinant(length: int):
    """∏ (k! (k+2)!)² (2k+3) / (2k+3)!², the pivots of Z in their natural order."""
    log = math.lgamma
    pivots = [2 * (log(k + 1) + log(k + 3) - log(2 * k + 4)) + math.log(2 * k + 3) for k in range(length)]
    assert abs(float(hankel_filters(length, length)[0].log().sum()) - sum(pivots)) < 1e-14 * (length - sum(pivots))


@pytest.mark.parametrize(("length", "count"), [(1024, 47), (16384, 63)])
def test_long_filters_do_not_depend_on_how_many_are_asked_for(length: int, count: int):
    """Another M, of fewer columns."""
    (sigma, phi), (few, shorter) = hankel_filters(length, count), hankel_filters(length, 10)
    assert (phi.T @ phi - torch.eye(count, dtype=torch.float64)).abs().max() < 1e-16 * length**0.5 * 20
    assert (sigma[:10] / few - 1).abs().max() < 1e-14 and (phi[:, :10] - shorter).norm(dim=0).max() < 1e-14


def test_filters_that_are_noise_are_refused():
    with pytest.raises(ValueError, match=r"expected at most \d+ at length 300: what follows is below the range of float64"):
        hankel_filters(300, 300)
    with pytest.raises(ValueError, match=r"expected at most \d+ at length 40: what follows is lost to rounding"):
        chebyshev_filters(40, 40, 2, 0.05)


def response(A: Tensor, b: Tensor, c: Tensor, length: int) -> Tensor:
    h, taps = b, []
    for _ in range(length):
        taps.append(c @ h)
        h = A @ h
    return torch.stack(taps)


def missed(taps: Tensor, phi: Tensor) -> float:
    return float((taps - phi @ (phi.T @ taps)).norm() / taps.norm())


def test_a_symmetric_system_is_a_short_sum():
    """A hidden state of 256 with eigenvalues up to 0.999, of its answer (1 - A) Aⁱ: 20 filters miss less than 1e-6."""
    eigenvalues = torch.linspace(0, 0.999, 256, dtype=torch.float64)
    taps = ((1 - eigenvalues) * torch.randn(256, dtype=torch.float64) * eigenvalues ** torch.arange(512)[:, None]).sum(1)
    gaps = [missed(taps, hankel_filters(512, count)[1]) for count in (5, 10, 20)]
    assert gaps[0] > 30 * gaps[1] > 900 * gaps[2] and gaps[2] < 1e-6


def test_the_polynomial_is_monic_and_small():
    for degree in (1, 2, 5, 9):
        c = torch.cat([torch.ones(1, dtype=torch.float64), chebyshev(degree)])
        x = torch.linspace(-1, 1, 1001, dtype=torch.float64)
        p = sum(c[i] * x ** (degree - i) for i in range(degree + 1))
        torch.testing.assert_close(p.abs().max(), torch.tensor(2.0 ** (1 - degree), dtype=torch.float64))
        torch.testing.assert_close(p, 2.0 ** (1 - degree) * torch.cos(degree * torch.arccos(x)))


def test_convolving_the_target_applies_the_polynomial_to_the_matrix():
    """From tap n on, the answer of the preconditioned target is c p(A) Aⁱ b."""
    A, b, c = torch.randn(6, 6, dtype=torch.float64) / 4, torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    taps = response(A, b, c, 60)
    heard = precondition(taps[None, :, None], chebyshev(4))[0][0, :, 0]
    one = torch.eye(6, dtype=torch.float64)
    p = torch.linalg.matrix_power(A, 4) - A @ A + one / 8
    torch.testing.assert_close(heard[4:], response(A, p @ b, c, 56))


def test_an_asymmetric_system_needs_the_other_filters():
    """Eigenvalues in the sector |arg| <= 0.05 up to 0.999, in a basis that is far from orthogonal."""
    radius, angle = torch.linspace(0.5, 0.999, 20), 0.05 * (2 * torch.rand(20) - 1)
    blocks = [r * torch.tensor([[torch.cos(t), -torch.sin(t)], [torch.sin(t), torch.cos(t)]]) for r, t in zip(radius, angle)]
    V = torch.eye(40, dtype=torch.float64) + torch.triu(torch.randn(40, 40, dtype=torch.float64), 1) / 4
    A = V @ torch.block_diag(*blocks).double() @ torch.linalg.inv(V)
    taps = response(A, torch.randn(40, dtype=torch.float64), torch.randn(40, dtype=torch.float64), 256)
    heard = precondition(taps[None, :, None], chebyshev(3))[0][0, 3:, 0]
    gap = missed(heard, chebyshev_filters(253, 24, 3, 0.05)[1])
    assert gap < 1e-5 and gap < 1e-2 * missed(heard, hankel_filters(253, 24)[1])


@pytest.mark.parametrize("length, degree, angle", [(1, 0, 0.3), (40, 0, 0.3), (40, 3, 0.3), (300, 2, 0.05), (60, 2, np.pi)])
def test_the_quadrature_over_the_sector_is_exact(length: int, degree: int, angle: float):
    """Against the closed form ∫∫ r^m cos(dt) r dr dt = 2 sin(d angle) / (d (m + 2)), summed over the coefficients of p."""
    M = torch.from_numpy(_sector(length, degree, angle))
    c = torch.cat([torch.ones(1, dtype=torch.float64), chebyshev(degree)]).flip(0)
    i, want = torch.arange(length, dtype=torch.float64), torch.zeros(length, length, dtype=torch.float64)
    for k in range(degree + 1):
        for l in range(degree + 1):
            plus, minus = i[:, None] + i[None, :] + k + l, i[:, None] - i[None, :] + k - l
            want += c[k] * c[l] * 2 * angle / (plus + 2) * torch.sinc(minus * angle / np.pi)
    assert ((M @ M.T) - want).abs().max() < 1e-14 * max(1.0, float(want.abs().max()))


def test_cached_filters_cannot_be_spoilt():
    hankel_filters(16, 4)[1].zero_()
    assert hankel_filters(16, 4)[1].abs().max() > 0.1


@pytest.mark.parametrize(
    "call",
    [
        lambda: hankel_filters(8, 9),
        lambda: hankel_filters(8, 0),
        lambda: hankel_filters(300, 300),
        lambda: chebyshev_filters(8, 2, -1, 0.1),
        lambda: chebyshev_filters(8, 2, 2, 0.0),
        lambda: spectral_convolution(torch.ones(2, 3), torch.ones(3, 1)),
    ],
)
def test_what_has_no_meaning_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()
