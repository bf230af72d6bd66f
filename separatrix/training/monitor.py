"""What a fit watches while it runs, and how it ends when a number is no longer one.

    loss, |gradient|, |update| / |weights|, |state|                                                                (1)

Each step writes (1) as a line of metrics.jsonl. A loss or gradient that is not finite ends the fit by name: the step, the first layer
whose output (or the parameters whose gradient) is not finite, the checkpoint to go back to, and the batch that did it, saved.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from separatrix.files import write_text
from separatrix.recurrence.checks import NotANumber


class Diverged(FloatingPointError):
    """A fit whose loss or gradient is no longer finite.    .step, .layer, .checkpoint (None: there is none yet)"""

    def __init__(self, step: int, what: str, layer: str, checkpoint: str | None, batch: str | None):
        self.step, self.layer, self.checkpoint = step, layer, checkpoint
        kept = f"The last good checkpoint is {checkpoint}" if checkpoint else "There is no checkpoint yet"
        saved = f", the batch is in {batch}" if batch else ""
        super().__init__(
            f"the {what} is not finite at step {step}, first in {layer}. {kept}{saved}. Lower the learning rate or look at the data there."
        )


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a fit.    .step reached, .checkpoint to go on from (None: nothing is kept)"""

    def __init__(self, step: int, kept: int | None, checkpoint: str | None):
        self.step, self.kept, self.checkpoint = step, kept, checkpoint
        super().__init__(
            f"stopped at step {step}. Nothing is kept: there is no checkpoint yet."
            if checkpoint is None
            else f"stopped at step {step}. Step {kept} is kept in {checkpoint}: run the same fit again with resume to go on from there."
        )


def first_bad_layer(model: nn.Module, compute: Callable[[], Any]) -> str:
    """The innermost module whose output is the first to hold a NaN or an infinity while `compute` runs, or that refuses one of its own;
    else the bad gradients' names."""
    found: list[str] = []
    inside: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            inside.pop()
            if not found and any(isinstance(leaf, Tensor) and not _finite(leaf) for leaf in pytree.tree_leaves(output)):
                found.append(name)

        return hook

    named = [(name, module) for name, module in model.named_modules() if name]
    hooks = [module.register_forward_pre_hook(lambda module, args, name=name: inside.append(name)) for name, module in named]
    hooks += [module.register_forward_hook(watch(name)) for name, module in named]
    try:
        with torch.no_grad(), suppress(NotANumber):
            compute()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"the output of {found[0]}"
    if inside:
        return f"the inside of {inside[-1]}"
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    return f"the gradient of {', '.join(bad[:3])}" if bad else "the loss itself"


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(torch.view_as_real(tensor) if tensor.is_complex() else tensor).all())


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all entries together."""
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))


class Metrics:
    """Lines of a JSON-lines file. A run that goes on from step n keeps the lines up to n; a torn last line is dropped."""

    def __init__(self, path: Path | None, keep: int):
        self.file, self.path = None, path
        if path is None:
            return
        kept = [line for line in _lines(path) if line["step"] <= keep] if keep and path.exists() else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")

    def write(self, line: dict[str, Any]) -> None:
        if self.file is not None:
            try:
                self.file.write(json.dumps(line) + "\n")
                self.file.flush()
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from None

    def close(self) -> None:
        if self.file is not None:
            with suppress(OSError):  # of a line that could not be written, which was said then
                self.file.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, as far as they are whole."""
    return _lines(Path(path))


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict) or "step" not in line:  # the line a crash cut short, and nothing after it
            break
        lines.append(line)
    return lines
