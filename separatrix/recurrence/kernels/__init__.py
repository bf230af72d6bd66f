"""Numba kernels for the CPU: the fused form of every operation.

Numba compiles a kernel the first time it meets a combination of arguments (with or without a decay, resets, a gate ...), and
`kept.py` keeps the machine code on disk, beside this package or in the user's cache folder. `recurrence/warmup.py` meets every
combination now.
"""

from pathlib import Path

if not Path(__file__).is_file():
    raise ImportError(f"separatrix compiles kernels from its files, which {Path(__file__).parents[3]} packs up. Install it with pip.")
try:
    import numba  # noqa: F401
except ImportError as error:
    raise ImportError(f"separatrix compiles its kernels with numba, which does not load ({error}): pip install -U numba") from None
