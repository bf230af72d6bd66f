"""A fit in one file: weights, their average, the optimizer's moments, the generator, and the step.

One safetensors file, replaced atomically, so there is always a whole one; nothing is pickled. The step's number and nothing else is
needed beside it, because rates and horizons are functions of the step. The seconds that were spent are kept for the report.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Generator, Tensor, nn

from separatrix.files import save_tensors

FORMAT = "separatrix-checkpoint-1"


class Checkpoint(NamedTuple):
    step: int
    seconds: float  # spent up to this step, in all calls; NaN where an earlier version did not keep them
    tensors: dict[str, Tensor]


def save_checkpoint(
    path: Path,
    step: int,
    seconds: float,
    model: nn.Module,
    mean: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    generator: Generator,
) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in mean.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    tensors["generator"] = generator.get_state()
    save_tensors(path, tensors, {"format": FORMAT, "progress": json.dumps({"step": step, "seconds": seconds})})


def read_checkpoint(path: Path) -> Checkpoint:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of this library (format {metadata.get('format')!r}). Start the fit again without resume."
        )
    progress = json.loads(metadata["progress"])
    return Checkpoint(int(progress["step"]), float(progress.get("seconds", "nan")), tensors)


def restore(
    checkpoint: Checkpoint, model: nn.Module, mean: dict[str, Tensor], optimizer: torch.optim.Optimizer, generator: Generator
) -> None:
    """Put a checkpoint back, bit for bit; every tensor must be there with its shape."""
    tensors = checkpoint.tensors
    copy_into(model.state_dict(), tensors, "model.")
    copy_into(mean, tensors, "average.")
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        state = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix) and "." not in key.removeprefix(prefix)
        }
        if state:
            optimizer.state[parameter] = state
    generator.set_state(tensors["generator"])


def adopt(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a model the numbers of a file in the precision that they were saved in, whatever torch's default is now."""
    for name, own in (*model.named_parameters(), *model.named_buffers()):
        if name in tensors and tensors[name].is_floating_point():
            own.data = own.data.to(tensors[name].dtype)
    copy_into(model.state_dict(), tensors)


@torch.no_grad()
def copy_into(into: dict[str, Tensor], tensors: dict[str, Tensor], prefix: str = "") -> None:
    for name, target in into.items():
        source = tensors.get(prefix + name)
        if source is None or source.shape != target.shape:
            came = "is missing" if source is None else f"is {tuple(source.shape)}"
            raise ValueError(
                f"{prefix}{name} {came} in the file but the model has {tuple(target.shape)}: the file belongs to another model."
            )
        if source.dtype != target.dtype:
            raise ValueError(
                f"{prefix}{name} is {source.dtype} in the file but {target.dtype} here. Go on with torch's default dtype as it was then: "
                f"torch.set_default_dtype({source.dtype})."
            )
        target.copy_(source)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of a safetensors file, in memory of its own, and the file's metadata."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Give the folder of a run that has one.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118  (not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}). Use another copy, or fit again.") from None
