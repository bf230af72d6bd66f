"""How the parts of a kernel are compiled.

Numba counts the references to an array up and down, a call and an atomic each, in every function that is given one. Those calls save and
clear the vector registers, and the threads of a team fight over one counter: a dense scan spent three quarters of its time on them. So the
functions here are compiled without reference counting. They may not make arrays, nor slices of them; kernels make the scratch and hand it
down. Nor do they look for zeros before they divide: x / 0 is infinite, as it is in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from separatrix.recurrence.kernels.kept import njit

Function = TypeVar("Function", bound=Callable)


def compiled(function: Function) -> Function:
    return njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)  # type: ignore[call-overload]
