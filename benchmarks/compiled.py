"""C++ compiled on the spot, where there is a compiler: the anchor of the selective scan and the multiply-add rate."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.rival import Absent, Inputs, Rival
from separatrix.machine import processor

FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-std=c++17", "-fPIC", "-pthread")
# Not linked with -ffast-math: loading such a library flushes denormals to zero in the whole process.
LINK = ("-shared", "-fPIC", "-pthread")
SOURCES = Path(__file__).parent
BUILT = SOURCES.parent / "build" / "benchmarks"


@functools.cache
def library(name: str) -> ctypes.CDLL:
    """`name`.cpp as a library, compiled once per source, flags and machine."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise Absent("no g++ or clang++ here")
    source = SOURCES / f"{name}.cpp"
    last: Exception | None = None
    for flags in (FLAGS, tuple(flag for flag in FLAGS if "vector-width" not in flag)):  # an x86 option
        key = hashlib.sha256(repr((compiler, flags, LINK, source.read_text(), processor())).encode()).hexdigest()[:16]
        built = BUILT / f"{name}-{key}.so"
        try:
            if not built.exists():
                BUILT.mkdir(parents=True, exist_ok=True)
                for command in ((*flags, "-c", str(source), "-o", f"{built}.o"), (*LINK, f"{built}.o", "-o", str(built))):
                    subprocess.run([compiler, *command], check=True, capture_output=True, timeout=120)
            return ctypes.CDLL(str(built))
        except subprocess.CalledProcessError as error:
            last = error
    raise Absent(f"{compiler} refused {source.name}") from last


def multiply_adds(threads: int) -> float:
    """Floating point operations a second in registers, the best of five."""
    function = library("floor").multiply_adds
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_int64, ctypes.c_int64]
    return max(function(threads, 1_000_000) for _ in range(5))


class _Scan:
    def __init__(self, inputs: Inputs, weight: Tensor):
        u, delta, A, B, C, D = (inputs[name].contiguous() for name in ("u", "delta", "A", "B", "C", "D"))
        if u.shape[2] % 16 or A.shape[1] > 256:
            raise Absent("the C++ scan wants channels in sixteens and at most 256 states")
        self.y, self.kept = torch.empty_like(u), (u, delta, A.T.contiguous(), B, C, D)
        pointers = [ctypes.c_void_p(x.data_ptr()) for x in (*self.kept, self.y)]
        sizes = [ctypes.c_int64(n) for n in (*u.shape, A.shape[1], torch.get_num_threads())]
        self.function = functools.partial(library("selective_scan").selective_scan, *pointers, *sizes)

    def forward(self) -> Tensor:
        self.function()
        return self.y

    def both(self) -> Tensor:
        raise NotImplementedError("the C++ scan is forward only")

    def read(self, result: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return result, {}


CPP_SCAN = Rival("C++, auto-vectorised", _Scan, trains=False)
