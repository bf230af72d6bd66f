"""Every rival of the benchmark computes the function it is a rival of: outputs and gradients, on 64 steps.

Optional: these rivals are packages that nobody has to install (benchmarks/requirements.txt); an absent one is skipped.
"""

import dataclasses

import pytest

from benchmarks.machine import Limits
from benchmarks.operation import OURS, rivals
from benchmarks.run import ROWS, measure

SMALL = {"B": 2, "T": 64, "D": 32, "N": 4, "H": 2, "K": 8, "V": 8, "M": 2, "R": 4}
INEXACT = {"fla naive_mesa_net_CG"}  # stops iterating when 4e-4 of its outputs are still missing, so the benchmark does not time it
LIMITS = Limits(1e11, "assumed", {"768 MB": 1e10})
PAIRS = [(name, rival.name) for name, row in ROWS.items() for rival in rivals(row) if not rival.name.startswith((OURS, "PyTorch"))]


@pytest.mark.parametrize("name, rival", PAIRS, ids=[f"{name} by {rival}" for name, rival in PAIRS])
def test_a_rival_computes_the_same_function(name: str, rival: str):
    row = ROWS[name]
    only = dataclasses.replace(row, rivals=tuple(one for one in row.rivals if one.name == rival), bars=())
    said = measure(only, {axis: SMALL[axis] for axis in next(iter(row.shapes.values()))}, LIMITS, seconds=0, scale=None, paths={})["ways"][
        rival
    ]
    if said["state"] == "absent":
        pytest.skip(said["why"])
    assert said["state"] == ("wrong" if rival in INEXACT else "timed"), said
