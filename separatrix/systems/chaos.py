"""Chaotic flows and maps, with what is known about them.

Each is a rule of a line or three; parameters, a state on the attractor and a time step are data. `dt` is about a hundredth to
five hundredth of the dominant period, where the Runge-Kutta step changes no exponent by more than its statistical error.

Exponents are natural logs per unit of time (per iteration for maps), largest first. They were computed with this library by
tangent dynamics over 10⁷ steps unless a paper is named, and the tests compute them again and also compare them with an
independent calculation.

Paper    Sprott 2003, Chaos and Time-Series Analysis, Oxford University Press, appendix A (Lorenz, Rossler, Chen, Rucklidge,
         SprottB, Henon, logistic); Lorenz 1963, J. Atmos. Sci. 20:130-141; Dadras & Momeni 2009, Phys. Lett. A 373:3637-3642;
         Lorenz 1996, Predictability: a problem partly solved, ECMWF; Gilpin 2021, arXiv:2110.05266 (parameters and periods).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from separatrix.systems.flow import Flow
from separatrix.systems.map import Map
from separatrix.systems.system import Known

Components = Sequence[Any]  # tensors in torch, numbers in Numba


def lorenz_field(state: Components, sigma: float, rho: float, beta: float) -> Components:
    x, y, z = state
    return sigma * (y - x), x * (rho - z) - y, x * y - beta * z


def rossler_field(state: Components, a: float, b: float, c: float) -> Components:
    x, y, z = state
    return -y - z, x + a * y, b + z * (x - c)


def chen_field(state: Components, a: float, b: float, c: float) -> Components:
    x, y, z = state
    return a * (y - x), (c - a) * x - x * z + c * y, x * y - b * z


def halvorsen_field(state: Components, a: float, b: float) -> Components:
    x, y, z = state
    return -a * x - b * (y + z) - y * y, -a * y - b * (z + x) - z * z, -a * z - b * (x + y) - x * x


def rucklidge_field(state: Components, a: float, b: float) -> Components:
    x, y, z = state
    return -a * x + b * y - y * z, x, y * y - z


def sprott_b_field(state: Components) -> Components:
    x, y, z = state
    return y * z, x - y, 1.0 - x * y


def dadras_field(state: Components, c: float, e: float, o: float, p: float, r: float) -> Components:
    x, y, z = state
    return y - p * x + o * y * z, r * y - x * z + z, c * x * y - e * z


def lorenz96_field(state: Components, f: float) -> Components:
    n = len(state)  # any number of sites on the ring
    return [(state[(i + 1) % n] - state[(i + n - 2) % n]) * state[(i + n - 1) % n] - state[i] + f for i in range(n)]


def henon_rule(state: Components, a: float, b: float) -> Components:
    x, y = state
    return 1.0 - a * x * x + y, b * x


def logistic_rule(state: Components, r: float) -> Components:
    (x,) = state
    return (r * x * (1.0 - x),)


def _spectrum(*value: float, within: float, source: str = "this library, 10^7 steps") -> dict[str, Known]:
    return {"lyapunov": Known(value, source, within)}


lorenz = Flow(
    lorenz_field, {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3}, (-9.7869288, -15.03852, 20.533978), dt=0.01,
    known=_spectrum(0.9056, 0.0, -14.5723, source="Sprott 2003", within=0.001),
)  # fmt: skip
rossler = Flow(
    rossler_field, {"a": 0.2, "b": 0.2, "c": 5.7}, (6.5134412, 0.4772013, 0.34164294), dt=0.02,
    known=_spectrum(0.0714, 0.0, -5.3943, source="Sprott 2003", within=0.001),
)  # fmt: skip
chen = Flow(
    chen_field, {"a": 35.0, "b": 3.0, "c": 28.0}, (3.2689697, 5.2990458, 19.435349), dt=0.002,
    known=_spectrum(2.034, 0.0, -12.034, within=0.005),
)  # fmt: skip
halvorsen = Flow(
    halvorsen_field, {"a": 1.4, "b": 4.0}, (-8.6807408, -2.4741399, 0.070775762), dt=0.005,
    known=_spectrum(0.678, 0.0, -4.878, within=0.005),
)  # fmt: skip
rucklidge = Flow(
    rucklidge_field, {"a": 2.0, "b": 6.7}, (1.9257158, 3.1923835, 5.7829655), dt=0.02,
    known=_spectrum(0.1919, 0.0, -3.1919, within=0.005),
)  # fmt: skip
sprott_b = Flow(
    sprott_b_field, {}, (1.6878282, 1.4848132, -0.53706628), dt=0.04,
    known=_spectrum(0.2101, 0.0, -1.2101, within=0.005),
)  # fmt: skip
dadras = Flow(
    dadras_field, {"c": 2.0, "e": 9.0, "o": 2.7, "p": 3.0, "r": 1.7}, (1.0284085, -3.5348655, -0.72081646), dt=0.01,
    known=_spectrum(0.372, 0.0, -10.672, within=0.005),
)  # fmt: skip
lorenz96 = Flow(
    lorenz96_field, {"f": 20.0}, (-2.46820633, 0.09570264, 1.59270902, 10.21372147), dt=0.005,
    known=_spectrum(1.194, 0.0, -1.577, -3.617, within=0.005),
)  # fmt: skip
henon = Map(
    henon_rule, {"a": 1.4, "b": 0.3}, (0.1, 0.1),
    known=_spectrum(0.41922, -1.62319, source="Sprott 2003", within=0.001),
)  # fmt: skip
logistic = Map(
    logistic_rule, {"r": 3.9}, (0.51,),
    known=_spectrum(0.4959, within=0.005),
)  # fmt: skip

SYSTEMS: dict[str, Flow | Map] = {
    "lorenz": lorenz, "rossler": rossler, "chen": chen, "halvorsen": halvorsen, "rucklidge": rucklidge,
    "sprott_b": sprott_b, "dadras": dadras, "lorenz96": lorenz96, "henon": henon, "logistic": logistic,
}  # fmt: skip
