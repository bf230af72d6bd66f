"""Teacher forcing: while it learns, a model's state is pulled towards the data before every step.

    h~_t = h_{t-1} + α_t (x_t - h_{t-1})  in the first numbers of the state, which are those observed;   h_t = f(h~_t, u_t)   (1)

α_t = 1 now and then is sparse forcing, which lets a chaotic model run as long as its errors stay small and then takes it back; 0 < α_t < 1
at all steps is generalised forcing, which keeps products of Jacobians, (1 - α) J on what is observed, from exploding. Gradients flow
through the forcing. (1) is a cell like any other, so every form of `cell_scan`, and Newton, run it.

Paper    Mikhaeil et al. 2022, arXiv:2110.07238 (sparse); Hess et al. 2023, arXiv:2306.04406 (generalised, from Doya 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from separatrix.recurrence.cell import Cell, Operands, cell_scan, expect_cell, linearize
from separatrix.recurrence.checks import expect_axes, expect_count, expect_fraction, expect_number, expect_real, expect_shape, expect_tensor
from separatrix.recurrence.diagonal import Diagonal
from separatrix.recurrence.plan import runs_as
from separatrix.recurrence.resets import filled
from separatrix.recurrence.transition import Transition


@dataclass(frozen=True)
class Forced(Cell):
    """Any cell, its state pulled towards the data before every step: h' = f(h + α (x - h), u), in the first `observed` numbers.

    Its input is u, then the observation x, then α.    [..., cell.width + observed + 1]

    Paper    Mikhaeil et al. 2022, arXiv:2110.07238 (sparse); Hess et al. 2023, arXiv:2306.04406 (generalised).
    """

    cell: Cell
    observed: int

    @property
    def size(self) -> int:
        return self.cell.size

    @property
    def width(self) -> int:
        return self.cell.width + self.observed + 1

    def operands(self) -> Operands | None:
        inner = self.cell.operands()
        # The kernel pulls units, not what an LSTM remembers.
        if inner is None or inner.observed or self.observed > (self.size // 2 if inner.kind == "lstm" else self.size):
            return None
        return inner._replace(observed=self.observed)

    def pull(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The state that is fed in, and what is left of the one before, [..., N] both."""
        target, alpha = x[..., self.cell.width : -1], x[..., -1:]
        seen, hidden = h[..., : self.observed], h[..., self.observed :]
        kept = torch.cat([(1 - alpha).expand(*alpha.shape[:-1], self.observed), torch.ones_like(hidden)], dim=-1)
        return torch.cat([seen + alpha * (target - seen), hidden], dim=-1), kept

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        return self.cell.step(self.pull(h, x)[0], x[..., : self.cell.width])

    def linearize(self, h: Tensor, x: Tensor) -> tuple[Tensor, Transition]:
        fed, kept = self.pull(h, x)
        value, A = linearize(self.cell, fed, x[..., : self.cell.width])
        return value, Diagonal(kept).compose(A)


class ForcedRun(NamedTuple):
    """What a cell did under forcing.

    Paper    Mikhaeil et al. 2022, arXiv:2110.07238 (sparse); Hess et al. 2023, arXiv:2306.04406 (generalised).
    """

    states: Tensor  # [B, T, N], after every step
    final_state: Tensor  # [B, N]
    forced: Tensor  # [B, T, N], the state fed into every step


def forcing(time: int, *, alpha: float = 1.0, interval: int = 1) -> Tensor:
    """α_t [T], float64: alpha at every `interval`-th step, none at the first, whose state is the one it starts from.

    Paper    Mikhaeil et al. 2022, arXiv:2110.07238 (sparse); Hess et al. 2023, arXiv:2306.04406 (generalised).
    Raises   ValueError for alpha outside [0, 1], time below 0 and interval below 1.
    """
    expect_count("time", time, 0)
    expect_count("interval", interval, 1)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}, expected a number from 0 (free) to 1 (the target itself)")
    t = torch.arange(time)
    return ((t > 0) & (t % interval == 0)).double() * alpha


@runs_as("cell_scan")
def forced_scan(
    cell: Cell,
    targets: Tensor,
    alpha: Tensor,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
) -> ForcedRun:
    """h~_t = h_{t-1} + α_t (x_t - h_{t-1}) in the first numbers of the state,  h_t = f(h~_t, u_t), with the targets as x.

    cell             anything with a state whose first numbers are those of the targets.
    targets          [B, T, observed].
    alpha            [T] or [B, T] in [0, 1], how far towards the target before each step; `forcing` makes the usual ones.
    inputs           [B, T, M], what else drives the cell; nothing otherwise.

    Paper    Mikhaeil et al. 2022, arXiv:2110.07238 (sparse); Hess et al. 2023, arXiv:2306.04406 (generalised).
    Raises   ValueError for shapes that do not fit, alpha outside [0, 1] (CPU); TypeError unless cell is a Cell, the rest real floats.
    """
    expect_cell(cell)
    expect_number("targets", targets)
    expect_axes("targets", targets, "batch, time, observed")
    expect_tensor("alpha", alpha)
    batch, time, observed = targets.shape
    if observed > cell.size:
        raise ValueError(f"targets have {observed} numbers a step, expected at most the {cell.size} of the cell's state")
    expect_real(alpha=alpha)
    expect_fraction("alpha", alpha)
    expect_shape("alpha", alpha, (time,) if alpha.ndim == 1 else (batch, time), "time" if alpha.ndim == 1 else "batch, time")
    if inputs is None:
        inputs = targets.new_zeros(batch, time, cell.width)
    expect_number("inputs", inputs)
    expect_shape("inputs", inputs, (batch, time, cell.width), "batch, time, width")
    strength = alpha.to(targets).expand(batch, time).unsqueeze(-1)
    x, forced = torch.cat([inputs.to(targets.dtype), targets, strength], dim=-1), Forced(cell, observed)
    states, final = cell_scan(forced, x, initial_state, reset)
    first = targets.new_zeros(batch, cell.size) if initial_state is None else initial_state
    before = torch.cat([first.to(states.dtype).unsqueeze(1), states], dim=1)[:, :time]
    return ForcedRun(states, final, forced.pull(filled(before, reset, 0), x)[0])
