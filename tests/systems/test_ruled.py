"""Every known system, one table: compiled = by steps = batched = one by one, tangents match differences, the integrator has its order."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
import torch

from separatrix.systems import SYSTEMS, Flow, Map, System, logistic, lorenz, push_tangents, trajectory
from separatrix.systems.system import push_tangents_by_steps, trajectory_by_steps
from tests.agree import agree

FLOWS = [name for name, system in SYSTEMS.items() if isinstance(system, Flow)]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_compiled_run_is_the_run(name):
    system = SYSTEMS[name]
    assert isinstance(system, System)
    start = system.start + torch.linspace(0, 0.05, 3, dtype=torch.float64)[:, None]
    agree(partial(trajectory, system, steps=40, every=4), partial(trajectory_by_steps, system, steps=40, every=4), (start,), torch.float64)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_compiled_tangent_is_the_tangent(name):
    system = SYSTEMS[name]
    frame = torch.linalg.qr(torch.randn(system.dimension, system.dimension, dtype=torch.float64))[0]

    def growth(push, state, frame):
        pushed = push(system, state, frame, 30, every=3)
        return pushed.log_growth, pushed.state[None], pushed.frame.abs()  # QR leaves the signs of the rows open

    agree(partial(growth, push_tangents), partial(growth, push_tangents_by_steps), (system.start, frame), torch.float64,
          factor=20, because="the fading rows are what is left after subtracting the growing ones, in another order", nudges=8)  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_jacobians_match_differences(name):
    system = SYSTEMS[name]
    v = torch.randn(2, system.dimension, dtype=torch.float64)
    exact = system.jacobian_vector(system.start, v)

    def error(h):
        return float(((system.step(system.start + h * v) - system.step(system.start - h * v)) / (2 * h) - exact).norm() / exact.norm())

    assert error(1e-4) < 1e-6
    assert error(1e-2) < 1e-8 or 50 < error(1e-2) / error(1e-3) < 200  # second order in h, or no third derivative at all


@pytest.mark.parametrize("name", FLOWS)
def test_the_integrator_is_of_fourth_order(name):
    flow = SYSTEMS[name]

    def end(refine):
        return trajectory(replace(flow, dt=flow.dt / refine), flow.start, 8 * refine)[-1]

    exact = end(32)
    gap = [float((end(refine) - exact).norm()) for refine in (1, 2)]
    assert 10 < gap[0] / gap[1] < 25  # halving dt divides the error by 16


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_carries_a_known_spectrum(name):
    known = SYSTEMS[name].known["lyapunov"]
    assert len(known.value) == SYSTEMS[name].dimension
    assert known.source and 0 < known.within <= 0.01


def test_rows_of_a_batch_do_not_know_each_other():
    start = lorenz.start + torch.randn(2, 2, 3, dtype=torch.float64)
    together = trajectory(lorenz, start, 20)
    assert together.shape == (2, 2, 20, 3)
    assert torch.equal(together[1, 0], trajectory(lorenz, start[1, 0], 20))
    assert trajectory(lorenz, start, 0).shape == (2, 2, 0, 3)
    assert trajectory(lorenz, start[:0], 5).shape == (0, 2, 5, 3)


def test_a_run_in_two_pieces_is_the_run():
    whole = trajectory(lorenz, lorenz.start, 50)
    assert torch.equal(whole[30:], trajectory(lorenz, whole[29], 20))


def test_divergence_of_lorenz_is_constant():
    states = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(lorenz.divergence(states), torch.full((5,), -10 - 1 - 8 / 3, dtype=torch.float64))


def test_observed_components_and_single_precision():
    seen = replace(lorenz, observed=(2,))
    assert seen.observe(lorenz.start).tolist() == [lorenz.initial_state[2]]
    assert trajectory(lorenz, lorenz.start.float(), 5).dtype is torch.float32


def test_a_force_and_a_push_enter():
    still = replace(lorenz, dt=1e-4)
    force = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    gap = still.step(lorenz.start, force) - still.step(lorenz.start)
    torch.testing.assert_close(gap / still.dt, force, atol=2e-3, rtol=0)  # the flow turns the force by dt times its Jacobian, at most 28
    assert float(logistic.step(torch.tensor([0.5]), torch.tensor([0.01])) - logistic.step(torch.tensor([0.5]))) == pytest.approx(0.01)
    driven = trajectory(still, lorenz.start, 3, inputs=force.expand(3, 3))
    assert torch.equal(driven[0], still.step(lorenz.start, force))


class Shrinks:
    """No system: its next state is smaller."""

    dimension, dt = 2, 1.0

    def step(self, state, input=None):
        return state[..., :1]

    def observe(self, state):
        return state

    def jacobian_vector(self, state, v, input=None):
        return v


def forced(state, size):
    x, v, time = state
    return v, -x - 0.1 * v + size * time, 1.0


def test_a_component_may_be_a_number():
    """A force that depends on time is a state with a clock, whose rate is 1."""
    driven = Flow(forced, {"size": 0.01}, (1.0, 0.0, 0.0), dt=0.01)
    here = replace(driven, compiled=False)
    torch.testing.assert_close(trajectory(driven, driven.start, 300), trajectory(here, here.start, 300))
    assert float(trajectory(driven, driven.start, 300)[-1, 2]) == pytest.approx(3.0)
    frame = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(
        push_tangents(driven, driven.start, frame, 9).log_growth, push_tangents(here, here.start, frame, 9).log_growth
    )


def kink(state, a):
    (x,) = state
    return (a * abs(x),)


def not_arithmetic(state):
    (x,) = state
    return (torch.sin(x),)


def test_a_rule_that_numba_or_the_complex_step_cannot_follow_is_refused_by_name():
    kinked = Map(kink, {"a": 0.5}, (-0.4,))
    assert trajectory(kinked, kinked.start, 2)[:, 0].tolist() == [0.2, 0.1]
    with pytest.raises(ValueError, match="not plain analytic arithmetic"):
        push_tangents(kinked, kinked.start, torch.ones(1, 1, dtype=torch.float64), 3)
    sine = Map(not_arithmetic, {}, (0.3,))
    with pytest.raises(TypeError, match=r"not_arithmetic cannot be compiled.*compiled=False.*Unknown attribute 'sin'"):
        trajectory(sine, sine.start, 3)
    in_torch = trajectory(replace(sine, compiled=False), sine.start, 3)
    assert float(in_torch[0, 0]) == pytest.approx(0.29552020666)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: trajectory(lorenz, torch.zeros(4), 3), r"state is \(4,\)"),
        (lambda: trajectory(lorenz, torch.tensor([0.0, torch.nan, 0.0]), 3), "NaN"),
        (lambda: trajectory(lorenz, torch.zeros(3), -1), "steps is -1"),
        (lambda: trajectory(lorenz, torch.zeros(3), 3, inputs=torch.zeros(2, 3)), "at least steps = 3"),
        (lambda: push_tangents(lorenz, torch.zeros(3), torch.eye(4), 3), "expected"),
        (lambda: push_tangents(lorenz, torch.zeros(3), torch.eye(3) * torch.nan, 3), "frame holds NaN or infinite values"),
        (lambda: push_tangents(lorenz, torch.zeros(3), torch.eye(3).int(), 3), "frame is torch.int32, expected a real"),
        (lambda: push_tangents(lorenz, torch.zeros(3), None, 3), "frame is NoneType, expected a real"),
        (lambda: trajectory(lorenz, torch.zeros(3), 3, inputs=torch.zeros(3, 2)), r"input is \(2,\), expected \[..., 3\]"),
        (lambda: trajectory(lorenz, torch.zeros(3), 3, inputs=torch.zeros(3, 1)), r"input is \(1,\), expected \[..., 3\]"),
        (lambda: trajectory(logistic, torch.zeros(1), 3, inputs=torch.zeros(3, 2)), r"input is \(2,\), expected \[..., 1\]"),
        (lambda: trajectory(lorenz, torch.zeros(3), 3, inputs=torch.zeros(5, 3, 3)), r"inputs is \(5, 3, 3\) and state \(3,\)"),
        (lambda: trajectory(lorenz, torch.zeros(3) + 0j, 3), "state is torch.complex64, expected a real"),
        (lambda: trajectory(lorenz, torch.zeros(3), 3, inputs=torch.zeros(3, 3) + 0j), "inputs is torch.complex64, expected a real"),
        (lambda: replace(lorenz, dt=0.0), "dt is 0.0"),
        (lambda: replace(lorenz, dt=torch.inf), "dt is inf"),
        (lambda: replace(lorenz, observed=(3,)), "observed"),
        (lambda: replace(lorenz, initial_state=()), "initial_state"),
        (lambda: lorenz.step(torch.zeros(2)), "one entry for each component"),
        (lambda: replace(lorenz, parameters={"rho": 28.0, "sigma": 10.0, "beta": 8 / 3}), r"rule takes \['sigma', 'rho', 'beta'\]"),
        (lambda: replace(lorenz, parameters={"sigma": 10.0}), "rule takes"),
        (lambda: Map(lambda t, x: x, {}, (0.3,)), "rule takes"),
        (lambda: Map(lambda s: (s[0], s[0]), {}, (0.3,)), r"rule returns \(2,\) numbers, expected 1"),
        (lambda: Map(lambda s: -s, {}, (0.3,)), "rule fails at initial_state: TypeError"),
        (lambda: Map(lambda s: ((s[0] - 1) ** 0.5,), {}, (0.3,)), r"rule gives \[nan\] at initial_state"),
        (lambda: trajectory(lambda s: s, torch.zeros(1), 3), "system is a function without dimension, dt, step"),
        (lambda: trajectory(Shrinks(), torch.zeros(2), 3), r"system.step returned \(1,\) for a state \(2,\)"),
        (lambda: push_tangents(Shrinks(), torch.zeros(2), torch.eye(2), 3), r"system.step returned \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_door(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_runs_in_threads_are_the_runs():
    """The loops let go of the interpreter lock, and share nothing."""
    starts = [lorenz.start + 0.1 * i for i in range(8)]
    alone = [push_tangents(lorenz, start, torch.eye(3, dtype=torch.float64), 5000).log_growth for start in starts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda start: push_tangents(lorenz, start, torch.eye(3, dtype=torch.float64), 5000).log_growth, starts))
    assert all(torch.equal(one, other) for one, other in zip(alone, together))
