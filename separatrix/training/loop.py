"""The loop: sample, loss, gradient, clip, step, average, watch, keep.

    for step in train(model, [Part(model, objective)], recipe, folder=..., seed=0):
        bar.update(step.done, step.loss)

The loop is an iterator, so whoever drives it draws, stops or measures; it prints nothing and touches no global state. All that is
random comes from one generator, which the checkpoint keeps: a fit that was cut and resumed writes the same losses as one that was not.
The parts of a model, such as the members of an ensemble, take their steps together, each with a batch, a loss and a clipped gradient of
its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Protocol

import torch
from torch import Generator, Tensor, nn

from separatrix.files import save_tensors
from separatrix.recurrence.checks import NotANumber
from separatrix.training.checkpoint import read_checkpoint, restore, save_checkpoint
from separatrix.training.crew import crew
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


class Part(NamedTuple):
    """A network, or one of several in a model, and what it is fitted to."""

    network: nn.Module
    objective: Objective


class Step(NamedTuple):
    """One finished optimizer step."""

    step: int  # steps finished, of
    steps: int
    loss: float
    done: float  # part of the work that is done, 0 to 1
    seconds: float  # since this call began
    left: float  # seconds still to go, as estimated from the work
    metrics: dict[str, float]


class Pull(NamedTuple):
    """What one part says of its batch; its gradient lies in its parameters, clipped if it is finite."""

    loss: float
    gradient: float  # the norm before clipping
    parts: dict[str, float]

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss) and math.isfinite(self.gradient)


def train(
    model: nn.Module, parts: Sequence[Part], recipe: Recipe, *, seed: int, folder: Path | None = None, resume: bool = False
) -> Iterator[Step]:
    """Fit `model` in place, one step an item; at the end it holds the average of its weights.

    parts   networks that share out the parameters of `model`, or `model` itself, each with its objective; all cost the same.
    folder  where checkpoint.safetensors and metrics.jsonl are kept (None: nowhere).
    resume  go on from the checkpoint there.
    """
    generator = Generator().manual_seed(seed)
    optimizer = adamw(model, recipe)
    mean = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    first, kept, spent = 0, None, 0.0
    checkpoint = None if folder is None else folder / CHECKPOINT
    if resume:
        if checkpoint is None:
            raise ValueError("resume needs the folder of the run to go on with. Pass folder.")
        found = read_checkpoint(checkpoint)
        restore(found, model, mean, optimizer, generator)
        first = kept = found.step
        spent = found.seconds
    work = [parts[0].objective.work(step) for step in range(recipe.steps)]
    before, total = sum(work[:first]), sum(work)
    behind, began = before, time.perf_counter()
    metrics = Metrics(None if folder is None else folder / METRICS, keep=first)
    step = first
    try:
        with crew(len(parts)) as hands:
            for step in range(first, recipe.steps):
                batches = [part.objective.sample(step, generator) for part in parts]
                optimizer.zero_grad(set_to_none=True)
                pulls = hands.each(lambda i: _pull(parts[i], batches[i], step, recipe.clip))  # noqa: B023  (done before the next)
                for part, pull, batch in zip(parts, pulls, batches):
                    if not pull.finite:
                        layer = first_bad_layer(model, lambda: part.objective.loss(part.network, batch, step))  # noqa: B023
                        good = None if kept is None else str(checkpoint)
                        raise Diverged(
                            step + 1, "gradient" if math.isfinite(pull.loss) else "loss", layer, good, _keep_batch(batch, folder)
                        )
                line = hands.together(lambda: _step(optimizer, recipe, pulls, step))  # noqa: B023
                hands.together(lambda: average(mean, model, recipe.average, step))  # noqa: B023
                metrics.write({"step": step + 1, **line})
                if checkpoint is not None and ((step + 1) % recipe.checkpoint == 0 or step + 1 == recipe.steps):
                    save_checkpoint(checkpoint, step + 1, spent + time.perf_counter() - began, model, mean, optimizer, generator)
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


def _pull(part: Part, batch: Batch, step: int, clip: float) -> Pull:
    try:
        loss, parts = part.objective.loss(part.network, batch, step)
    except NotANumber:  # a gated layer refuses it before there is a loss
        return Pull(math.nan, math.nan, {})
    if not bool(torch.isfinite(loss)):
        return Pull(float(loss.detach()), math.nan, {})
    loss.backward()
    gradients = [p.grad for p in part.network.parameters() if p.grad is not None]
    norm = norm_of(gradients)
    if bool(torch.isfinite(norm)):
        torch._foreach_mul_(gradients, (clip / norm).clamp(max=1.0))
    return Pull(float(loss.detach()), float(norm), {name: float(value) for name, value in parts.items()})


def _step(optimizer: torch.optim.Optimizer, recipe: Recipe, pulls: Sequence[Pull], step: int) -> dict[str, float]:
    """One optimizer step, and its line of metrics: means over parts, and the largest gradient and loss of any."""
    line = {"loss": fmean(pull.loss for pull in pulls)}
    line |= {name: fmean(pull.parts[name] for pull in pulls) for name in pulls[0].parts}
    line |= {"lr": set_rate(optimizer, recipe, step), "gradient": max(pull.gradient for pull in pulls)}
    if len(pulls) > 1:
        line["worst"] = max(pull.loss for pull in pulls)
    watched = (step + 1) % recipe.checkpoint == 0
    moving = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None] if watched else []
    before = [p.detach().clone() for p in moving]
    optimizer.step()
    if watched:
        with torch.no_grad():
            weights = norm_of([p.detach() for p in moving])
            line |= {"weights": float(weights), "update": float(norm_of(torch._foreach_sub(moving, before)) / weights)}
    return line


def _keep_batch(batch: Batch, folder: Path | None) -> str | None:
    """Where the batch of a fit that diverged was written."""
    if folder is None:
        return None
    save_tensors(folder / BAD_BATCH, batch)
    return str(folder / BAD_BATCH)
