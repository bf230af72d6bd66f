"""Long free runs: let the system go, and see whether it stays, where, and whether it still moves.

    s_{t+1} = Φ(s_t),   t < T;      y_t = g(s_t);      limit: |y_t - centre| <= L for every t                     (1)

A run of 100,000 steps is thousands of forecast horizons: every prediction in it is worthless and its statistics are what is asked for.
Bounded here means bounded over this run from this state; nothing short of a trapping region bounds all runs.

    FIXED_POINT   what is seen moved less than a millionth of the largest spread it has ever had, over the last tenth of the run
    CYCLE         the last tenth repeats itself with some whole period, to a thousandth of its spread
    MOVING        neither: chaotic, quasiperiodic, or a cycle whose period is not a whole number of steps
    DIVERGED      a value was not finite, or left the limit

Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, Addison-Wesley, ch. 7 and 9 (what a long run can end in).
Cost     T steps of the system; states are not kept, what is seen is kept every `every` steps.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.checks import expect_count
from separatrix.stability.number import Number, Verdict
from separatrix.systems.system import System, expect_run, expect_system, trajectory

KEPT = 2**18  # numbers of a chunk's states: more would leave the cache before anyone looks at them


class Fate(Enum):
    """What a free run came to.

    Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, Addison-Wesley, ch. 7 and 9.
    """

    FIXED_POINT = "fixed point"
    CYCLE = "cycle"
    MOVING = "keeps moving"
    DIVERGED = "runs away"


class FreeRun(NamedTuple):
    """A long run of one or more starting states, and what became of each.

    It does not say that runs from other states stay bounded, nor that this one does after its last step.

    Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, Addison-Wesley, ch. 7 and 9.
    """

    observed: Tensor  # [..., M, m], what is seen after every `every`-th step; NaN after a divergence
    state: Tensor  # [..., n], after the last step; of a run that diverged, where it started
    fate: list[Fate]  # one for each starting state, flattened
    period: list[int | None]  # of each CYCLE, in kept samples
    failed: list[int | None]  # the step at which each DIVERGED, as far as every `every`-th step shows
    low: list[Number]  # [m], lowest value seen of each component, over all runs that stayed
    high: list[Number]  # [m], highest
    spread: Tensor  # [..., 10, m], standard deviation in each tenth of the run: fading, steady or growing
    steps: int  # that were made: a multiple of every
    every: int

    @property
    def verdict(self) -> Verdict:
        """DIVERGED if any run did; DRIFTING if, from the middle of a run that has no fixed point to its end, its spread changes by half
        or its mean by twice the spread; else SETTLED."""
        if Fate.DIVERGED in self.fate:
            return Verdict.DIVERGED
        spread = self.spread.reshape(-1, *self.spread.shape[-2:])
        middle, end = spread[:, 3:6].mean(1), spread[:, 7:].mean(1)
        level = _tenths(self.observed.reshape(len(self.fate), -1, self.observed.shape[-1])).mean(2)
        shift = (level[:, 7:].mean(1) - level[:, 3:6].mean(1)).abs()
        moving = torch.tensor([fate is not Fate.FIXED_POINT for fate in self.fate])
        most = torch.maximum(end, middle)
        changed = (((end - middle).abs() > 0.5 * most) | (shift > 2 * most) | ~end.isfinite()).any(-1)  # near overflow squares are infinite
        return Verdict.DRIFTING if bool((changed & moving).any()) else Verdict.SETTLED

    @property
    def bounded(self) -> Number:
        """Steps that every run stayed within the limit for."""
        stayed = min([self.steps if step is None else step - self.every for step in self.failed])
        seen = "" if self.every == 1 else f", seen every {self.every:,} steps"
        return Number(stayed, "measured", unit="steps", how=f"{_runs(len(self.failed))} of {self.steps:,} steps{seen}")


def free_run(
    system: System,
    state: Tensor | None = None,
    *,
    steps: int = 100_000,
    every: int = 1,
    limit: Tensor | float | None = None,
    centre: Tensor | float = 0.0,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FreeRun:
    """Run a system without inputs and say what becomes of it.

    state     [n], or [..., n] for many starts at once; `system.start` when None.
    steps     to run.
    every     keep what is seen after every so many steps.
    limit     largest allowed distance of a seen value from `centre`, a number or [m]; only the finite numbers when None.
    centre    a number, or [m].
    chunk     steps between two looks at the limit (and two calls of progress); 2,000 when None, fewer of large states.
    progress  called with (steps done, steps in all).

    Paper    Strogatz 1994, Nonlinear Dynamics and Chaos, Addison-Wesley, ch. 7 and 9.
    Raises   ValueError for a state, limit or centre that does not fit, steps < 100 every, limit <= 0, chunk < 1; TypeError for what
             is no System.
    """
    expect_system(system)
    if state is None:
        state = getattr(system, "start", None)
        if state is None:
            raise ValueError("state is None and this system names no state to start from. Pass state=[..., n].")
    expect_run(system, state, steps, every, None)
    state = state.detach()
    if steps < 100 * every:
        raise ValueError(f"steps is {steps} with every = {every}: expected at least 100 kept samples to say anything about a long run.")
    if limit is not None:
        _expect_limit(system, state, limit, centre)
    if chunk is not None:
        expect_count("chunk", chunk, 1)
    steps = steps // every * every
    rows = state.reshape(-1, state.shape[-1])
    if chunk is None:
        chunk = min(2_000, KEPT * every // max(1, rows.numel()))
    chunk = max(every, chunk // every * every)
    kept: list[Tensor] = []
    failed: list[int | None] = [None] * len(rows)
    start, done = rows, 0
    while done < steps:
        now = min(chunk, steps - done)
        states = trajectory(system, rows, now, every=every)
        with torch.no_grad():
            seen = system.observe(states)
        beyond = _beyond(states, seen, limit, centre)
        for r in beyond.any(-1).nonzero()[:, 0].tolist():
            if failed[r] is None:
                failed[r] = done + (int(beyond[r].nonzero()[0, 0]) + 1) * every
        rows = states[:, -1]
        gone = torch.tensor([step is not None for step in failed])
        if bool(gone.any()):
            since = torch.tensor([done + now + every if step is None else step for step in failed])
            after = (done + every * torch.arange(1, seen.shape[1] + 1))[None] >= since[:, None]
            seen = seen.masked_fill(after[..., None].to(seen.device), torch.nan)
            # Rows that left idle on from where they started: NaN must not slow down or stop the others.
            rows = torch.where(gone[:, None].to(rows.device), start, rows)
        kept.append(seen.cpu())
        done += now
        if progress is not None:
            progress(done, steps)
        if None not in failed:
            break
    return _summary(torch.cat(kept, dim=1), rows, failed, state.shape[:-1], steps, every)


def _expect_limit(system: System, state: Tensor, limit: Tensor | float, centre: Tensor | float) -> None:
    if not bool((torch.as_tensor(limit) > 0).all()):
        raise ValueError(f"limit is {limit}, expected a positive distance, or None.")
    if not bool(torch.isfinite(torch.as_tensor(centre)).all()):
        raise ValueError(f"centre is {centre}, expected finite numbers.")
    with torch.no_grad():
        width = system.observe(state).shape[-1:]
    for name, given in (("limit", limit), ("centre", centre)):
        if torch.as_tensor(given).shape not in ((), width):
            raise ValueError(f"{name} is {tuple(torch.as_tensor(given).shape)}, expected a number or {tuple(width)}: what is seen.")


def _beyond(states: Tensor, seen: Tensor, limit: Tensor | float | None, centre: Tensor | float) -> Tensor:
    """Where a run is not finite, or farther from the centre than allowed.    [R, M]"""
    beyond = ~torch.isfinite(seen).all(-1) | ~torch.isfinite(states).all(-1)
    if limit is not None:
        beyond |= ((seen - torch.as_tensor(centre).to(seen)).abs() > torch.as_tensor(limit).to(seen)).any(-1)
    return beyond


def _summary(observed: Tensor, rows: Tensor, failed: list[int | None], batch: torch.Size, steps: int, every: int) -> FreeRun:
    """What became of runs that were seen so.    observed [R, M, m], rows [R, n] at the end"""
    fates = [_fate(y, step) for y, step in zip(observed, failed)]
    stayed = observed[[step is None for step in failed]].flatten(0, 1) if None in failed else observed[torch.isfinite(observed).all(-1)]
    how = f"over {steps:,} steps of {_runs(len(failed))}"
    ends = [stayed.amin(0), stayed.amax(0)] if len(stayed) else [torch.full(observed.shape[-1:], torch.nan)] * 2
    low, high = ([Number(float(v), "measured", how=how) for v in end] for end in ends)
    tenths = _tenths(observed).std(dim=2)
    return FreeRun(
        observed=observed.reshape(*batch, *observed.shape[1:]),
        state=rows.reshape(*batch, -1),
        fate=[fate for fate, _ in fates],
        period=[period for _, period in fates],
        failed=failed,
        low=low,
        high=high,
        spread=tenths.reshape(*batch, *tenths.shape[1:]),
        steps=steps,
        every=every,
    )


def _runs(count: int) -> str:
    return "1 free run" if count == 1 else f"{count:,} free runs"


def _fate(y: Tensor, failed: int | None) -> tuple[Fate, int | None]:
    if failed is not None:
        return Fate.DIVERGED, None
    tail = y[-max(len(y) // 10, 50) :].double()
    spread, ever = _span(tail), _span(y.double())
    rounding = 64 * torch.finfo(y.dtype).eps * float(y.abs().max())
    if spread <= max(1e-6 * ever, rounding):
        return Fate.FIXED_POINT, None
    before, after = (_span(half) for half in tail.tensor_split(2))
    alike = abs(after - before) <= 1e-2 * max(after, before)  # what grows a little with every turn is near itself a turn later
    period = _period(tail, 1e-3 * spread) if alike else None
    return (Fate.CYCLE, period) if period is not None else (Fate.MOVING, None)


def _tenths(observed: Tensor) -> Tensor:
    """[R, M, m] -> [R, 10, M // 10, m]"""
    return observed[:, : observed.shape[1] // 10 * 10].unflatten(1, (10, -1)).double()


def _span(y: Tensor) -> float:
    return float((y.amax(0) - y.amin(0)).max())


def _period(tail: Tensor, tolerance: float) -> int | None:
    """The smallest whole shift that maps the tail onto itself; only shifts that fit into it twice are looked at.

    What moves slowly is near itself a few steps later as well: a period begins to count when the last value has been left.
    """
    near = (tail[len(tail) // 2 : -1] - tail[-1]).abs().amax(-1).flip(0) <= tolerance  # near[p - 1]: shift p
    if bool(near.all()):
        return None
    left = int(near.int().argmin())

    def missed(p: int) -> float:
        return float((tail[p:] - tail[:-p]).abs().max())

    for p in (left + 1 + near[left:].nonzero()[:, 0]).tolist():
        if missed(p) <= tolerance:
            while p < len(near) and missed(p + 1) < missed(p):
                p += 1
            return p
    return None
