"""Long free runs: every fate is recognised, limits are kept to the step, batches and chunks change nothing."""

import math
from dataclasses import replace

import pytest
import torch

from separatrix.stability import Fate, Verdict, free_run
from separatrix.systems import LinearSystem, Map, logistic, lorenz, rossler


def turning(period):
    angle = 2 * math.pi / period
    return Map(lambda s, c, d: (c * s[0] - d * s[1], d * s[0] + c * s[1]), {"c": math.cos(angle), "d": math.sin(angle)}, (1.0, 0.0))


FATES = {
    "chaos": (logistic, Fate.MOVING, None),
    "flow": (replace(lorenz, observed=(0,)), Fate.MOVING, None),
    "cycle of four": (replace(logistic, parameters={"r": 3.5}), Fate.CYCLE, 4),
    "cycle of eight": (replace(logistic, parameters={"r": 3.55}), Fate.CYCLE, 8),
    "fixed point": (replace(logistic, parameters={"r": 2.8}), Fate.FIXED_POINT, None),
    "flow at rest": (replace(lorenz, parameters={"sigma": 10.0, "rho": 14.0, "beta": 8 / 3}), Fate.FIXED_POINT, None),
    "death": (replace(lorenz, parameters={"sigma": 10.0, "rho": 0.5, "beta": 8 / 3}), Fate.FIXED_POINT, None),
    "cycle out of step": (replace(rossler, parameters={"a": 0.1, "b": 0.1, "c": 4.0}, dt=0.0237), Fate.MOVING, None),
    "slow flow": (replace(lorenz, dt=1e-4), Fate.MOVING, None),
    "slow drift": (Map(lambda s, c: (s[0] + c,), {"c": 1e-3}, (0.0,)), Fate.MOVING, None),
    "slow cycle": (turning(700), Fate.CYCLE, 700),
    "runaway": (replace(logistic, parameters={"r": 4.2}), Fate.DIVERGED, None),
}


@pytest.mark.parametrize("name", FATES)
def test_every_fate_is_recognised(name):
    system, fate, period = FATES[name]
    run = free_run(system, steps=20_000)
    assert run.fate == [fate]
    assert run.period == [period]
    assert (run.verdict is Verdict.DIVERGED) == (fate is Fate.DIVERGED)


def test_a_hundred_thousand_steps_of_lorenz():
    run = free_run(lorenz)
    assert run.observed.shape == (100_000, 3) and run.bounded.value == 100_000
    assert run.verdict is Verdict.SETTLED
    assert 17 < run.high[0].value < 20.5 and -20.5 < run.low[0].value < -17  # the attractor's extent in x
    assert run.low[0].kind == "measured"
    assert run.spread.shape == (10, 3) and float(run.spread[:, 0].std() / run.spread[:, 0].mean()) < 0.1


@pytest.mark.parametrize("chunk", [1, 7, 100, 10_000])
def test_chunks_and_batches_change_nothing(chunk):
    start = lorenz.start + torch.linspace(0, 1, 2, dtype=torch.float64)[:, None]
    together = free_run(lorenz, start, steps=300, every=2, chunk=chunk)
    alone = free_run(lorenz, start[1], steps=300, every=2)
    assert together.observed.shape == (2, 150, 3)
    assert torch.equal(together.observed[1], alone.observed)
    assert torch.equal(together.state[1], alone.state)


@pytest.mark.parametrize("chunk", [1, 10, 2000])
def test_the_limit_is_kept_to_the_step(chunk):
    growing = LinearSystem(torch.tensor([[1.1]], dtype=torch.float64))
    run = free_run(growing, torch.ones(1, dtype=torch.float64), steps=500, limit=100.0, chunk=chunk)
    step = math.ceil(math.log(100) / math.log(1.1))
    assert run.fate == [Fate.DIVERGED] and run.failed == [step]
    assert run.bounded.value == step - 1
    assert torch.isfinite(run.observed[: step - 1]).all() and run.observed[step:].isnan().all()
    assert run.high[0].value < 100


def test_each_component_has_its_own_limit():
    growing = LinearSystem(torch.diag(torch.tensor([1.0, 1.1], dtype=torch.float64)))
    start, limit = torch.tensor([50.0, 1e-3], dtype=torch.float64), torch.tensor([100.0, 0.1])
    run = free_run(growing, start, steps=500, limit=limit)
    assert run.failed == [math.ceil(math.log(100) / math.log(1.1))]
    assert free_run(growing, start, steps=100, limit=100.0).fate != [Fate.DIVERGED]


def test_one_that_runs_away_leaves_the_others_alone():
    system = Map(lambda s, r: (r * s[0] * (1 - s[0]),), {"r": 3.9}, (0.5,))
    run = free_run(system, torch.tensor([[0.3], [1.7], [0.4]], dtype=torch.float64), steps=1000, chunk=50)
    assert [fate is Fate.DIVERGED for fate in run.fate] == [False, True, False]
    assert torch.isfinite(run.observed[[0, 2]]).all()
    assert run.failed[1] is not None and run.failed[1] < 20
    assert 0 < run.low[0].value < run.high[0].value < 1


def test_fading_is_a_drift():
    fading = LinearSystem(torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]], dtype=torch.float64) * 0.9995)
    run = free_run(fading, torch.tensor([1.0, 0.0], dtype=torch.float64), steps=10_000)
    assert run.fate == [Fate.MOVING] and run.verdict is Verdict.DRIFTING


@pytest.mark.parametrize("system", [FATES["slow drift"][0], LinearSystem(torch.tensor([[0.99995]], dtype=torch.float64))])
def test_a_mean_that_moves_is_a_drift(system):
    run = free_run(system, torch.ones(1, dtype=torch.float64), steps=10_000)
    assert run.fate == [Fate.MOVING] and run.verdict is Verdict.DRIFTING


def test_nothing_is_claimed_for_the_steps_that_were_not_seen():
    growing = LinearSystem(torch.tensor([[1.1]], dtype=torch.float64))
    run = free_run(growing, torch.ones(1, dtype=torch.float64), steps=1005, every=10, limit=100.0)
    assert run.failed == [50] and run.bounded.value == 40  # it left at step 49
    still = free_run(replace(growing, A=growing.A / 2), torch.ones(1, dtype=torch.float64), steps=1005, every=10)
    assert still.bounded.value == still.steps == 1000


def test_progress_is_told():
    told = []
    free_run(logistic, steps=1000, chunk=300, progress=lambda done, total: told.append((done, total)))
    assert told == [(300, 1000), (600, 1000), (900, 1000), (1000, 1000)]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: free_run(lorenz, steps=50), "at least 100"),
        (lambda: free_run(lorenz, limit=-1.0), "limit is -1.0"),
        (lambda: free_run(lorenz, torch.full((3,), torch.nan)), "NaN"),
        (lambda: free_run(LinearSystem(torch.eye(2))), "names no state"),
        (lambda: free_run(lorenz, [1.0, 1.0, 1.0]), "state is list"),
        (lambda: free_run(lorenz, chunk=0), "chunk is 0, expected a whole number of at least 1"),
        (lambda: free_run(lorenz, limit=torch.ones(2)), r"limit is \(2,\), expected a number or \(3,\)"),
        (lambda: free_run(lorenz, steps=200, limit=torch.ones(200, 3)), r"limit is \(200, 3\)"),
        (lambda: free_run(lorenz, limit=1.0, centre=torch.ones(2)), r"centre is \(2,\), expected a number or \(3,\)"),
        (lambda: free_run(lorenz, limit=1.0, centre=math.nan), "centre is nan, expected finite"),
    ],
)
def test_bad_questions_are_refused(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()


@pytest.mark.parametrize(
    "A", [[[-1.0005]], [[1.0001 * math.cos(0.3), -1.0001 * math.sin(0.3)], [1.0001 * math.sin(0.3), 1.0001 * math.cos(0.3)]]]
)
def test_what_grows_a_little_with_every_turn_is_no_settled_cycle(A):
    found = free_run(LinearSystem(torch.tensor(A, dtype=torch.float64)), torch.full((len(A),), 1e-3, dtype=torch.float64), limit=1e30)
    assert found.fate == [Fate.MOVING] and found.verdict is Verdict.DRIFTING


def test_a_spread_that_overflows_is_a_drift():
    class Late:
        """A sine for most of the run, then doubling."""

        dimension, dt = 2, 1.0

        def step(self, state, input=None):
            t = state[..., :1] + 1
            return torch.cat([t, torch.where(t < 99_000, torch.sin(t), 2 * state[..., 1:] + 1)], dim=-1)

        def observe(self, state):
            return state[..., 1:]

        def jacobian_vector(self, state, v, input=None):
            raise NotImplementedError

    found = free_run(Late(), torch.zeros(2, dtype=torch.float64))
    assert float(found.observed.abs().max()) > 1e290 and found.verdict is Verdict.DRIFTING
