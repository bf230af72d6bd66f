"""Members of an ensemble are fitted side by side, each as if it were alone, and the caller's threads stay the caller's."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch import Generator, nn

from separatrix.models import ForecastModel, Pointwise
from separatrix.training import Diverged, Part, Recipe, Rollout, train
from separatrix.training.crew import crew
from separatrix.training.loop import BAD_BATCH

RECIPE = Recipe(steps=8, horizon=5, context=8, teacher_steps=2, first_horizon=2, batch=3, noise=0.1, checkpoint=4, warm_up=3)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def ensemble(members=3):
    generator = Generator().manual_seed(0)
    return ForecastModel(1, [Pointwise(8, d_ff=8, generator=generator) for _ in range(members)], lags=3, generator=generator)


def wave(T=60):
    t = torch.arange(T, dtype=torch.float32)
    return (torch.sin(0.7 * t) + 0.3 * torch.sin(1.9 * t))[:, None]


def fit(model, recipe=RECIPE, objective=None, folder=None):
    """`objective` makes one for each member."""
    parts = [Part(model.alone(i), (objective or Rollout)([wave()], recipe)) for i in range(len(model.members))]
    return [step.metrics for step in train(model, parts, recipe, seed=7, folder=folder)]


def test_how_many_work_at_a_time_changes_nothing(threads):
    found = []
    for count in (1, 2, 4):
        threads(count)
        model = ensemble()
        found.append((fit(model), model.state_dict()))
        assert torch.get_num_threads() == count
    (lines, weights), *others = found
    for these, those in others:
        assert these == lines and all(torch.equal(a, b) for a, b in zip(those.values(), weights.values()))
    assert all(line["worst"] > line["loss"] for line in lines)


def test_workers_have_one_thread_and_threads_yet_to_come_have_the_caller_s(threads):
    threads(2)
    together = threading.Barrier(2, timeout=60)

    def work(i):
        if i < 2:
            together.wait()  # two are at work at the same time
        return torch.get_num_threads(), threading.current_thread().name

    with crew(4) as hands:
        found, alone = hands.each(work), hands.together(torch.get_num_threads)
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert [count for count, _ in found] == [1] * 4 and len({name for _, name in found[:2]}) == 2
    assert torch.get_num_threads() == 2 and later == [2] and alone == 1
    with crew(1) as hands:
        assert (
            hands.each(lambda i: threading.current_thread()) == [hands.together(threading.current_thread)] == [threading.current_thread()]
        )


def test_who_is_queued_when_a_ctrl_c_comes_never_begins(threads):
    threads(1)
    begun, told, done = [], threading.Event(), threading.Event()

    def work(i):
        begun.append(i)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        assert told.wait(60)
        done.set()

    with pytest.raises(KeyboardInterrupt), crew(4) as hands:
        hands.each(work)
    told.set()  # we are here while the first is still at work
    assert done.wait(60) and begun == [0]


def test_each_member_has_a_batch_and_a_gradient_of_its_own():
    """A member's step is the one it would take alone with its batch: the others' losses and norms do not reach it."""
    recipe = RECIPE.model_copy(update=dict(steps=1, average=0.0, clip=1e-3))
    seen = []

    class Watched(Rollout):
        def sample(self, step, generator):
            seen.append(super().sample(step, generator))
            return seen[-1]

    model, twin = ensemble(), ensemble()
    fit(model, recipe, Watched)
    assert len(seen) == 3 and not torch.equal(seen[0]["heard"], seen[1]["heard"])
    for i in range(3):

        class Given(Rollout):
            def sample(self, step, generator):
                return seen[i]  # noqa: B023  (used before the next)

        one = twin.alone(i)
        list(train(one, [Part(one, Given([wave()], recipe))], recipe, seed=0))
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), model.members[i].parameters()))


def test_a_member_that_fails_is_named_and_its_batch_kept(tmp_path):
    class Poisoned(Rollout):
        def loss(self, model, batch, step):
            loss, parts = super().loss(model, batch, step)
            return (loss * torch.nan if step == 3 and model.members[0] is whole.members[1] else loss), parts

    whole = ensemble()
    with pytest.raises(Diverged, match="loss is not finite at step 4") as caught:
        fit(whole, objective=Poisoned, folder=tmp_path)
    assert caught.value.layer == "the loss itself" and (tmp_path / BAD_BATCH).is_file()
    nn.init.constant_((whole := ensemble()).members[2].embed.bias, torch.inf)
    with pytest.raises(Diverged, match=r"step 1, first in the output of members\.2\.embed"):
        fit(whole)


FORKED = """
import os
import numpy as np
import torch
from separatrix import Forecaster

wave = np.sin(np.arange(60) / 5)
torch.set_num_threads(2)
forecaster = Forecaster(steps=2, members=2).fit(wave)
if (child := os.fork()) == 0:
    forecaster.update(wave).predict(3)
    Forecaster(steps=2, members=2).fit(wave)
    os._exit(torch.get_num_threads())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_a_forked_child_of_a_fit_can_fit():
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", FORKED], start_new_session=True)
    try:
        assert process.wait(timeout=120) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
