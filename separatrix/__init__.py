"""Run, shape and measure sequence models as dynamical systems."""

__version__ = "0.1.0"
