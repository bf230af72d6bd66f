"""From the words of a configuration to networks with fresh weights."""

from __future__ import annotations

from torch import Generator, nn

from separatrix.mixers import build_mixer
from separatrix.models.backbone import Backbone
from separatrix.models.forecaster import ForecastModel
from separatrix.models.pointwise import Pointwise
from separatrix.training.recipe import Network

MEMORYLESS = "mlp"


def build_network(network: Network, generator: Generator) -> ForecastModel:
    """The networks of a configuration, with fresh weights."""
    backbones = [_backbone(network, generator) for _ in range(network.members)]
    return ForecastModel(network.channels, backbones, lags=network.lags, mask=network.mask, linear=network.linear, generator=generator)


def _backbone(network: Network, generator: Generator) -> nn.Module:
    width = network.d_model
    if network.mixer == MEMORYLESS:
        return Pointwise(width, layers=network.layers + 1, d_ff=network.d_ff, generator=generator)
    mixers = [build_mixer(network.mixer, width, generator=generator, **network.settings) for _ in range(network.layers)]
    return Backbone(width, mixers, network.d_ff, generator=generator)
