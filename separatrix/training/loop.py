"""The loop: sample, loss, gradient, clip, step, average, watch, keep.

    for step in train(model, objective, recipe, folder=..., seed=0):
        bar.update(step.done, step.loss)

The loop is an iterator, so whoever drives it draws, stops or measures; it prints nothing and touches no global state. All that is
random comes from one generator, which the checkpoint keeps: a fit that was cut and resumed writes the same losses as one that was not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from separatrix.files import save_tensors
from separatrix.recurrence.checks import NotANumber
from separatrix.training.checkpoint import read_checkpoint, restore, save_checkpoint
from separatrix.training.monitor import Diverged, Interrupted, Metrics, first_bad_layer, norm_of
from separatrix.training.optimizer import adamw, average, set_rate
from separatrix.training.recipe import Recipe

CHECKPOINT, METRICS, BAD_BATCH = "checkpoint.safetensors", "metrics.jsonl", "bad-batch.safetensors"
Batch = dict[str, Tensor]


class Objective(Protocol):
    """What is fitted."""

    def sample(self, step: int, generator: Generator) -> Batch: ...
    def loss(self, model: Any, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and what else is worth a number in the metrics."""
        ...

    def work(self, step: int) -> float:
        """What this step costs, in any unit: the bar and the time left count it."""
        ...


class Step(NamedTuple):
    """One finished optimizer step."""

    step: int  # steps finished, of
    steps: int
    loss: float
    done: float  # part of the work that is done, 0 to 1
    seconds: float  # since this call began
    left: float  # seconds still to go, as estimated from the work
    metrics: dict[str, float]


def train(
    model: nn.Module, objective: Objective, recipe: Recipe, *, seed: int, folder: Path | None = None, resume: bool = False
) -> Iterator[Step]:
    """Fit `model` in place, one step an item; at the end it holds the average of its weights.

    folder  where checkpoint.safetensors and metrics.jsonl are kept (None: nowhere).
    resume  go on from the checkpoint there.
    """
    generator = Generator().manual_seed(seed)
    optimizer = adamw(model, recipe)
    mean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    first, kept = 0, None
    checkpoint = None if folder is None else folder / CHECKPOINT
    if resume:
        if checkpoint is None:
            raise ValueError("resume needs the folder of the run to go on with. Pass folder.")
        found = read_checkpoint(checkpoint)
        restore(found, model, mean, optimizer, generator)
        first = kept = found.step
    work = [objective.work(step) for step in range(recipe.steps)]
    before, total = sum(work[:first]), sum(work)
    behind, began = before, time.perf_counter()
    metrics = Metrics(None if folder is None else folder / METRICS, keep=first)
    step = first
    try:
        for step in range(first, recipe.steps):
            batch = objective.sample(step, generator)
            line = _advance(model, objective, recipe, optimizer, batch, step, folder, None if kept is None else str(checkpoint))
            average(mean, model, recipe.average, step)
            metrics.write({"step": step + 1, **line})
            if checkpoint is not None and ((step + 1) % recipe.checkpoint == 0 or step + 1 == recipe.steps):
                save_checkpoint(checkpoint, step + 1, model, mean, optimizer, generator)
                kept = step + 1
            behind += work[step]
            seconds = time.perf_counter() - began
            left = seconds * (total - behind) / max(behind - before, 1e-12)
            yield Step(step + 1, recipe.steps, line["loss"], behind / total, seconds, left, line)
    except KeyboardInterrupt:
        raise Interrupted(step, kept, None if kept is None else str(checkpoint)) from None
    finally:
        metrics.close()
    model.load_state_dict(mean)


def _advance(
    model: nn.Module, objective: Objective, recipe: Recipe, optimizer: torch.optim.Optimizer, batch: Batch, step: int,
    folder: Path | None, checkpoint: str | None,
) -> dict[str, float]:  # fmt: skip
    """One optimizer step, and its line of metrics; `Diverged` when the loss or the gradient is not finite."""
    lr = set_rate(optimizer, recipe, step)
    optimizer.zero_grad(set_to_none=True)
    try:
        loss, parts = objective.loss(model, batch, step)
    except NotANumber:  # a gated layer refuses it before there is a loss
        loss = torch.tensor(torch.nan)
    finite = bool(torch.isfinite(loss))
    if finite:
        loss.backward()
        moving = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in moving]
        gradient = norm_of(gradients)
    if not finite or not bool(torch.isfinite(gradient)):
        layer = first_bad_layer(model, lambda: objective.loss(model, batch, step))
        saved = None if folder is None else str(folder / BAD_BATCH)
        if saved is not None:
            save_tensors(saved, batch)
        raise Diverged(step + 1, "gradient" if finite else "loss", layer, checkpoint, saved)
    torch._foreach_mul_(gradients, (recipe.clip / gradient).clamp(max=1.0))
    line = {"loss": float(loss.detach()), **{name: float(value) for name, value in parts.items()}, "lr": lr, "gradient": float(gradient)}
    watched = (step + 1) % recipe.checkpoint == 0
    before = [p.detach().clone() for p in moving] if watched else []
    optimizer.step()
    if watched:
        with torch.no_grad():
            weights = norm_of([p.detach() for p in moving])
            line |= {"weights": float(weights), "update": float(norm_of(torch._foreach_sub(moving, before)) / weights)}
    return line
