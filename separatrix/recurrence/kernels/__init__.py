"""Numba kernels for the CPU: the fused form of every operation.

Numba compiles a kernel the first time it meets a combination of arguments (with or without a decay, resets, a gate ...), and
`kept.py` keeps the machine code on disk, beside this package or in the user's cache folder. `recurrence/warmup.py` meets every
combination now.
"""
