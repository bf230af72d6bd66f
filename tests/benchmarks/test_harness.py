"""The harness of the benchmarks, on rows of a few steps: what it may time, what it must not, and what it says. No time is asserted."""

import dataclasses
import sys

import pytest
import torch

from benchmarks import packages, page
from benchmarks.machine import Limits
from benchmarks.measure import Scale, race
from benchmarks.operation import OURS, First
from benchmarks.operations import OPERATIONS
from benchmarks.rival import Rival, TorchCall, torch_rival
from benchmarks.run import ROWS, measure
from separatrix import recurrence
from separatrix.recurrence.plan import taken_apart

LIMITS = Limits(1e11, "assumed", {"768 MB": 1e10})
TINY = {"B": 2, "T": 6, "D": 16, "N": 3, "H": 2, "K": 4, "V": 5, "R": 2}


def small(name, **changes):
    row = dataclasses.replace(ROWS[name], **changes)
    shape = next(iter(row.shapes.values()))
    return measure(row, {axis: TINY[axis] for axis in shape}, LIMITS, seconds=0, scale=None, paths={})


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_row_is_right_before_it_is_timed(name):
    plain = [rival for rival in OPERATIONS[name].rivals if rival.name.startswith("PyTorch")]
    row = small(name, rivals=tuple(plain))
    for said in row["ways"].values():
        assert said["state"] == "timed", said
        assert min(said["forward"]["median"], said["both"]["median"]) > 0
    assert row["floor"]["forward"] < row["floor"]["both"]


def test_every_operation_has_a_row():
    assert set(recurrence.OPERATIONS) <= {row.replace(",", " ").split()[0] for row in OPERATIONS}


def test_a_wrong_rival_is_not_timed():
    scan = ROWS["diagonal_scan, real"].ours
    row = small("diagonal_scan, real", rivals=(torch_rival("twice", lambda a, x: 2 * scan(a=a, x=x)),), bars=())
    said = row["ways"]["twice"]
    assert said["state"] == "wrong" and "forward" not in said


def test_an_operation_whose_one_step_is_off_is_wrong_and_the_rest_goes_on():
    def recorded_otherwise(a, x, initial_state=None, reset=None):
        h, final = recurrence.diagonal_scan(a, x, initial_state, reset)
        return h + 1 if taken_apart() else h, final

    row = small("diagonal_scan, real", ours=First(recorded_otherwise), rivals=())
    assert row["ways"][OURS]["state"] == "wrong" and "is off by" in row["ways"][OURS]["why"]
    assert [bar["met"] for bar in row["bars"]] == [False] * len(row["bars"])


def test_a_failing_rival_is_reported_and_the_others_run():
    def refuse(a, x):
        raise RuntimeError("0 active drivers")

    row = small("diagonal_scan, real", rivals=(torch_rival("refuses", refuse),), bars=())
    assert row["ways"]["refuses"] == {"state": "failed", "why": "RuntimeError: 0 active drivers"}
    assert row["ways"][OURS]["state"] == "timed"


def test_an_absent_rival_is_reported_as_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "nowhere", None)
    rival = Rival("elsewhere", lambda inputs, weight: TorchCall(packages.package("nowhere", "nowhere").scan, inputs, weight))
    row = small("diagonal_scan, real", rivals=(rival,))
    assert row["ways"]["elsewhere"] == {"state": "absent", "why": "pip install nowhere"}


def test_a_bar_is_met_only_when_both_ran():
    row = small("selective_scan", rivals=tuple(r for r in ROWS["selective_scan"].rivals if not r.trains))
    anchored = row["ways"]["C++, auto-vectorised"]["state"] == "timed"
    assert all((bar["met"] is not None) == anchored for bar in row["bars"])


def test_rivals_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("one", "other")}
    times = race(calls, seconds=0.05, most=2)
    assert all(time.turns == 2 and time.least <= time.median for time in times.values())
    seen = [name for name, before in zip(order, [None, *order]) if name != before]
    assert seen[-4:] == ["one", "other", "one", "other"]


def allocate():
    return [lambda: torch.ones(10_000_000), lambda: torch.ones(1_000_000)]


@pytest.mark.skipif(not Scale(1).works, reason="memory is weighed on Linux only")
def test_the_scale_weighs_what_a_call_holds():
    large, small = Scale(1).weigh(allocate)
    assert 40e6 <= large <= 42e6 and 4e6 <= small <= 6e6


def test_the_page_says_what_was_reached():
    bars = [
        {"text": "forward: at most 1 x rival", "allowed": 1.0, "reached": reached, "met": met}
        for reached, met in ((0.5, True), (None, None))
    ]
    row = {**small("diagonal_scan, real", rivals=()), "bars": bars}
    results = {
        "machine": {
            "processor": "p",
            "system": "s",
            "simd": "AVX2",
            "threads": 1,
            "commit": "c",
            "python": "3",
            "versions": {"torch": "2"},
        },
        "limits": {"flops": 1e11, "how": "assumed", "bandwidth": {"768 MB": 1e10}},
        "S": {"diagonal_scan, real": row},
        "steps": {"rows": {"gru": {"state": "timed", "median": 3e-4, "least": 2e-4, "turns": 3, "met": False}}},
    }
    assert page.count_bars(results) == (1, 1, 1)
    text = page.render(results)
    for said in ("forward: at most 1 x rival | 0.5 x | met", "| no rival here |", "0.3 ms | **not met**", "diagonal_scan, real"):
        assert said in text
    assert page.render(results) == text


def timed(milliseconds):
    return {"state": "timed", **{way: {"median": milliseconds, "least": milliseconds} for way in ("forward", "both")}}


def verdicts(rows, bar):
    return [met for what, said, _, met in page.every_bar({"S": rows}) if bar in f"{what}: {said}"]


def test_a_mean_counts_packages_and_our_own_loops_apart():
    ways = {"separatrix": timed(1.0), "fla naive": timed(32.0), "JAX lax.scan": timed(2.0)}
    rows = {name: {"ways": ways, "bars": [], "floor": {"forward": 0.5, "both": 0.5}} for name in ("delta_rule", "dplr (RWKV-7)")}
    only_ours = {"ways": {"separatrix": timed(1.0), "PyTorch loop": timed(9.0)}, "bars": []}
    assert verdicts(rows, "geometric mean of 2") == [True, True, False, False]  # 32 x beside packages, 2 x beside all
    assert verdicts({**rows, "dense_scan": only_ours}, "geometric mean") == [True, True, False, False]
    assert verdicts({"dense_scan": only_ours}, "geometric mean of 1") == [True, False]  # 9 x, and nothing beside packages
    assert verdicts({"LSTM": rows["delta_rule"]}, "geometric mean") == []  # a layer, no operation


def test_floors_are_bars_of_matrix_states_and_no_peer_may_be_faster():
    ways = {"separatrix": timed(1.0), "fla naive": timed(0.5), "JAX lax.scan": timed(2.0)}
    row = {"ways": ways, "bars": [], "floor": {"forward": 0.3, "both": 0.25}}
    assert verdicts({"delta_rule": row}, "the floor") == [False, True]  # 3.3 of 3, 4 of 5
    assert verdicts({"dense_scan": row, "LSTM": row}, "the floor") == []
    assert verdicts({"dense_scan": row}, "slower than no peer") == [False, False]
