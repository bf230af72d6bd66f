"""Reference computations of published implementations, as numbers (README.md tells what each file holds).

`load("gla_b")` gives a `Case`: inputs, outputs, the random weights of the losses and the gradients, in float64 (complex128 where complex).
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

FOLDER = Path(__file__).parent
VARIANTS = ("a", "b", "c", "d", "real", "complex", "negative")


class Case(NamedTuple):
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    weights: dict[str, Tensor]  # of the losses: sum(Re(output) * weight)
    gradients: dict[str, dict[str, Tensor]]  # by output, then by input
    options: dict[str, str]


def load(name: str) -> Case:
    tensors, options = load_raw(name)
    gradients: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("grad_"):
            output, _, source = key.removeprefix("grad_").partition(".")
            gradients.setdefault(output, {})[source] = value
    return Case(_under("in.", tensors), _under("out.", tensors), _under("w.", tensors), gradients, options)


def load_raw(name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor under its stored name, complex ones put together, and the metadata."""
    with safe_open(FOLDER / f"{name}.safetensors", framework="pt") as file:
        options = file.metadata() or {}
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  (not a dict)
    together = json.loads(options.get("complex", "[]"))
    return {key: torch.view_as_complex(value) if key in together else value for key, value in tensors.items()}, options


def close(got: Tensor, want: Tensor) -> None:
    """To 1e-10 of the largest number."""
    assert got.dtype == want.dtype and got.shape == want.shape
    assert (got - want).abs().max() <= 1e-10 * want.abs().max()


def names(case: str) -> list[str]:
    """The variants of a case: names("gla") is ["gla_a", "gla_b", "gla_c"], names("lru") is ["lru"]."""
    variants = [case, *(f"{case}_{variant}" for variant in VARIANTS)]
    return [name for name in variants if (FOLDER / f"{name}.safetensors").exists()]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
