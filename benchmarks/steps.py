"""How long is one token?    Every mixer at d_model 256, one sequence, continuing from its own state, no gradients.

The steps are those of a `Stepper`, the library's way to generate; beside them stand those of the layer itself, called as in training but
inside `held()`, the promise that no parameter changes between them. The bar is 0.2 ms a layer; mambapy, the fastest peer that steps on a
CPU, is measured beside ours. Attention reads all it has seen: every layer goes on from its own state, from the 256th token to the 320th and
then from the 256th again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.measure import race
from benchmarks.packages import package
from benchmarks.rival import Absent
from separatrix.mixers import MIXERS, build_mixer
from separatrix.mixers.remembered import held
from separatrix.models import Stepper
from separatrix.recurrence import State

D_MODEL = 256
BEHIND, AHEAD = 256, 64  # tokens seen before the steps that are timed, and how many follow each other
ALLOWED = 2e-4  # seconds


def step_times(seconds: float) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    racers: dict[str, Callable[[], object]] = {}
    ours = {
        **{mixer: _ours(mixer, Stepper) for mixer in MIXERS},
        **{f"{mixer}, layer": _ours(mixer, lambda layer: layer) for mixer in MIXERS},
    }
    for name, prepare in {**ours, "mambapy Mamba": _mambapy}.items():
        try:
            racers[name] = prepare()
        except Absent as missing:
            rows[name] = {"state": "absent", "why": str(missing)}
        except Exception as failure:
            rows[name] = {"state": "failed", "why": f"{type(failure).__name__}: {failure}".splitlines()[0][:200]}
    with torch.no_grad(), held():
        for name, times in race(racers, seconds).items():
            rows[name] = {"state": "timed", "median": times.median, "least": times.least, "turns": times.turns}
            if name in MIXERS:
                rows[name]["met"] = times.median <= ALLOWED
    return rows


def _ours(name: str, stepping: Callable[[nn.Module], Callable[..., Any]]) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        torch.manual_seed(0)
        layer = build_mixer(name, D_MODEL).eval()
        step_of = stepping(layer)
        seen = torch.randn(1, BEHIND + 1, D_MODEL)
        with torch.no_grad():
            _, state = layer(seen[:, :-2])
            _, state = step_of(seen[:, -2:-1], state)  # a state as steps leave it
            whole, step = layer(seen)[0][:, -1:], step_of(seen[:, -1:], state)[0]
        if not torch.allclose(whole, step, rtol=1e-3, atol=1e-4 * float(whole.abs().max())):
            raise ValueError(f"one step is off by {float((whole - step).abs().max()):.1e} from the whole")
        return _Generation(step_of, seen[:, -1:], state)

    return prepare


class _Generation:
    """One more token at every call."""

    def __init__(self, step: Callable[..., Any], token: torch.Tensor, state: State):
        self.step, self.token, self.begun, self.state, self.done = step, token, state, state, 0

    def __call__(self) -> torch.Tensor:
        if self.done % AHEAD == 0:
            self.state = self.begun
        self.done += 1
        y, self.state = self.step(self.token, self.state)
        return y


def _mambapy() -> Callable[[], object]:
    mamba = package("mambapy.mamba", "mambapy")
    torch.manual_seed(0)
    block = mamba.MambaBlock(mamba.MambaConfig(d_model=D_MODEL, n_layers=1)).eval()
    inner = block.config.d_inner
    state = torch.zeros(1, inner, block.config.d_state), torch.zeros(1, inner, block.config.d_conv - 1)
    x = torch.randn(1, D_MODEL)
    return lambda: block.step(x, state)


def summary(rows: Mapping[str, Mapping[str, Any]]) -> str:
    timed = {name: row["median"] for name, row in rows.items() if row["state"] == "timed" and name in MIXERS}
    worst = max(timed, key=lambda name: timed[name])
    within = sum(t <= ALLOWED for t in timed.values())
    return f"{within} of {len(timed)} mixers within {ALLOWED * 1e3:.1f} ms, slowest {worst} {timed[worst] * 1e3:.3f} ms"
