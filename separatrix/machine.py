"""What this process runs on, for whoever reports it: the machine, and the versions of packages."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import separatrix


def processor() -> str:
    """The processor's name in words, "" where nobody tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a kernel without this line (ARM)
        return platform.processor()


def installed(package: str) -> str:
    """The version of an installed package, "" where there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def versions(packages: Iterable[str] = ("torch", "numpy", "scipy", "numba", "safetensors"), absent: str = "missing") -> dict[str, str]:
    """Of Python, of separatrix and of packages; `absent` for one that is not there, which is the caller's news, not ours."""
    own = {"python": platform.python_version(), "separatrix": separatrix.__version__}
    return own | {name: installed(name) or absent for name in packages}


def this_machine() -> dict[str, str | int]:
    """What belongs to the record of a run: where the same call may give other numbers, or take another time."""
    import torch

    return {
        "system": platform.platform(),
        "processor": processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
    }
