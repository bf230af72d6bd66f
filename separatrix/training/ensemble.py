"""The networks of a forecaster while they are fitted: each by itself, perhaps without some of the rows.

Paper    Hansen & Salamon 1990, doi:10.1109/34.58871 (ensembles); Krogh & Vedelsby 1995, Neural Network Ensembles, Cross Validation, and
         Active Learning (members that leave rows out).
"""

from __future__ import annotations

import copy
from typing import NamedTuple

from torch import Generator, Tensor

from separatrix.models.forecaster import ForecastModel
from separatrix.training.folds import LEADS, folds, out_of_fold, without
from separatrix.training.loop import Part
from separatrix.training.networks import build_network
from separatrix.training.recipe import Recipe, RunConfig
from separatrix.training.rollout import Rollout


class Ensemble(NamedTuple):
    """Members that run as one when they are fitted, and each of them by itself, as it is fitted.

    networks  member i alone; it hears the rows `hidden[i]` and is never fitted to them.
    """

    model: ForecastModel
    networks: list[ForecastModel]
    values: Tensor  # [T, C]
    hidden: list[range]

    @classmethod
    def of(cls, config: RunConfig, values: Tensor) -> Ensemble:
        """With fresh weights and the linear part, if there is one, fitted."""
        model = build_network(config.network, Generator().manual_seed(config.seed))
        model.measure_scale(values)
        scaled = model.scaled(values)
        orders, hidden = config.network.orders or None, left_out(config)
        model.start_linear(scaled, orders)
        return cls(model, [without(model.alone(i), scaled, rows, orders) for i, rows in enumerate(hidden)], values, hidden)

    def parts(self, recipe: Recipe) -> list[Part]:
        scaled = self.model.scaled(self.values)
        return [Part(network, Rollout([scaled], recipe, rows)) for network, rows in zip(self.networks, self.hidden)]

    def errors(self, share: float, heard: int, leads: int = LEADS) -> Tensor:
        """Out of fold, where that share of the correction is kept.    [F, n, H, C]"""
        shrunk = [copy.deepcopy(network).eval().keep_share(share) for network in self.networks]
        return out_of_fold(shrunk, self.values, self.hidden, heard, leads)


def left_out(config: RunConfig) -> list[range]:
    """The rows that each member is never fitted to; none for members that see all of them."""
    recipe, network = config.recipe, config.network
    if not recipe.left_out:
        return [range(0)] * network.members
    return folds(config.data.rows, recipe.context, recipe.left_out)[: network.members]
