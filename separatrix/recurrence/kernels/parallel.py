"""Sharing a kernel's independent units among the threads torch already has.

Numba's own thread teams abort the process after a fork (OpenMP) or when two callers meet (workqueue), and a second pool beside torch's
fights it for the cores. So a kernel's units run on torch's own OpenMP team, whose threads are still awake from the last operation: a
region costs some 5 us, where waking a Python thread costs 100. `spawn` is the OpenMP `parallel` directive spelled as a Numba intrinsic;
the team's entry points arrive as addresses at run time, so compiled code may be cached. Without libgomp (Windows, some builds) and in a
forked child, where OpenMP teams do not survive, the units run on Python threads instead: our kernels release the GIL.

Small problems never leave the calling thread. The number of shares follows `torch.get_num_threads()`, which is read and never set; every
unit is computed the same way whatever the sharing, so results do not depend on it.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from separatrix.recurrence.kernels.kept import njit
from separatrix.recurrence.kernels.vectors import llvm_call

# A parallel region costs 5 us on a quiet machine but a time slice on a busy one: from about 100 us of work on.
WORTH_A_TEAM = 2_000_000
# Waking Python threads pays from about 200 us on.
WORTH_THREADS = 4_000_000

_forked = False

_I32, _I64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()


@intrinsic
def spawn(typingctx, kernel, team, threads, first, last, args):
    """kernel(i, j, *args) on each of `threads` threads, [i, j) its share of range(first, last); a plain call when threads is 1.

    team: addresses of (GOMP_parallel, omp_get_thread_num, omp_get_num_threads).
    """
    signature = kernel.get_call_type(typingctx, (types.intp, types.intp, *args.types), {})

    def build(context, builder, sig, values):
        _, team_value, thread_count, start, stop, given = values
        arrays = [_uncounted(context, builder, kind, value) for kind, value in zip(args.types, cgutils.unpack_tuple(builder, given))]
        arguments = context.make_tuple(builder, args, arrays)
        compiled = kernel.dispatcher.overloads[signature.args]
        context.active_code_library.add_linking_library(compiled.library)
        parallel, thread_num, num_threads = cgutils.unpack_tuple(builder, team_value, 3)
        shared = cgutils.pack_struct(builder, [start, stop, thread_num, num_threads, arguments])
        slot = cgutils.alloca_once_value(builder, shared)
        with builder.if_else(builder.icmp_signed(">", thread_count, ir.Constant(_I64, 1))) as (many, one):
            with many:
                body = _share_of_one_thread(context, builder.module, compiled, signature, shared.type)
                region = ir.FunctionType(ir.VoidType(), [body.type, _POINTER, _I32, _I32]).as_pointer()
                builder.call(
                    builder.inttoptr(parallel, region),
                    [body, builder.bitcast(slot, _POINTER), builder.trunc(thread_count, _I32), ir.Constant(_I32, 0)],
                )
            with one:
                _call(context, builder, compiled, signature, start, stop, arguments)
        return context.get_dummy_value()

    return types.void(kernel, team, threads, first, last, args), build


def _uncounted(context, builder, kind, value):
    """An array whose references nobody counts: the caller of the kernel holds it, and a team would fight over the counter."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = ir.Constant(array.meminfo.type, None)
    return array._getvalue()


def _share_of_one_thread(context, module, compiled, signature, shared_type) -> ir.Function:
    """void share(shared *). The team may be smaller than asked for (nested regions), so its size is asked inside."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_POINTER]), name=module.get_unique_name("share"))
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    shared = builder.load(builder.bitcast(function.args[0], shared_type.as_pointer()))
    start, stop, thread_num, num_threads, arguments = cgutils.unpack_tuple(builder, shared, 5)
    ask = ir.FunctionType(_I32, []).as_pointer()
    me, team = (builder.sext(builder.call(builder.inttoptr(address, ask), []), _I64) for address in (thread_num, num_threads))
    units = builder.sub(stop, start)
    edges = [builder.add(start, builder.sdiv(builder.mul(units, number), team)) for number in (me, builder.add(me, ir.Constant(_I64, 1)))]
    _call(context, builder, compiled, signature, edges[0], edges[1], arguments)
    builder.ret_void()
    return function


def _call(context, builder, compiled, signature, first, last, arguments) -> None:
    values = [first, last, *cgutils.unpack_tuple(builder, arguments, len(signature.args) - 2)]
    callee = context.declare_function(builder.module, compiled.fndesc)
    with denormals_are_zero(context, builder):
        context.call_conv.call_function(builder, callee, signature.return_type, signature.args, values)


@contextmanager
def denormals_are_zero(context, builder) -> Iterator[None]:
    """What is built inside runs with numbers below 1.2e-38 taken for 0 on this thread, on x86, where each costs some 150 cycles.

    A state that fades while nothing comes in (padding, silence) ends there and stays: the scan of such a sequence took 400 times as long.
    """
    if not context.codegen().magic_tuple()[0].startswith(("x86_64", "i686", "i386")):
        yield
        return
    ours, theirs = cgutils.alloca_once(builder, _I32), cgutils.alloca_once(builder, _I32)
    byte = ir.IntType(8).as_pointer()
    llvm_call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(theirs, byte))
    builder.store(builder.or_(builder.load(theirs), ir.Constant(_I32, 0x8040)), ours)  # flush results, read operands as 0
    llvm_call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(ours, byte))
    yield
    llvm_call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(theirs, byte))


def shared(kernel: Any) -> Any:
    """A compiled kernel(first, last, *args) that `share` can run: the launcher that it needs is compiled, and kept on disk, as its own."""
    function: Any = getattr(kernel, "py_func", kernel)
    theirs, name = function.__code__, f"{function.__name__}_shared"  # machine code on disk is found by file, name and line
    ours = _launch.__code__.replace(co_filename=theirs.co_filename, co_firstlineno=theirs.co_firstlineno, co_name=name, co_qualname=name)
    launch = FunctionType(ours, {"spawn": spawn, "kernel": kernel, "__name__": function.__module__})
    kernel.launch = njit(cache=True, nogil=True)(launch)
    return kernel


def _launch(team, threads, first, last, args):
    spawn(kernel, team, threads, first, last, args)  # noqa: F821  (every launcher has a kernel of its own)


def share(kernel: Any, units: int, work: float, *args: Any) -> None:
    """Every unit of range(units) once, by a `shared` kernel.    work: floating point operations in all."""
    threads = min(torch.get_num_threads(), units)
    team = None if _forked else _team()
    if team is None and threads > 1 and work > WORTH_THREADS:
        _on_python_threads(kernel.launch, units, threads, args)
    else:
        kernel.launch(team or (0, 0, 0), threads if work > WORTH_A_TEAM and team else 1, 0, units, args)


@functools.cache
def _team() -> tuple[int, int, int] | None:
    """Entry points of the OpenMP library that torch has loaded."""
    folder = Path(torch.__file__).parent
    for path in (*folder.glob("lib/libgomp*"), *folder.parent.glob("torch.libs/libgomp*")):
        try:
            library = ctypes.CDLL(str(path))
            parallel, number, size = (
                ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
                for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
            )
            return parallel, number, size
        except (OSError, AttributeError):
            continue
    return None


def _on_python_threads(launch: Callable[..., None], units: int, threads: int, args: tuple) -> None:
    edges = [units * i // threads for i in range(threads + 1)]
    others = [_threads().submit(launch, (0, 0, 0), 1, first, last, args) for first, last in pairwise(edges[1:])]
    try:
        launch((0, 0, 0), 1, 0, edges[1], args)
    finally:
        for other in others:  # also when interrupted: the arrays must outlive every thread that writes them
            other.result()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="separatrix")


def _in_a_forked_child() -> None:
    """A child has none of its parent's threads, neither a team's nor ours."""
    global _forked
    _forked = True
    _threads.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_forked_child)
