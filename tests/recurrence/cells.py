"""The table of cells, with parameters as a layer would have them. A row is tested by being here (test_cells.py, test_newton.py)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from separatrix.recurrence import GRU, LSTM, OPERATIONS, PLRNN, Cell, DendriticPLRNN, DiagonalGRU, DiagonalLSTM, Elman, Forced, ShallowPLRNN
from tests.agree import agree
from tests.recurrence.roads import BATCH, randn

N = 5
FORMS = OPERATIONS["cell_scan"]
settling = partial(agree, factor=64, because="Newton's iteration stops at 32 roundings of the state a step")


def weights(*shape: int) -> Tensor:
    return randn(*shape) / shape[-1] ** 0.5


def plrnn(linear: int = 0) -> PLRNN:
    return PLRNN(0.6 * torch.rand(N, dtype=torch.float64), 0.4 * weights(N, N), randn(N), linear)


@dataclass(frozen=True)
class Kicked(Cell):
    """A user's own cell, which knows nothing of its Jacobian."""

    k: Tensor

    @property
    def size(self) -> int:
        return len(self.k)

    @property
    def width(self) -> int:
        return len(self.k)

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        return (h.roll(1, -1) + self.k * h.sin() + x) / 2


CELLS: dict[str, Callable[[], Any]] = {
    "elman": lambda: Elman(weights(N, N)),
    "gru": lambda: GRU(weights(3 * N, N), randn(N)),
    "lstm": lambda: LSTM(weights(4 * N, N)),
    "diagonal gru": lambda: DiagonalGRU(randn(3, N)),
    "diagonal lstm": lambda: DiagonalLSTM(randn(3, N), randn(2, N)),
    "plrnn": plrnn,
    "almost linear": lambda: plrnn(linear=2),
    "dendritic": lambda: DendriticPLRNN(torch.rand(N).double() / 2, weights(N, N) / 4, randn(N), randn(3), randn(N, 3)),
    "dendritic, clipped": lambda: DendriticPLRNN(torch.rand(N).double() / 2, weights(N, N) / 2, randn(N), randn(3), randn(N, 3), True),
    "shallow": lambda: ShallowPLRNN(torch.rand(N).double() / 2, weights(N, 7) / 2, randn(N), weights(7, N), randn(7)),
    "shallow, clipped": lambda: ShallowPLRNN(torch.rand(N).double() / 2, weights(N, 7), randn(N), weights(7, N), randn(7), True),
    "forced": lambda: Forced(plrnn(), 3),
    "forced, shallow": lambda: Forced(CELLS["shallow, clipped"](), N),
    "forced, lstm": lambda: Forced(LSTM(weights(4 * N, N)), 3),
    "forced, what an lstm remembers": lambda: Forced(LSTM(weights(4 * N, N)), 7),
    "a user's own": lambda: Kicked(randn(N) / 3),
}


def example(cell: Cell, time: int) -> tuple[Tensor, Tensor]:
    """x [B, T, M], initial state [B, N]"""
    return randn(BATCH, time, cell.width) / 2, randn(BATCH, cell.size)


every_cell = pytest.mark.parametrize("name", CELLS)


def road(cell: Any, form: str, reset: Tensor | None = None) -> Callable:
    """The form as a function of x, the initial state and the parameters."""
    return lambda x, h, *parameters: FORMS[form](cell.with_tensors(parameters), x, h, reset)
