"""Lyapunov spectra: known systems, exact linear answers, and laws that hold for any system."""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from scipy.linalg import hadamard

from separatrix.stability import Verdict, exact_spectrum, lyapunov_spectrum
from separatrix.stability.lyapunov import average_growth, window
from separatrix.systems import SYSTEMS, Flow, LinearSystem, Map, henon, logistic, lorenz, push_forward

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "lyapunov_spectra.json").read_text())
NAMES = {
    "lorenz": "Lorenz", "rossler": "Rossler", "chen": "Chen", "halvorsen": "Halvorsen", "rucklidge": "Rucklidge",
    "sprott_b": "SprottB", "dadras": "Dadras", "lorenz96": "Lorenz96", "henon": "map:Henon", "logistic": "map:Logistic",
}  # fmt: skip


@cache
def measured(name):
    return lyapunov_spectrum(SYSTEMS[name], steps=1_000_000)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_is_known_is_found_again(name):
    spectrum, known = measured(name), SYSTEMS[name].known["lyapunov"]
    value = torch.tensor(known.value, dtype=torch.float64)
    allowed = known.within * value.abs().max() + 3 * spectrum.error
    assert ((spectrum.exponents - value).abs() <= allowed).all(), f"{spectrum.exponents} against {value}"
    assert spectrum.verdict is Verdict.SETTLED


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_independent_calculation_agrees_within_the_standard_errors(name):
    reference = GOLDEN[NAMES[name]]
    system = replace(SYSTEMS[name], parameters={key: float(reference["parameters"][key]) for key in SYSTEMS[name].parameters})
    spectrum = measured(name) if dict(system.parameters) == dict(SYSTEMS[name].parameters) else lyapunov_spectrum(system, steps=1_000_000)
    own, error = (torch.tensor(reference[key], dtype=torch.float64) for key in ("own_spectrum", "own_standard_error"))
    together = (spectrum.error.square() + error.square()).sqrt()
    assert ((spectrum.exponents - own).abs() <= 3.5 * together).all(), f"{spectrum.exponents} against {own}, error {together}"


def test_lorenz_within_a_percent():
    """0.906 and -14.57 within 1 percent each, the zero within 1 percent of the largest positive one; errors stated and small."""
    spectrum = measured("lorenz")
    first, zero, last = spectrum.exponents.tolist()
    assert abs(first / 0.906 - 1) < 0.01 and abs(zero) < 0.01 * 0.906 and abs(last / -14.57 - 1) < 0.01
    assert spectrum.error.max() < 0.005
    assert spectrum.largest.kind == "estimated" and spectrum.largest.holds(0.9056)
    assert 2.05 < spectrum.kaplan_yorke.value < 2.07
    torch.testing.assert_close(spectrum.history[-1], spectrum.exponents, atol=0.01, rtol=0)  # a plain mean and a smooth one


def test_the_stated_error_is_the_error():
    """Forty independent starts: the true value is as far away as the standard error says, or nearer."""
    runs = [lyapunov_spectrum(lorenz, lorenz.start + 0.1 * i, steps=50_000) for i in range(40)]
    z = torch.stack([(run.exponents[0] - 0.9056) / run.error[0] for run in runs])
    assert float(z.square().mean().sqrt()) < 1.2
    assert sum(run.largest.holds(0.9056) for run in runs) >= 36


def test_lorenz_exponents_sum_to_its_divergence():
    gap = [abs(lyapunov_spectrum(replace(lorenz, dt=dt), steps=round(4000 / dt)).volume_rate + 10 + 1 + 8 / 3) for dt in (0.02, 0.01)]
    assert 12 < gap[0] / gap[1] < 20  # exact for the flow: what is left is the integrator, of fourth order


def test_henon_exponents_sum_to_the_log_of_its_determinant():
    assert measured("henon").volume_rate == pytest.approx(math.log(0.3), abs=1e-12)  # the same at every step: only rounding is left


def test_exponents_are_rates_in_time():
    """x' = c f(x) is the same flow on a faster clock."""

    def faster(state, sigma, rho, beta):
        x, y, z = state
        return 2 * sigma * (y - x), 2 * (x * (rho - z) - y), 2 * (x * y - beta * z)

    twice = lyapunov_spectrum(replace(lorenz, rule=faster, dt=lorenz.dt / 2), steps=20_000)
    once = lyapunov_spectrum(lorenz, steps=20_000)
    torch.testing.assert_close(twice.times, once.times / 2)
    assert ((twice.exponents / 2 - once.exponents).abs() < 4 * (once.error + twice.error / 2)).all()


def test_exponents_do_not_know_the_coordinates():
    """Henon seen through a shear and a stretch."""

    def sheared(state, a, b):
        u, v = state
        x, y = u - v / 4, v / 2
        p, q = 1.0 - a * x * x + y, b * x
        return p + q / 2, 2 * q

    x, y = henon.initial_state
    moved = lyapunov_spectrum(Map(sheared, henon.parameters, (x + y / 2, 2 * y)), steps=200_000)
    plain = lyapunov_spectrum(henon, steps=200_000)
    assert ((moved.exponents - plain.exponents).abs() < 4 * (moved.error + plain.error)).all()
    assert moved.volume_rate == pytest.approx(plain.volume_rate, abs=1e-9)  # the volume of a shear is the same: only rounding is left


class Constant:
    """A linear map that does not say that it is one."""

    dt = 0.5

    def __init__(self, A):
        self.A, self.dimension = A, len(A)

    def step(self, state, input=None):
        return state

    def observe(self, state):
        return state

    def jacobian_vector(self, state, v, input=None):
        return v @ self.A.mT


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_linear_exponents_are_the_logs_of_the_moduli(seed):
    """To 1e-8, complex pairs included: exactly where the system says that it is linear, by the smooth average where it does not."""
    A = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) / 2
    moduli = torch.linalg.eigvals(A).abs().sort(descending=True).values
    exact = lyapunov_spectrum(LinearSystem(A, dt=0.5))
    torch.testing.assert_close(exact.exponents, moduli.log() / 0.5, atol=1e-8, rtol=0)
    assert exact.verdict is Verdict.SETTLED and exact.largest.kind == "measured"
    found = lyapunov_spectrum(Constant(A), torch.zeros(4, dtype=torch.float64), steps=3000, transient=1500)
    torch.testing.assert_close(found.exponents, exact.exponents, atol=1e-8, rtol=0)
    assert found.verdict is Verdict.SETTLED


def test_a_linear_system_has_its_exponents_whatever_drives_it():
    A = torch.tensor([[0.9, 0.3], [-0.3, 0.9]], dtype=torch.float64) * 1.2
    spectrum = lyapunov_spectrum(LinearSystem(A), inputs=torch.ones(5, 0), k=1)
    assert spectrum.exponents.tolist() == pytest.approx([math.log(1.2 * math.hypot(0.9, 0.3))])
    assert exact_spectrum(LinearSystem(A)).dimension == 2


class Driven:
    """x' = tanh(w x + u): the exponent along an input sequence is the mean of log|w (1 - x'²)|."""

    dimension, dt = 1, 1.0

    def step(self, state, input=None):
        return torch.tanh(1.5 * state + input)

    def observe(self, state):
        return state

    def jacobian_vector(self, state, v, input=None):
        return push_forward(lambda s: self.step(s, input), state, v)


def test_a_driven_system_is_measured_along_its_inputs():
    u = torch.randn(1200, 1, dtype=torch.float64)
    spectrum = lyapunov_spectrum(Driven(), torch.zeros(1, dtype=torch.float64), inputs=u, transient=200)
    x, logs = torch.zeros(1, dtype=torch.float64), []
    for t in range(1200):
        x = torch.tanh(1.5 * x + u[t])
        logs.append(float((1.5 * (1 - x * x)).log()))
    weight = window(1000)
    assert float(spectrum.exponents[0]) == pytest.approx(float(weight @ torch.tensor(logs[200:]).double() / weight.sum()), rel=1e-6)
    assert spectrum.steps == 1000


def test_leading_exponents_alone():
    two = lyapunov_spectrum(lorenz, steps=50_000, k=2)
    assert two.exponents.shape == (2,)
    assert abs(float(two.exponents[0]) - 0.9056) < 4 * float(two.error[0])
    with pytest.raises(ValueError, match="sum needs all"):
        _ = two.volume_rate
    with pytest.raises(ValueError, match="not negative yet"):
        _ = two.kaplan_yorke


def test_a_cycle_has_one_dimension_on_either_side_of_zero():
    for first in (1e-12, -1e-12):
        growth = torch.tensor([[first, -0.05, -2.0]], dtype=torch.float64).repeat(1000, 1)
        assert average_growth(growth, 1.0, 1, 3, "").kaplan_yorke.value == pytest.approx(1.0)
    turn = torch.tensor([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64) * (1 - 1e-15)
    assert exact_spectrum(LinearSystem(turn)).kaplan_yorke.value == pytest.approx(2.0)
    assert exact_spectrum(LinearSystem(0.99 * turn)).kaplan_yorke.value == 0


def test_a_cycle_and_a_fixed_point():
    cycle = lyapunov_spectrum(replace(lorenz, parameters={"sigma": 10.0, "rho": 350.0, "beta": 8 / 3}, dt=0.002), steps=200_000)
    assert abs(float(cycle.exponents[0])) < 0.01 and float(cycle.exponents[1]) < -0.1
    still = lyapunov_spectrum(replace(lorenz, parameters={"sigma": 10.0, "rho": 0.5, "beta": 8 / 3}), steps=20_000)
    eigenvalues = torch.linalg.eigvals(torch.tensor([[-10.0, 10.0, 0.0], [0.5, -1.0, 0.0], [0.0, 0.0, -8 / 3]])).real
    assert still.exponents.tolist() == pytest.approx(sorted(eigenvalues.tolist(), reverse=True), rel=1e-5)


def test_divergence_comes_back_by_name_with_its_step():
    away = Map(lambda state, a: (a * state[0] * state[0],), {"a": 2.0}, (1.0,))
    spectrum = lyapunov_spectrum(away, steps=1000)
    steps = next(t for t in range(1, 20) if 2 ** (2**t - 1) > 1e308)
    assert spectrum.verdict is Verdict.DIVERGED and spectrum.failed == steps
    with pytest.raises(ValueError, match=f"diverged at step {steps}"):
        _ = spectrum.largest


def test_a_drift_is_named():
    fading = torch.linspace(1, 0, 2000, dtype=torch.float64)[:, None] + 0.01 * torch.randn(2000, 1, dtype=torch.float64)
    for interval in (1.0, 1e12):  # whatever the unit of time
        assert average_growth(fading, interval, 1, 1, "").verdict is Verdict.DRIFTING
    jordan = lyapunov_spectrum(Constant(torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)), torch.zeros(2).double(), steps=20_000)
    assert jordan.verdict is Verdict.DRIFTING  # growth like t: an exponent of log t / t, on its way to 0


def test_a_direction_lost_to_rounding_is_minus_infinity():
    singular = Constant(torch.tensor([[0.5, 1.0], [0.0, 0.0]], dtype=torch.float64))
    assert lyapunov_spectrum(singular, torch.zeros(2, dtype=torch.float64), steps=100).exponents[1] == -torch.inf
    superstable = lyapunov_spectrum(replace(logistic, parameters={"r": 2.0}), torch.tensor([0.5], dtype=torch.float64), steps=10_000)
    assert superstable.largest.value == -torch.inf and superstable.kaplan_yorke.value == 0


def test_the_same_call_gives_the_same_numbers():
    once, twice = (lyapunov_spectrum(lorenz, steps=2000) for _ in range(2))
    assert torch.equal(once.exponents, twice.exponents) and torch.equal(once.error, twice.error)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: lyapunov_spectrum(lorenz, k=4), "k is 4"),
        (lambda: lyapunov_spectrum(LinearSystem(torch.eye(2)), k=0), "k is 0"),
        (lambda: exact_spectrum(LinearSystem(torch.eye(2)), k=-1), "k is -1"),
        (lambda: exact_spectrum(lorenz), "system is a Flow, expected a LinearSystem"),
        (lambda: exact_spectrum(LinearSystem(torch.eye(2)), k=3), "k is 3, expected between 1 and the system's dimension 2"),
        (lambda: lyapunov_spectrum(lorenz, steps=10), "at least 20"),
        (lambda: lyapunov_spectrum(lorenz, torch.zeros(2, 3)), "one state"),
        (lambda: lyapunov_spectrum(lorenz, torch.tensor([1.0, torch.inf, 0.0])), "infinite"),
        (lambda: lyapunov_spectrum(Driven()), "names no state"),
        (lambda: lyapunov_spectrum(Driven(), torch.zeros(1), inputs=torch.full((100, 1), torch.nan)), "inputs holds NaN"),
        (lambda: lyapunov_spectrum(lorenz, steps=100_000, every=6000), "at least 20"),
    ],
)
def test_bad_questions_are_refused(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_exponents_of_a_matrix_far_from_normal_say_what_rounding_may_have_done():
    H = torch.tensor(hadamard(16), dtype=torch.float64) / 4
    for eigenvalue, coupling in ((0.5, 0.25), (0.875, 2.0)):
        A = H @ (eigenvalue * torch.eye(16, dtype=torch.float64) + coupling * torch.diag(torch.ones(15, dtype=torch.float64), 1)) @ H.mT
        largest = exact_spectrum(LinearSystem(A), 1).largest
        assert largest.kind == "estimated" and largest.low < math.log(eigenvalue) < largest.high
    plain = torch.tensor([[0.9, 0.3], [-0.3, 0.9]])  # in single precision too: eigenvalues are found in double
    assert exact_spectrum(LinearSystem(plain)).largest.kind == "measured"


def test_a_cycle_whose_period_almost_divides_a_block_does_not_drift():
    van_der_pol = Flow(lambda s, mu: (s[1], mu * (1 - s[0] * s[0]) * s[1] - s[0]), dict(mu=1.0), (2.0, 0.1), dt=0.02)
    found = lyapunov_spectrum(van_der_pol, steps=20_000)
    assert found.verdict is Verdict.SETTLED and abs(float(found.exponents[0])) < 1e-6


def test_the_dimension_has_the_errors_of_its_exponents():
    found = lyapunov_spectrum(henon, steps=2_000)
    assert found.kaplan_yorke.kind == "estimated" and found.kaplan_yorke.holds(1.258)
