"""Eigenvalues along data, memory of every structure, and the reach of the gradient: closed forms and each other."""

import math

import pytest
import torch

from separatrix.recurrence import Dense, Diagonal, Householder, Scalar
from separatrix.stability import dominant_period, eigenvalues_along, gradient_reach, memory_horizon, memory_steps
from separatrix.systems import LinearSystem


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_memory_of_an_eigenvalue():
    memory = memory_steps(torch.tensor([math.exp(-1 / 20), -math.exp(-1 / 20), 1j * math.exp(-1 / 3), 1.0, 1.3, 0.0]))
    assert memory.tolist() == pytest.approx([20, 20, 3, math.inf, math.inf, 0], rel=1e-5)  # 20 times the rounding of a modulus in float32


def test_a_diagonal_is_its_eigenvalues():
    a = torch.rand(2, 50, 3, dtype=torch.float64) * 1.2 - 0.2
    found = eigenvalues_along(Diagonal(a), keep=100)
    assert found.values.shape == (100,) and found.memory.shape == (100,)
    assert found.largest.value == pytest.approx(float(a.abs().max())) == found.norm.value
    assert float(found.values.abs().max()) == found.largest.value  # whatever is said of those that are kept holds for all
    assert found.outside.value == 0 and found.negative.value == pytest.approx(float((a < 0).double().mean()))
    beyond = eigenvalues_along(Diagonal(a + 0.5))
    assert beyond.outside.value == pytest.approx(float(((a + 0.5).abs() > 1).double().mean()))


def test_a_reflection_counts_as_negative():
    k = torch.nn.functional.normalize(double(1, 20, 4), dim=-1)
    found = eigenvalues_along(Householder(k, torch.full((1, 20), 2.0, dtype=torch.float64)))
    assert found.negative.value == pytest.approx(1 / 4)
    assert found.largest.value == pytest.approx(1) and found.outside.value == 0


def test_a_gated_diagonal_remembers_as_its_average_decay():
    log_a = -torch.rand(2, 40, 3, dtype=torch.float64)
    found = memory_horizon(Diagonal(log_a.exp()))
    torch.testing.assert_close(found.half_life, (math.log(2) / -log_a.mean(1)).flatten())
    assert found.longest.value == pytest.approx(float(found.half_life.max()))
    once_cleared = memory_horizon(Diagonal(torch.tensor([[[0.9], [0.0], [0.9]]])))
    assert once_cleared.longest.value == 0


@pytest.mark.parametrize("structure", ["dense", "householder"])
def test_time_invariant_transitions_remember_as_their_eigenvalues(structure):
    if structure == "dense":
        A = double(5, 5)
        step = Dense((0.9 * A / torch.linalg.eigvals(A).abs().max())[None, None].expand(1, 1, 5, 5))
    else:
        k = torch.nn.functional.normalize(double(1, 1, 5), dim=-1)
        step = Householder(k, torch.full((1, 1), 0.7, dtype=torch.float64), torch.full((1, 1), -0.1, dtype=torch.float64))
    expected = math.log(2) / -step.spectrum().abs().log().flatten()
    torch.testing.assert_close(memory_horizon(step).half_life.sort().values, expected.sort().values)


def test_the_median_mode_lies_between_two_middle_ones():
    rates = torch.tensor([0.5, 0.6, 0.9, 0.95], dtype=torch.float64)
    found = memory_horizon(Diagonal(rates.expand(1, 3, 4)))
    torch.testing.assert_close(found.median.value, float(found.half_life.sort().values.flatten()[1:3].mean()))


def test_products_remember_as_their_exponents():
    """A rotating Householder decay: by QR, and against the volume, which every product has in closed form."""
    T = 800
    k = torch.nn.functional.normalize(double(2, T, 3, 4), dim=-1)
    beta, g = torch.rand(2, T, 3, dtype=torch.float64), -0.01 * torch.rand(2, T, 3, dtype=torch.float64)
    found = memory_horizon(Householder(k, beta, g))
    rates = -math.log(2) / found.half_life.reshape(2, 3, 4)
    volume = ((1 - beta).abs().log() + 4 * g).mean(1)
    torch.testing.assert_close(rates.sum(-1), volume)
    assert (rates < 0).all() and found.median.value < found.longest.value < 100
    dense = memory_horizon(Dense(Householder(k, beta, g).dense()), every=1)
    # after other QRs: each is off by some 1/T
    torch.testing.assert_close(dense.half_life.reshape(2, 3, 4), found.half_life.reshape(2, 3, 4), rtol=2e-2, atol=0)


def test_the_scalar_and_the_forever():
    kept = memory_horizon(Scalar(torch.ones(1, 10, dtype=torch.float64), 4))
    assert kept.longest.value == math.inf and kept.longest.kind == "measured"


def test_the_reach_of_a_linear_filter_is_its_impulse_response():
    system = LinearSystem(torch.tensor([[0.9]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))

    def response(x):
        h, y = torch.zeros(x.shape[0], 1, dtype=torch.float64), []
        for t in range(x.shape[1]):
            h = system.step(h, x[:, t])
            y.append(h)
        return torch.stack(y, 1)

    found = gradient_reach(response, double(3, 60, 1))
    torch.testing.assert_close(found.influence / found.influence[0], 0.9 ** torch.arange(60, dtype=torch.float64))
    assert found.half_life.value == math.ceil(math.log(0.5) / math.log(0.9))
    assert found.faded.value == math.ceil(math.log(0.01) / math.log(0.9))
    short = gradient_reach(response, double(1, 10, 1))
    assert short.faded.low == 10


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: eigenvalues_along(Diagonal(torch.zeros(1, 0, 3))), "no steps"),
        (lambda: eigenvalues_along(Diagonal(torch.full((1, 2, 3), torch.nan))), "6 of 6"),
        (lambda: memory_horizon(Diagonal(torch.full((1, 2, 3), torch.nan))), "NaN"),
        (lambda: gradient_reach(lambda x: x, torch.zeros(3, 4)), r"x is \(3, 4\)"),
        (lambda: gradient_reach(lambda x: x, torch.full((1, 4, 1), torch.inf)), "NaN or infinite"),
        (lambda: gradient_reach(lambda x: 0 * x, torch.zeros(1, 4, 1)), "does not depend"),
        (lambda: gradient_reach(lambda x: x.detach(), torch.zeros(1, 4, 1)), "response returned no gradient: it is detached"),
        (lambda: gradient_reach(lambda x: torch.ones(1, 4, 1).requires_grad_(), torch.zeros(1, 4, 1)), "does not depend"),
        (lambda: gradient_reach(lambda x: x[:, -1], torch.zeros(1, 4, 1)), r"response returned \(1, 1\), expected \[batch, time, ...\]"),
        (lambda: gradient_reach(lambda x: None, torch.zeros(1, 4, 1)), "what response returned is None, expected a tensor"),
        (lambda: gradient_reach(lambda x: x, torch.zeros(1, 4, 1).int()), "x is torch.int32, expected a real"),
        (lambda: eigenvalues_along(Diagonal(torch.zeros(1, 2, 3)), keep=0), "keep is 0, expected a whole number of at least 1"),
        (lambda: eigenvalues_along(torch.eye(3)), "transition is a Tensor, expected a Transition"),
        (lambda: memory_horizon(torch.eye(3)), "transition is a Tensor, expected a Transition"),
        (lambda: memory_steps(torch.tensor([0.5, torch.nan])), "eigenvalues holds NaN"),
        (lambda: memory_steps([0.5]), "eigenvalues is a list, expected a tensor"),
    ],
)
def test_bad_questions_are_refused(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_no_step_and_no_probe_measure_nothing():
    with pytest.raises(ValueError, match="every is 0"):
        memory_horizon(Diagonal(torch.full((1, 3, 2), 0.9)), every=0)
    with pytest.raises(ValueError, match="probes is 0"):
        gradient_reach(lambda x: x, torch.ones(1, 3, 1), probes=0)


def test_the_median_of_modes_of_which_some_never_fade():
    found = memory_horizon(Diagonal(torch.tensor([[[0.5, 0.9, 1.0, 1.0]]])))
    assert found.median.value == math.inf
    assert memory_horizon(Diagonal(torch.tensor([[[0.5, 0.9, 0.9, 1.0]]]))).median.value == pytest.approx(
        math.log(0.5) / math.log(0.9), rel=1e-6
    )


@pytest.mark.parametrize("period", [900.0, 300.0, 50.0, 7.3])
def test_a_long_period_is_found_in_the_whole_series(period):
    noise = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    found = dominant_period(torch.sin(2 * math.pi * torch.arange(2000.0) / period) + 0.3 * noise)
    assert found == pytest.approx(period, rel=0.02)
