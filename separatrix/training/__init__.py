"""Fitting without blowing up: the loop, what it watches, what it keeps, and the forecaster that everybody calls."""

from separatrix.training.forecaster import Forecaster, Interval
from separatrix.training.loop import Objective, Part, Step, train
from separatrix.training.monitor import Diverged, Interrupted, read_metrics
from separatrix.training.nonlinearity import nonlinearity
from separatrix.training.recipe import Network, Recipe, RunConfig
from separatrix.training.rollout import Rollout

__all__ = [
    "Diverged",
    "Forecaster",
    "Interrupted",
    "Interval",
    "Network",
    "Objective",
    "Part",
    "Recipe",
    "Rollout",
    "RunConfig",
    "Step",
    "nonlinearity",
    "read_metrics",
    "train",
]
