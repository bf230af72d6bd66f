"""Kernels share torch's threads: safe under concurrent callers and in forked children, and nobody can tell how many there were."""

import os
import threading

import pytest
import torch

from separatrix.recurrence.delta import delta_rule_fused
from separatrix.recurrence.kernels import parallel
from separatrix.recurrence.linear_attention import linear_attention_fused

SHAPE = (2, 96, 2, 64)  # large enough for our team, too small for torch to use its own: after a fork that hangs


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    return (
        q,
        torch.nn.functional.normalize(k, dim=-1),
        v,
        torch.rand(SHAPE[:3], generator=generator),
        -torch.rand(SHAPE[:3], generator=generator),
    )


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def both(q, k, v, beta, g):
    """Outputs and gradients of the two matrix-state kernels."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v, beta, g)]
    o1, s1 = delta_rule_fused(*leaves)
    o2, s2 = linear_attention_fused(*leaves[:3], leaves[4])
    return (o1, s1, o2, s2, *torch.autograd.grad(o1.sum() + s1.sum() + o2.square().sum() + s2.sum(), leaves))


def test_results_do_not_depend_on_the_number_of_threads(inputs, threads):
    threads(1)
    alone = both(*inputs)
    threads(3)
    assert all(torch.equal(a, b) for a, b in zip(alone, both(*inputs)))


def test_the_python_threads_compute_the_same(inputs, threads, monkeypatch):
    threads(2)
    team = both(*inputs)
    monkeypatch.setattr(parallel, "_team", lambda: None)
    monkeypatch.setattr(parallel, "WORTH_THREADS", 0)
    assert all(torch.equal(a, b) for a, b in zip(team, both(*inputs)))


def test_callers_in_several_threads_do_not_meet(inputs):
    want, got = both(*inputs), {}

    def call(name):
        got[name] = [both(*inputs) for _ in range(3)]

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(got) == 4
    assert all(torch.equal(a, b) for runs in got.values() for run in runs for a, b in zip(want, run))


def test_the_callers_thread_settings_are_left_alone(inputs, threads):
    threads(2)
    both(*inputs)
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_computes_too(inputs, threads):
    """After a fork, OpenMP's team is gone: a kernel that asked for it would hang."""
    threads(2)
    want, _ = delta_rule_fused(*inputs)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            o, _ = delta_rule_fused(*inputs)
            os.write(write, b"same" if (o.numpy() == want.numpy()).all() else b"other")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer == b"same"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a single core
def test_loader_workers_run_kernels(inputs):
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return delta_rule_fused(*(x[i % 2 : i % 2 + 1] for x in inputs))[0][0]

    rows = list(torch.utils.data.DataLoader(Rows(), batch_size=None, num_workers=2, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(row, delta_rule_fused(*inputs)[0][i % 2]) for i, row in enumerate(rows))
