"""The objective of a forecaster: it is trained on what it will be used for.

    e = mean_{k=1..K} |ẑ_{t+k} - z_{t+k}|²,      o = mean_{s<t} |ẑ_{s+1} - z_{s+1}|²
    loss = mean over windows of  r log(1 + e / r) + weight * o                                                    (1)

After a context that ends at t the network hears itself for K steps; e is over those, o over the one-step forecasts inside the context.
Means are over measured values only: a gap is never a target, nor is a row that is left out to find out later how wrong forecasts of it are
(`folds.py`). K grows during the fit, since a network that cannot forecast one step learns nothing from its fortieth. The logarithm keeps a
window that has lost the data (e far above r) from drowning the gradient of those that have not: in a chaotic series some always have.

Paper    Bengio et al. 2015, arXiv:1506.03099 (why one's own outputs must be heard in training); Mikhaeil et al. 2022, arXiv:2110.07238
         (why the gradient through a chaotic free run must be cut at about the predictability time).
Cost     K steps of the network on `batch` rows, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Generator, Tensor

from separatrix.models.forecaster import ForecastModel
from separatrix.models.played import Played
from separatrix.recurrence.checks import expect_number, expect_real
from separatrix.training.recipe import Recipe


class Rollout:
    """The loss of free runs over random windows of measured stretches, for one network.

        loss = mean over windows of  r log(1 + e / r) + weight * o

    e is the mean square error of K steps in which the network hears itself after a context, o that of its one-step forecasts inside the
    context, each over measured values.

    stretches  each [T_i, C] in the network's units, NaN for gaps; a window never crosses from one into another.
    recipe     context, horizon (K grows to it), batch, noise, `lost` (r) and `teacher_weight`.
    hidden     rows, counted over all stretches, that are heard and are never a target.
    """

    def __init__(self, stretches: Sequence[Tensor], recipe: Recipe, hidden: range = range(0)):
        if not len(stretches):
            raise ValueError("stretches is empty but must hold at least one [time, channels].")
        for stretch in stretches:
            expect_number("a stretch", stretch)
            if stretch.ndim != 2 or stretch.shape[1] != stretches[0].shape[1]:
                raise ValueError(f"a stretch is {tuple(stretch.shape)} but all must be [time, channels], with the same channels.")
        self.recipe = recipe
        self.rows = torch.cat(list(stretches))
        expect_real(stretches=self.rows)
        if bool(torch.isinf(self.rows).any()):
            raise ValueError("stretches hold infinite values. Mark what is missing as NaN and repair the rest.")
        if len(hidden) and not 0 <= min(hidden) <= max(hidden) < len(self.rows):
            raise ValueError(f"hidden is {hidden} but there are {len(self.rows)} rows.")
        self.targets = self.rows.clone()
        self.targets[list(hidden)] = torch.nan
        self.gaps = bool(torch.isnan(self.rows).any())
        self.played: Played | None = None
        longest = recipe.context + recipe.horizon
        starts, first = [], 0
        for stretch in stretches:
            starts.append(torch.arange(first, first + max(0, len(stretch) - longest + 1)))
            first += len(stretch)
        self.starts = torch.cat(starts)
        if not len(self.starts):
            raise ValueError(
                f"the series has {len(self.rows)} rows but a window needs context + horizon = {recipe.context} + {recipe.horizon} "
                f"= {longest}. Choose a shorter horizon or context, or pass a longer series."
            )

    def sample(self, step: int, generator: Generator) -> dict[str, Tensor]:
        """heard [B, context, C], with noise; truth [B, context + K, C]."""
        recipe, K = self.recipe, self.recipe.horizon_at(step)
        chosen = self.starts[torch.randint(len(self.starts), (recipe.batch,), generator=generator)]
        window = chosen[:, None] + torch.arange(recipe.context + K)
        heard, truth = self.rows[window[:, : recipe.context]], self.targets[window]
        if recipe.noise:
            heard = heard + recipe.noise * torch.randn(heard.shape, generator=generator)
        return {"heard": heard, "truth": truth}

    def loss(self, model: ForecastModel, batch: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on what `sample` drew, and the numbers that a log keeps of it."""
        heard, truth = batch["heard"], batch["truth"]
        context = heard.shape[1]
        if self.played is None or self.played.model is not model:
            self.played = Played(model)
        guesses, state = self.played.listen(heard, None)
        said, state = self.played.roll(state, truth.shape[1] - context - 1)
        free = mean_square(torch.cat([said, cast(Tensor, state.guess)[:, None]], dim=1), truth[:, context:])  # [B]
        lost = self.recipe.lost * torch.log1p(free / self.recipe.lost)
        known = min(model.lags, context - 1)  # forecasts from a delay window that is not yet full do not count
        teacher = mean_square(guesses[:, known - 1 : -1], truth[:, known:context]).mean()
        largest = state.detach().vector().abs().amax()
        return lost.mean() + self.recipe.teacher_weight * teacher, {
            "free": free.detach().mean(), "teacher": teacher.detach(), "horizon": torch.tensor(truth.shape[1] - context), "state": largest,
        }  # fmt: skip

    def work(self, step: int) -> float:
        """In steps of a program (`played.py`): a context at once and the update cost about thirty, a context with gaps its rows more."""
        return self.recipe.horizon_at(step) + 30.0 + (self.recipe.context if self.gaps else 0)


def mean_square(guess: Tensor, truth: Tensor) -> Tensor:
    """Mean of (guess - truth)² where truth is measured, 0 where nothing is.    [B, T, C] -> [B]"""
    measured = ~torch.isnan(truth)
    error = torch.where(measured, guess - torch.where(measured, truth, 0.0), 0.0)
    return error.square().sum((1, 2)) / measured.sum((1, 2)).clamp(min=1)
