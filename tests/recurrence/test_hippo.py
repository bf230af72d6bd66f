"""HiPPO states are coefficients: the functions they belong to, and the systems that compute them."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from separatrix.recurrence import hippo
from separatrix.recurrence.basis import basis, dual, reconstruct
from separatrix.recurrence.dense_ssm import doublings, krylov
from separatrix.recurrence.eigenvalues import hippo_eigenvalues
from separatrix.recurrence.hippo import fout, lagt, legs, legt
from separatrix.recurrence.ptd import ptd
from tests import golden

EXACT = {
    "legs": legs,
    "legs, slow": partial(legs, timescale=3.0),
    "lagt": lagt,
    "lagt, tilted": partial(lagt, alpha=0.5, beta=0.3, timescale=2.0),
    "lagt, singular measure": partial(lagt, alpha=-0.5, beta=-0.5),
}
WINDOWS = {"legt": partial(legt, window=3.0), "fout": partial(fout, window=3.0)}
each = partial(pytest.mark.parametrize, "measure")


def pulse(measure, n: int, s: Tensor) -> Tensor:
    """exp(sA) B.   [S, n]"""
    A, B, _ = measure(n)
    return torch.linalg.matrix_exp(s[:, None, None] * A) @ B


@each([pytest.param(measure, id=name) for name, measure in EXACT.items()])
@pytest.mark.parametrize("n", [1, 2, 32, 64])
def test_the_answer_to_a_pulse_is_the_basis(measure, n: int):
    """Warped Legendre and Laguerre functions, exactly: 1e-8 at N = 32 is asked for, rounding is what is left."""
    s = torch.linspace(0, 12, 49, dtype=torch.float64)
    want = basis(measure, n, s)
    assert (pulse(measure, n, s) - want).abs().max() < 1e-12 * want.abs().max()


@each([pytest.param(measure, id=name) for name, measure in WINDOWS.items()])
def test_a_window_forgets_at_its_edge_better_with_more_state(measure):
    """Mean square distance to the basis over the first four functions: about halved by twice the state."""
    s, gaps = torch.arange(1800, dtype=torch.float64) * 0.005, []
    for n in (8, 16, 32, 64):
        A, B, _ = measure(n)
        answer = krylov(doublings(torch.linalg.matrix_exp(0.005 * A), 1800), B, 1800).T
        gaps.append((answer - basis(measure, n, s))[:, :4].square().sum())
    assert all(more < 0.65 * less for less, more in pairwise(gaps))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_legt_is_the_pade_approximation_of_a_delay(n: int):
    """Read at the edge of its window, LegT is the [n-1/n] Padé approximation of e^-sθ: the gap at small s falls with the power 2n."""
    A, B, _ = legt(n, window=1.5)
    edge = dual(partial(legt, window=1.5), n, torch.tensor(1.5))

    def gap(s: float) -> float:
        answer = edge @ torch.linalg.solve(s * torch.eye(n, dtype=torch.float64) - A, B)
        return float((answer - torch.exp(torch.tensor(-1.5 * s, dtype=torch.float64))).abs())

    s = {1: 0.01, 2: 0.1, 3: 0.3, 4: 0.5}[n]
    assert 2 ** (2 * n) / 1.6 < gap(s) / gap(s / 2) < 2 ** (2 * n) * 1.6


@each([legs, partial(legs, timescale=0.7), partial(lagt, beta=0.4), partial(lagt, alpha=1.5), WINDOWS["legt"], WINDOWS["fout"]])
def test_the_two_bases_are_dual(measure):
    """∫ K_m g_n = 1 if m = n else 0, in Gauss-Legendre nodes on a window, of the warped time where it is infinite."""
    nodes, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(200))
    if measure in WINDOWS.values():
        s, weights = 1.5 * (nodes + 1), 1.5 * weights
    elif getattr(measure, "func", measure) is legs:
        tau = getattr(measure, "keywords", {}).get("timescale", 1.0)
        s, weights = -tau * ((nodes + 1) / 2).log(), tau * weights / (nodes + 1)
    else:
        s, weights = 30 * (nodes + 1), 30 * weights
    gram = torch.einsum("s,sm,sn->mn", weights, basis(measure, 6, s), dual(measure, 6, s))
    want = torch.eye(6, dtype=torch.float64)
    if getattr(measure, "func", measure) is fout:
        want[1, 1] = 0  # the dead state
    within = 1e-5 if "alpha" in getattr(measure, "keywords", {}) else 1e-12  # s^α with α = 3/2 is not smooth enough for Gauss
    assert (gram - want).abs().max() < within


@pytest.mark.parametrize(
    "measure, fade", [(legs, 0.5), (partial(legt, window=2.5), 0.0), (partial(lagt, timescale=0.3), 1.5), (partial(fout, window=2.5), 0.0)]
)
def test_a_state_remembers_what_it_heard(measure, fade: float):
    """The state by (1) of a smooth signal, put into (2), is the signal again where the measure looks."""

    def past(s: Tensor) -> Tensor:
        return torch.exp(-fade * s) * (torch.cos(2 * torch.pi * s / 2.5) + 0.3 * torch.sin(4 * torch.pi * s / 2.5))

    s, where = torch.linspace(0, 20, 20001, dtype=torch.float64), torch.linspace(0.1, 2.0, 20, dtype=torch.float64)
    state = torch.trapezoid(basis(measure, 40, s) * past(s).unsqueeze(1), s, dim=0)
    assert (reconstruct(measure, state, where) - past(where)).abs().max() < 0.01


@each([legs, legt, lagt, partial(lagt, alpha=0.5, beta=0.3), fout])
def test_time_only_scales(measure):
    name = "window" if measure in (legt, fout) else "timescale"
    unit, slow = measure(8), partial(measure, **{name: 6.0 if name == "window" else 3.0})(8)
    torch.testing.assert_close(slow.A, unit.A / 3)
    torch.testing.assert_close(slow.B, unit.B / 3)


@each([*EXACT.values(), *WINDOWS.values()])
def test_normal_plus_low_rank_for_every_parameter(measure):
    A, _, P = measure(10)
    normal = A + P @ P.T
    torch.testing.assert_close(normal @ normal.T, normal.T @ normal)
    torch.testing.assert_close(normal + normal.T, 2 * normal[0, 0] * torch.eye(10, dtype=torch.float64))


def test_perturbed_legs_has_modes_to_write_down():
    A = hippo.legs(64).A
    found = ptd(A, 0.1, torch.Generator().manual_seed(0))
    assert found.condition < 1e6 and ptd(A, 0.0).condition > 1e15
    assert 0.1 * (1 - 1e-6) < found.backward_error < 0.1 * (1 + 1e-6)
    rebuilt = (found.V * found.W) @ found.V_inverse
    assert rebuilt.imag.abs().max() < 1e-8 and abs(torch.linalg.matrix_norm(rebuilt.real - A, 2) - 0.1) < 1e-7
    again = ptd(A, 0.1, torch.Generator().manual_seed(0))
    assert torch.equal(found.W, again.W)


@pytest.mark.parametrize(
    "call",
    [
        lambda: legs(4, timescale=0.0),
        lambda: lagt(4, beta=-1.0),
        lambda: basis(torch.eye, 4, torch.ones(1)),
        lambda: basis(partial(legt, 4), 4, torch.ones(1)),
        lambda: ptd(torch.ones(2, 3), 0.1),
        lambda: ptd(torch.eye(2), -0.1),
    ],
)
def test_what_has_no_meaning_is_refused(call):
    with pytest.raises(ValueError, match="expected"):
        call()


def off(z: complex, n: int, bits: int = 2048) -> float:
    """|p/p'| at z, p the Padé denominator sum_k C(n,k) (2n-1-k)!/(n-1)! z^k with its exact integers, in fixed-point integers."""
    x, y = (int(part * 2**60) << (bits - 60) for part in (z.real, z.imag))
    pr = pi = dr = di = 0
    for k in range(n, -1, -1):
        c = math.comb(n, k) * math.factorial(2 * n - 1 - k) // math.factorial(n - 1)
        dr, di = ((dr * x - di * y) >> bits) + pr, ((dr * y + di * x) >> bits) + pi
        pr, pi = ((pr * x - pi * y) >> bits) + (c << bits), (pr * y + pi * x) >> bits
    return math.sqrt((pr * pr + pi * pi) * 10**40 // (dr * dr + di * di)) / 1e20


@pytest.mark.parametrize("n", [1, 2, 5, 16, 64, 100])
def test_eigenvalues_of_legt_are_zeros_of_exact_integers(n: int):
    """Where a Newton step in exact arithmetic moves a point by 1e-12, a zero is within n times that; and they are n, apart."""
    z = hippo_eigenvalues(partial(legt, window=1.0), n)
    assert max(off(complex(x), n) for x in z) < 1e-12 * n
    assert n == 1 or (z[:, None] - z[None, :] + 9 * torch.eye(n)).abs().min() > 0.1
    torch.testing.assert_close(z.sum().real, legt(n, window=1.0).A.trace())


@each([legs, partial(legs, timescale=2.0), legt, partial(legt, window=5.0), lagt, partial(lagt, beta=0.5), partial(fout, window=5.0)])
def test_eigenvalues_are_those_of_the_matrix(measure):
    """Characteristic polynomials at random points, at a size at which rounding the matrix does no harm yet."""
    points = torch.randn(5, dtype=torch.complex128)
    found = hippo_eigenvalues(measure, 6)
    want = torch.linalg.det(points[:, None, None] * torch.eye(6) - measure(6).A)
    torch.testing.assert_close((points[:, None] - found).prod(-1), want)
    assert all(a <= b for a, b in pairwise(found.imag.tolist()))


@pytest.mark.parametrize(
    "measure, n, within",
    [(measure, n, 1e-13) for measure in (legs, lagt, fout) for n in (8, 16, 64)] + [(legt, 8, 1e-13), (legt, 16, 1e-9)],
)
def test_eigenvalues_are_the_published_ones(measure, n: int, within: float):
    """LegT's published ones are those of the matrix after it was rounded to float64: 4e-9 off at 16, of no meaning at 64."""
    want = golden.load_raw("hippo_matrices")[0][f"{measure.__name__}.N{n}.eig_A"]
    assert (hippo_eigenvalues(measure, n)[:, None] - want[None, :]).abs().amin(0).max() / want.abs().max() < within
