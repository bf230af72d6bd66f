"""The free run of a network: its program against the network itself, called step by step."""

import pytest
import torch

from separatrix.mixers import MIXERS, build_mixer
from separatrix.models import Backbone, ForecastModel
from separatrix.models.recording import Program
from separatrix.systems import push_tangents, trajectory
from separatrix.systems.system import push_tangents_by_steps

RECURRENT = [name for name in MIXERS if name != "attention"]


def system_of(name: str, channels: int = 1, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    backbone = Backbone(32, [build_mixer(name, 32, generator=generator) for _ in range(2)], d_ff=32, generator=generator)
    model = ForecastModel(channels, backbone, lags=4, generator=generator).eval()
    return model.as_system(torch.randn(30, channels, generator=generator), dtype=dtype)


def by_the_network(system, state, steps, inputs=None):
    rows, seen = state.reshape(-1, system.dimension), []
    with torch.no_grad():
        for t in range(steps):
            heard = () if inputs is None else (system._heard(inputs[t], rows),)
            rows = system._move(rows, *heard)
            seen.append(rows)
    return torch.stack(seen, dim=1).reshape(*state.shape[:-1], steps, -1)


@pytest.mark.parametrize("name", RECURRENT)
def test_a_trajectory_is_the_network_step_by_step(name):
    system = system_of(name)
    inputs = torch.sin(torch.arange(12.0, dtype=torch.float64))[:, None]
    for state in (system.start, torch.stack([system.start, 0.9 * system.start])):
        for heard in (None, inputs):
            wanted = by_the_network(system, state, 12, heard)
            # float64: sums in another order, twelve steps on
            torch.testing.assert_close(trajectory(system, state, 12, inputs=heard), wanted, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(trajectory(system, state, 12, every=5, inputs=heard), wanted[..., [4, 9], :], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(system.step(state), wanted_first(system, state), rtol=1e-10, atol=1e-12)
    assert all(isinstance(played, Program) for played in system._moved.records.values())
    assert trajectory(system, system.start, 0, inputs=inputs[:0]).shape == (0, system.dimension)


def wanted_first(system, state):
    return by_the_network(system, state, 1)[..., 0, :]


@pytest.mark.parametrize("name", RECURRENT)
def test_tangents_are_those_of_the_network(name):
    system = system_of(name, channels=2)
    frame = torch.linalg.qr(torch.randn(system.dimension, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0].T
    with torch.no_grad():
        tiled = system.start.expand(3, -1).clone()
        _, wanted = torch.func.jvp(system._move, (tiled,), (frame,))
    torch.testing.assert_close(system.jacobian_vector(system.start, frame), wanted, rtol=1e-9, atol=1e-12)
    for inputs in (None, torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))):
        found = push_tangents(system, system.start, frame, 9, every=3, inputs=inputs)
        wanted = push_tangents_by_steps(system, system.start, frame, 9, 3, inputs)
        for part in ("state", "frame", "log_growth"):
            torch.testing.assert_close(getattr(found, part), getattr(wanted, part), rtol=1e-8, atol=1e-9)  # and three QRs
        assert found.failed is None
    assert all(isinstance(played, Program) for played in system._carried.records.values())


def test_a_run_that_leaves_the_numbers_is_told_at_the_same_step():
    system = system_of("lru")
    with torch.no_grad():
        system.model.members[0].head.bias.fill_(torch.inf)
    frame = torch.eye(2, system.dimension, dtype=torch.float64)
    for every in (1, 4):
        found = push_tangents(system, system.start, frame, 8, every=every)
        assert found.failed == push_tangents_by_steps(system, system.start, frame, 8, every).failed is not None
