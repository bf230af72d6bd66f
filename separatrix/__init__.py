"""Run, shape and measure sequence models as dynamical systems.

    import separatrix as sx
    sx.Forecaster("s4d").fit(sx.data.load("laser")).predict(100)

Rooms are imported when they are first named, so that `import separatrix` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from separatrix import claims, data, mixers, models, papers, recurrence, report, stability, systems, tasks, training
    from separatrix.training import Forecaster

__version__ = "0.1.0"
__all__ = [
    "Forecaster",
    "claims",
    "data",
    "mixers",
    "models",
    "papers",
    "recurrence",
    "report",
    "stability",
    "systems",
    "tasks",
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'separatrix' has no attribute {name!r}")
    if name == "Forecaster":
        return importlib.import_module("separatrix.training").Forecaster
    return importlib.import_module(f"separatrix.{name}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
