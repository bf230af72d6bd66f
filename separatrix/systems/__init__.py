"""Worlds whose dynamics are known: linear systems, chaotic flows and maps, and the protocol that makes anything a system."""

from separatrix.systems.chaos import (
    SYSTEMS,
    chen,
    dadras,
    halvorsen,
    henon,
    logistic,
    lorenz,
    lorenz96,
    rossler,
    rucklidge,
    sprott_b,
)
from separatrix.systems.flow import Flow
from separatrix.systems.linear import LinearSystem
from separatrix.systems.map import Map
from separatrix.systems.system import (
    Known,
    Pushed,
    PushesTangents,
    RunsItself,
    System,
    push_forward,
    push_tangents,
    trajectory,
)

__all__ = [
    "SYSTEMS",
    "Flow",
    "Known",
    "LinearSystem",
    "Map",
    "Pushed",
    "PushesTangents",
    "RunsItself",
    "System",
    "chen",
    "dadras",
    "halvorsen",
    "henon",
    "logistic",
    "lorenz",
    "lorenz96",
    "push_forward",
    "push_tangents",
    "rossler",
    "rucklidge",
    "sprott_b",
    "trajectory",
]
