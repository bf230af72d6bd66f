"""Gains: golden H-infinity norms, closed forms, certificates that are checked again, and witnesses from below."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from safetensors.torch import load_file

from separatrix.stability import Verdict, h_infinity, measured_gain, response_of
from separatrix.systems import LinearSystem, lorenz

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "control.safetensors")


def golden_system(i):
    return LinearSystem(*(GOLDEN[f"s{i}.in.{name}"].clone() for name in ("A_d", "B", "C", "D")))


def stable(n, m, p, seed, radius=0.95):
    g = torch.Generator().manual_seed(seed)
    A, B, C, D = (torch.randn(*shape, dtype=torch.float64, generator=g) for shape in ((n, n), (n, m), (p, n), (p, m)))
    return LinearSystem(radius * A / torch.linalg.eigvals(A).abs().max(), B, C, D)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_golden_norms(i):
    gain = h_infinity(golden_system(i))
    assert gain.norm.value == pytest.approx(float(GOLDEN[f"s{i}.out.hinf_d"]), rel=1e-10)
    assert gain.frequency == pytest.approx(float(GOLDEN[f"s{i}.out.hinf_freq_d"]), abs=1e-5)
    assert gain.norm.kind == "certified" and gain.norm.high / gain.norm.low - 1 < 1e-6


@pytest.mark.parametrize("seed", range(8))
def test_the_witness_is_a_witness_and_the_peak_is_attained(seed):
    system = stable(2 + seed, 1 + seed % 3, 1 + seed % 2, seed)
    gain = h_infinity(system)
    assert gain.verdict is Verdict.SETTLED and gain.P is not None
    P, n = gain.P, system.dimension
    G = torch.cat([torch.cat([system.A, system.B], 1), torch.cat([system.C, system.D], 1)])
    one = [torch.eye(k, dtype=torch.float64) for k in (len(system.C), system.B.shape[1])]
    inequality = G.mT @ torch.block_diag(P, one[0]) @ G - torch.block_diag(P, gain.norm.high**2 * one[1])
    assert torch.linalg.eigvalsh(inequality).max() < 0 <= torch.linalg.eigvalsh(P).min() + 1e-12
    at_peak = system.frequency_response(torch.tensor(gain.frequency, dtype=torch.float64))
    assert float(torch.linalg.matrix_norm(at_peak, ord=2)) == pytest.approx(gain.norm.value, rel=1e-12)
    assert gain.norm.value * (1 - 1e-8) < gain.norm.low < gain.norm.value
    grid = system.frequency_response(torch.linspace(0, math.pi, 2001, dtype=torch.float64))
    assert torch.linalg.matrix_norm(grid, ord=2).max() <= gain.norm.high
    assert float(gain.response.max()) <= gain.norm.high and P.shape == (n, n)


def test_closed_forms():
    leak = LinearSystem(torch.tensor([[0.9]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    assert h_infinity(leak).norm.value == pytest.approx(10, rel=1e-12)  # 1 / (1 - 0.9), at rest
    flip = h_infinity(replace(leak, A=-leak.A))
    assert flip.norm.value == pytest.approx(10, rel=1e-12) and flip.frequency == pytest.approx(math.pi)
    through = replace(leak, B=torch.zeros(1, 1, dtype=torch.float64), D=torch.full((1, 1), -3.0, dtype=torch.float64))
    assert h_infinity(through).norm.value == pytest.approx(3)
    silent = h_infinity(replace(leak, B=torch.zeros(1, 1, dtype=torch.float64))).norm
    assert silent.value == 0 and silent.high < 1e-4


def test_a_sharp_resonance_is_not_missed():
    r, theta = 0.99999, 1.234567
    A = r * torch.tensor([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    gain = h_infinity(LinearSystem(A, eye, eye))
    assert gain.norm.value == pytest.approx(1 / (1 - r), rel=1e-6)  # a rotation is normal: the gain is the distance to the circle
    assert gain.frequency == pytest.approx(theta, abs=1e-6)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e8])
@pytest.mark.parametrize("radius", [0.5, 0.999, 0.9999])
def test_the_certificate_is_found_in_any_unit_and_near_the_circle(radius, unit):
    for seed in range(4):
        system = stable(2 + seed, 1 + seed % 3, 1 + seed % 2, seed, radius)
        norm = h_infinity(replace(system, B=unit * system.B, D=unit * system.D)).norm
        assert norm.kind == "certified" and norm.high / norm.low - 1 < 2e-3


def test_gains_do_not_know_the_coordinates_and_scale_with_the_output():
    system, T = stable(4, 2, 2, 3), torch.randn(4, 4, dtype=torch.float64)
    moved = LinearSystem(T @ system.A @ T.inverse(), T @ system.B, system.C @ T.inverse(), system.D)
    louder = replace(system, C=3 * system.C, D=3 * system.D)
    here = h_infinity(system).norm.value
    assert h_infinity(moved).norm.value == pytest.approx(here, rel=1e-8)
    assert h_infinity(louder).norm.value == pytest.approx(3 * here, rel=1e-9)


def test_frequencies_are_in_the_unit_of_time():
    system = golden_system(0)
    assert h_infinity(replace(system, dt=0.1)).frequency == pytest.approx(10 * h_infinity(system).frequency)


def test_an_unstable_system_has_no_gain():
    gain = h_infinity(LinearSystem(torch.tensor([[1.01]]), torch.ones(1, 1)))
    assert gain.verdict is Verdict.DIVERGED and gain.norm.value == math.inf and "1.01" in gain.norm.how


def test_the_measured_gain_is_a_lower_estimate_that_comes_close():
    system = stable(3, 1, 1, 1, radius=0.8)
    no_feedthrough = replace(system, D=torch.zeros(1, 1, dtype=torch.float64))
    bound = h_infinity(no_feedthrough).norm
    found = measured_gain(
        response_of(no_feedthrough, torch.zeros(3, dtype=torch.float64)), torch.zeros(150, 1, dtype=torch.float64), rounds=40
    )
    assert 0.95 * bound.value < found.gain.value <= bound.high * (1 + 1e-6)
    assert found.gain.value * (1 - 1e-10) < found.gain.low <= found.gain.value and found.gain.high is None


def test_a_saturating_system_is_louder_where_it_is_small():
    class Tanh:
        dimension, dt = 1, 1.0

        def step(self, state, input=None):
            return torch.tanh(0.5 * state + input)

        def observe(self, state):
            return state

        def jacobian_vector(self, state, v, input=None):
            raise NotImplementedError

    response = response_of(Tanh(), torch.zeros(1, dtype=torch.float64))
    quiet, loud = (measured_gain(response, level * torch.ones(80, 1, dtype=torch.float64)).gain.value for level in (0.0, 2.0))
    assert loud < 0.2 < 1.8 < quiet <= 2.0 + 1e-6
    witness = measured_gain(response, torch.zeros(80, 1, dtype=torch.float64))
    zero = torch.zeros(80, 1, dtype=torch.float64)
    again = (response(zero + witness.change) - response(zero)).norm() / witness.change.norm()
    assert float(again) == pytest.approx(witness.gain.value, rel=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-7])
def test_what_rounding_adds_to_a_change_is_no_gain(size):
    u = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    assert measured_gain(lambda u: 4 * u, u, size=size).gain.value == pytest.approx(4, rel=1e-6)


def test_bad_questions_are_refused():
    with pytest.raises(ValueError, match="size is 1e-12"):
        measured_gain(lambda u: u, torch.ones(300, 1), size=1e-12)
    with pytest.raises(ValueError, match="rounds is 0"):
        measured_gain(lambda u: u, torch.ones(300, 1), rounds=0)
    with pytest.raises(ValueError, match="0 inputs"):
        h_infinity(LinearSystem(torch.eye(2) / 2))
    with pytest.raises(TypeError, match="system is a Flow, expected a LinearSystem"):
        h_infinity(lorenz)
    for tolerance in (-1e-3, math.nan):
        with pytest.raises(ValueError, match=f"tolerance is {tolerance}, expected a relative distance"):
            h_infinity(golden_system(0), tolerance=tolerance)
    with pytest.raises(ValueError, match="u holds NaN"):
        measured_gain(lambda u: u, torch.full((3, 1), torch.nan))
    with pytest.raises(ValueError, match="diverges"):
        measured_gain(lambda u: u * torch.inf, torch.ones(3, 1))


def far_from_normal(eigenvalue: float, coupling: float) -> LinearSystem:
    """G(z) = 1 / (z - eigenvalue), hidden behind a Jordan block of sixteen in coordinates that rounding does not touch."""
    H = torch.tensor(scipy.linalg.hadamard(16), dtype=torch.float64) / 4
    A = H @ (eigenvalue * torch.eye(16, dtype=torch.float64) + coupling * torch.diag(torch.ones(15, dtype=torch.float64), 1)) @ H.mT
    return LinearSystem(A, torch.ones(16, 1, dtype=torch.float64) / 4, torch.ones(1, 16, dtype=torch.float64) / 4)


@pytest.mark.parametrize("eigenvalue, coupling", [(0.5, 0.25), (0.875, 1.0), (0.75, 2.0)])
def test_a_bound_makes_room_for_the_rounding_of_its_solve(eigenvalue, coupling):
    norm = h_infinity(far_from_normal(eigenvalue, coupling)).norm
    assert norm.holds(1 / (1 - eigenvalue))


def test_a_computed_eigenvalue_is_called_what_it_is():
    norm = h_infinity(far_from_normal(0.875, 2.0)).norm  # stable; rounding puts an eigenvalue outside the circle
    assert norm.value == math.inf and norm.kind == "measured" and "a computed eigenvalue of A has the modulus" in norm.how


def test_the_peak_is_found_in_any_units_of_input_and_output():
    rng = np.random.default_rng(0)
    for _ in range(40):
        n, m, p = (int(k) for k in rng.integers(1, 7, 3))
        A = rng.normal(size=(n, n))
        A *= rng.uniform(0.3, 0.99) / np.abs(np.linalg.eigvals(A)).max()
        sizes = [(n, m), (p, n), (p, m)]
        B, C, D = (rng.normal(size=size) * 10 ** rng.uniform(-4, 4) for size in sizes)
        system = LinearSystem(*(torch.from_numpy(M) for M in (A, B, C, D)))
        swept = system.frequency_response(torch.linspace(0, math.pi, 5001, dtype=torch.float64))
        assert float(torch.linalg.matrix_norm(swept, ord=2).max()) < h_infinity(system).norm.value * (1 + 1e-9)


def test_a_measured_gain_owns_up_to_rounding():
    found = measured_gain(lambda u: 100 + 1e-3 * u, torch.randn(50, 1, generator=torch.Generator().manual_seed(0)))
    assert found.gain.low <= 1e-3
