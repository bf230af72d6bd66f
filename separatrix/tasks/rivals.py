"""A network of another kind to hold a forecaster against: as many parameters, the same recipe, the same rows."""

from __future__ import annotations

import math

from torch import Generator

from separatrix.data import Series
from separatrix.models.forecaster import ForecastModel
from separatrix.training import Forecaster, RunConfig
from separatrix.training.networks import build_network


def rival(name: str, config: RunConfig, rows: Series) -> Forecaster:
    """An unfitted forecaster with the settings of `config` but for its mixer: `name`, by its own defaults, and as wide (a multiple of 4) as
    makes it about as large."""
    network = config.network
    target = parameters(build_network(network, Generator()))

    def at(d_model: int) -> RunConfig:
        return config.model_copy(update=dict(network=network.model_copy(update=dict(mixer=name, d_model=d_model, settings={}))))

    planned = Forecaster.of(at(network.d_model)).plan(rows).network  # with the settings that a forecaster chooses for this mixer

    def off(d_model: int) -> float:
        try:
            return abs(parameters(build_network(planned.model_copy(update=dict(d_model=d_model, d_ff=2 * d_model)), Generator())) - target)
        except ValueError:  # heads that do not divide this width
            return math.inf

    return Forecaster.of(at(min(range(4, 2 * network.d_model + 1, 4), key=off)))


def parameters(model: ForecastModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
