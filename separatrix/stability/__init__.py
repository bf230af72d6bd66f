"""The instruments: spectra, exponents, long runs, horizons, gains. They take Systems, Transitions or arrays, never a model class."""

from separatrix.stability.character import Character, Closeness, character
from separatrix.stability.free_run import Fate, FreeRun, free_run
from separatrix.stability.gain import Gain, MeasuredGain, h_infinity, measured_gain, response_of
from separatrix.stability.horizon import Horizon, forecast_horizon, horizon_along
from separatrix.stability.lyapunov import Spectrum, exact_spectrum, lyapunov_spectrum
from separatrix.stability.memory import Memory, Reach, gradient_reach, memory_horizon
from separatrix.stability.number import Number, Verdict, weakest
from separatrix.stability.power import PowerSpectrum, dominant_period, power_spectrum
from separatrix.stability.rosenstein import Divergence, rosenstein
from separatrix.stability.spectra import Eigenvalues, eigenvalues_along, memory_steps

__all__ = [
    "Character",
    "Closeness",
    "Divergence",
    "Eigenvalues",
    "Fate",
    "FreeRun",
    "Gain",
    "Horizon",
    "MeasuredGain",
    "Memory",
    "Number",
    "PowerSpectrum",
    "Reach",
    "Spectrum",
    "Verdict",
    "character",
    "dominant_period",
    "eigenvalues_along",
    "exact_spectrum",
    "forecast_horizon",
    "free_run",
    "gradient_reach",
    "h_infinity",
    "horizon_along",
    "lyapunov_spectrum",
    "measured_gain",
    "memory_horizon",
    "memory_steps",
    "power_spectrum",
    "response_of",
    "rosenstein",
    "weakest",
]
