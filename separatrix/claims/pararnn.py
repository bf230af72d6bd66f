"""A nonlinear recurrence runs in parallel over time: a few Newton iterations solve all its steps at once.

Paper    Danieli et al. 2025 (ParaRNN), arXiv:2510.21450.
Scale    GRU and LSTM with diagonal weights, 32 channels, batch 1, 4096 steps of the laser series in float32, as initialised and after 300
         steps of Adam on next-value prediction; one thread, a few minutes.
Holds    for both cells, initialised and trained, on 3 seeds of 3: at most 10 iterations; all states and all gradients (input, parameters)
         within 1e-4 of the step loop's, against the largest; and at least 5 times as fast as the loop of torch operations, both forward
         and forward with gradients.

The first full runs fell short, 4.8 forward for two trained GRUs and later 4.5 for one: each iteration walked through memory some twenty
times for the cell and its Jacobian, which are one kernel now. Before that, undamped, the trained GRU did not converge at all (`newton`
tells what is done about it).

What a CPU user gets from `cell_scan` is neither: the loop as one compiled kernel, whose time is told beside.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from separatrix.claims.claim import Claim
from separatrix.data import load
from separatrix.recurrence import OPERATIONS, Cell, DiagonalGRU, DiagonalLSTM, Solution, cell_scan, newton_scan
from separatrix.report.ink import DATA, MODEL
from separatrix.report.labels import Label, axis_names, name_line

log = logging.getLogger(__name__)

CHANNELS, LENGTH, WINDOW, BATCH, UPDATES = 32, 4096, 256, 16, 300
CELLS = {"GRU": DiagonalGRU, "LSTM": DiagonalLSTM}
GATES = 3


def initial(kind: str, generator: Generator) -> list[Tensor]:
    """Projection [3 N], bias [3 N], readout [N + 1], then the cell's own, as ParaRNN starts them."""
    normal = partial(torch.randn, generator=generator)
    bias = torch.zeros(GATES, CHANNELS)
    bias[0] = -torch.linspace(0, 1, CHANNELS) if kind == "GRU" else torch.linspace(0, 1, CHANNELS)
    own = [(2 / (5 * CHANNELS) ** 0.5) * normal(rows, CHANNELS) for rows in ((3,) if kind == "GRU" else (3, 2))]
    return [normal(GATES * CHANNELS), bias.flatten(), normal(CHANNELS + 1) / CHANNELS**0.5, *own]


def drive(weights: list[Tensor], series: Tensor) -> Tensor:
    """series [B, T] -> what comes into the cell [B, T, 3 N]"""
    return series.unsqueeze(-1) * weights[0] + weights[1]


def trained(kind: str, weights: list[Tensor], series: Tensor, generator: Generator) -> tuple[list[Tensor], float]:
    """The weights after UPDATES steps on random windows, and the last mean squared error against the variance."""
    weights = [w.clone().requires_grad_() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=1e-2)
    errors = []
    for _ in range(UPDATES):
        starts = torch.randint(len(series) - WINDOW - 1, (BATCH,), generator=generator)
        windows = torch.stack([series[start : start + WINDOW + 1] for start in starts.tolist()])
        states, _ = cell_scan(CELLS[kind](*weights[3:]), drive(weights, windows[:, :-1]))
        guess = states[..., :CHANNELS] @ weights[2][:-1] + weights[2][-1]
        loss = (guess - windows[:, 1:])[:, 32:].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    return [w.detach() for w in weights], sum(errors[-20:]) / 20 / float(series.var())


def seconds(run: Callable[[], object], times: int) -> float:
    run()
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return min(found)


def gradients(run: Callable[..., Tensor], cell: Cell, x: Tensor, weight: Tensor) -> list[Tensor]:
    leaves = [y.detach().requires_grad_() for y in (x, *cell.tensors())]
    states = run(cell.with_tensors(leaves[1:]), leaves[0])
    return [states.detach(), *torch.autograd.grad((states * weight).sum(), leaves)]


def apart(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max() / want.abs().max())


def loop(cell: Cell, x: Tensor) -> Tensor:
    return OPERATIONS["cell_scan"]["recurrent"](cell, x)[0]


def compare(cell: Cell, x: Tensor, generator: Generator) -> tuple[Solution, dict[str, float]]:
    solution = newton_scan(cell, x)
    weight = torch.randn(solution.states.shape, generator=generator)

    def newton(cell: Cell, x: Tensor) -> Tensor:
        return newton_scan(cell, x).states

    def kernel(cell: Cell, x: Tensor) -> Tensor:
        return cell_scan(cell, x)[0]

    state, *rest = (apart(got, want) for got, want in zip(gradients(newton, cell, x, weight), gradients(loop, cell, x, weight)))
    with torch.no_grad():
        forward = [seconds(partial(run, cell, x), times) for run, times in ((loop, 3), (newton, 10), (kernel, 10))]
    training = [seconds(partial(gradients, run, cell, x, weight), times) for run, times in ((loop, 1), (newton, 10), (kernel, 10))]
    return solution, {
        "iterations": solution.iterations,
        "states apart": state,
        "gradients apart": max(rest),
        "forward, loop over Newton": forward[0] / forward[1],
        "with gradients, loop over Newton": training[0] / training[1],
        "forward, loop over kernel": forward[0] / forward[2],
        "with gradients, loop over kernel": training[0] / training[2],
    }


def meets(found: dict[str, float]) -> bool:
    exact = max(found["states apart"], found["gradients apart"]) <= 1e-4
    fast = min(found["forward, loop over Newton"], found["with gradients, loop over Newton"]) >= 5
    return found["iterations"] <= 10 and exact and fast


def claim(seeds: tuple[int, ...] = (0, 1, 2)) -> Claim:
    values = torch.tensor(load("laser").values[:, 0]).float()
    series = (values - values.mean()) / values.std()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    numbers: dict[str, list[float]] = {}
    histories: dict[str, list[float]] = {}
    holds = True
    try:
        for kind in CELLS:
            for seed in seeds:
                generator = Generator().manual_seed(seed)
                weights = initial(kind, generator)
                later, error = trained(kind, weights, series, generator)
                numbers.setdefault(f"{kind}, trained: error against the variance", []).append(error)
                for when, now in (("initialised", weights), ("trained", later)):
                    x = drive(now, series[:LENGTH].unsqueeze(0))
                    solution, found = compare(CELLS[kind](*now[3:]), x, generator)
                    log.info("%s %s, seed %d", kind, when, seed)
                    for name, number in found.items():
                        numbers.setdefault(f"{kind}, {when}: {name}", []).append(number)
                    histories.setdefault(f"{kind}, {when}", solution.history)
                    holds = holds and meets(found)
    finally:
        torch.set_num_threads(threads)
    return Claim(holds=holds, numbers=numbers, figure=partial(draw, histories), dtype="float32", seeds=seeds)


def draw(histories: dict[str, list[float]], figure: Figure) -> None:
    """The largest residual of all steps, before every iteration."""
    axes = figure.subplots()
    for name, history in histories.items():
        dash = "-" if "trained" in name else ":"
        colour = MODEL if "GRU" in name else DATA
        axes.semilogy(range(len(history)), history, dash, color=colour, linewidth=1.4)
        before = name == "LSTM, initialised"  # it ends where the other cell does
        name_line(axes, len(history) - 1, Label(name, history[-1], colour), ha="right" if before else "left", dx=-6 if before else 4)
    axes.axvline(10, color=DATA, linewidth=0.7)  # the bar
    axes.set_xlim(0, 12)
    axis_names(axes, "iteration", "largest residual")
    figure.subplots_adjust(left=0.12, right=0.9, bottom=0.17, top=0.86)
