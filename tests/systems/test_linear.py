"""Linear systems: sampling is exact, steps superpose, and the tangent is A everywhere."""

import pytest
import torch

from separatrix.systems import LinearSystem, System, push_tangents, trajectory


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_sampling_by_zero_order_hold_is_exact():
    """x'' = -x + u with u = 1: x = 1 - cos t at any step, however large."""
    oscillator = LinearSystem.from_continuous(
        torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0], [1.0]], dtype=torch.float64), dt=0.7
    )
    x = trajectory(oscillator, torch.zeros(2, dtype=torch.float64), 30, inputs=torch.ones(30, 1, dtype=torch.float64))
    t = 0.7 * torch.arange(1, 31, dtype=torch.float64)
    torch.testing.assert_close(x, torch.stack([1 - t.cos(), t.sin()], 1), atol=1e-13, rtol=0)  # thirty steps of rounding
    assert oscillator.dt == 0.7


def test_two_half_steps_make_a_step():
    A, B = random(4, 4), random(4, 2)
    whole, half = (LinearSystem.from_continuous(A, B, dt=dt) for dt in (0.2, 0.1))
    x, u = random(4), random(2)
    torch.testing.assert_close(whole.step(x, u), half.step(half.step(x, u), u))


def test_linear_steps_superpose():
    system = LinearSystem(random(3, 3), random(3, 2), random(1, 3))
    assert isinstance(system, System)
    x, y, u, w = random(5, 3), random(5, 3), random(5, 2), random(5, 2)
    torch.testing.assert_close(system.step(x + y, u + w), system.step(x, u) + system.step(y, w))
    torch.testing.assert_close(system.jacobian_vector(x[0], y), y @ system.A.mT)
    assert system.observe(x).shape == (5, 1)


def test_frequency_response_is_what_a_sine_meets():
    A = random(3, 3)
    system = LinearSystem(0.8 * A / torch.linalg.eigvals(A).abs().max(), random(3, 1), random(1, 3), random(1, 1))
    omega, t = 0.9, torch.arange(400, dtype=torch.float64)
    u = torch.cos(omega * t)[:, None]
    x = torch.cat([torch.zeros(1, 3, dtype=torch.float64), trajectory(system, torch.zeros(3, dtype=torch.float64), 399, inputs=u)])
    y = system.observe(x) + u @ system.D.mT
    G = system.frequency_response(torch.tensor(omega, dtype=torch.float64))[0, 0]
    torch.testing.assert_close(y[300:, 0], (G * torch.exp(1j * omega * t[300:])).real)


def test_push_tangents_finds_a_lost_direction():
    singular = LinearSystem(torch.tensor([[0.5, 1.0], [0.0, 0.0]], dtype=torch.float64))
    growth = push_tangents(singular, torch.ones(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64), 5).log_growth
    assert growth[:, 1].tolist() == [-torch.inf] * 5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LinearSystem(torch.zeros(2, 3)), r"A is \(2, 3\)"),
        (lambda: LinearSystem(torch.eye(2), torch.zeros(3, 1)), r"B is \(3, 1\)"),
        (lambda: LinearSystem(torch.eye(2), torch.zeros(2, 1), torch.zeros(1, 2), torch.zeros(2, 2)), r"D is \(2, 2\)"),
        (lambda: LinearSystem(torch.eye(2) * torch.nan), "NaN"),
        (lambda: LinearSystem(torch.eye(2), dt=-1.0), "dt is -1.0"),
        (
            lambda: LinearSystem(torch.eye(2), torch.ones(2, 1)).step(torch.zeros(2), torch.zeros(2)),
            r"input is \(2,\), expected \[..., 1\]",
        ),
        (lambda: LinearSystem(torch.tensor(0.5)), r"A is \(\)"),
        (lambda: LinearSystem.from_continuous(torch.zeros(2, 3), dt=1.0), "square"),
        (lambda: LinearSystem.from_continuous(torch.eye(2), torch.ones(2), dt=1.0), r"B is \(2,\)"),
        (lambda: LinearSystem.from_continuous(torch.eye(2), dt=torch.inf), "dt is inf"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"A is torch\.int64"):
        LinearSystem(torch.eye(2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"B is torch\.float32 but A is torch\.float64"):
        LinearSystem(torch.eye(2).double(), torch.ones(2, 1))
