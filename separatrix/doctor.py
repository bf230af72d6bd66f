"""What runs where: versions, threads, the processor's abilities, and the form each operation takes on this machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any, NamedTuple

import torch

from separatrix.machine import processor, versions

REQUIRED = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "safetensors",
    "filelock",
    "pydantic",
    "typer",
    "rich",
    "matplotlib",
    "jinja2",
    "threadpoolctl",
)
OPTIONAL = ("pandas", "pyarrow")
FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_bf16", "amx-bf16", "neon", "sve")
LENGTHS = (1, 1024)  # steps at which the form of an operation is asked for: generation, and a training window


class Examination(NamedTuple):
    versions: dict[str, str]  # what is installed; "" where an extra is not
    machine: dict[str, str]
    threads: dict[str, str]
    operations: dict[str, dict[int, tuple[str, str]]]  # operation -> steps -> (form, why)
    composed: dict[str, str]  # function -> the operation that it runs as


def examine() -> Examination:
    """Look, changing nothing."""
    return Examination(versions(REQUIRED + OPTIONAL, absent=""), abilities(), thread_counts(), *operations())


def abilities() -> dict[str, str]:
    from llvmlite import binding

    from separatrix.recurrence.kernels import kept

    features = binding.get_host_cpu_features()
    gpu = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor() or binding.get_host_cpu_name(),
        "instructions": ", ".join(name for name in FEATURES if features.get(name)) or "none that the kernels look for",
        "torch uses": torch.backends.cpu.get_cpu_capability(),
        "GPU": gpu or "none",
        "float32 matmul": f"precision {torch.get_float32_matmul_precision()!r}",
        "kernels are kept": kept.where(),
    }


def thread_counts() -> dict[str, str]:
    import numba
    from threadpoolctl import threadpool_info

    found = {
        "cores": f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} usable of {os.cpu_count()}",
        "torch": f"{torch.get_num_threads()} inside an operation, {torch.get_num_interop_threads()} between operations",
        "numba": f"{numba.get_num_threads()} of {numba.config.NUMBA_NUM_THREADS}",  # type: ignore[attr-defined]
    }
    for pool in threadpool_info():
        label = f"{pool['internal_api']} {pool['version'] or ''}".strip()
        found[f"{label} ({Path(pool['filepath']).name})"] = str(pool["num_threads"])
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if variable in os.environ:
            found[variable] = os.environ[variable]
    return found


def operations() -> tuple[dict[str, dict[int, tuple[str, str]]], dict[str, str]]:
    from separatrix.recurrence.plan import COMPOSED, OPERATIONS, choose

    return {name: {steps: choose(name, (), steps) for steps in LENGTHS} for name in sorted(OPERATIONS)}, dict(sorted(COMPOSED.items()))


def as_dict(examination: Examination) -> dict[str, Any]:
    """For JSON."""
    forms = {
        name: {str(steps): {"form": form, "why": why} for steps, (form, why) in at.items()} for name, at in examination.operations.items()
    }
    return examination._asdict() | {"operations": forms}
