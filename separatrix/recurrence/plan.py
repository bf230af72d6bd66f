"""Which algorithm runs, and why.

One operation has several forms, all the same function of the same arguments:

    recurrent   the definition, one step after another; also the decoding step
    chunked     matrix products inside a chunk, a scan between chunks
    fused       the recurrent form as one compiled kernel
    cuda        another package's kernels, on a GPU
    dense       the matrix the operation is, for analysis and small T
    newton      all steps at once by iteration, for recurrences that are not linear

A form is a plain function named `<operation>_<form>` that takes the operation's arguments; their types and shapes stand there. `@form`
enters it in OPERATIONS, with what there is to know of it. `choose` picks one for a call and says why; `plan` says it in words for a call
that has not happened yet.

A fused form is one operator to torch, so `torch.export` with a dynamic time axis writes down a program for every length, one step
included. The loops of the others, over steps, chunks or a tree, are Python's: torch unrolls them for the length at hand, and refuses a
dynamic one. That is what happens to complex and double precision inputs where the kernel takes neither, and to operations without one
(`dense_ssm`, `companion_ssm`). A long convolution from rest is written down for lengths on one side of its number of taps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from separatrix.recurrence import cuda
from separatrix.recurrence.autocast import full_precision
from separatrix.recurrence.checks import readable
from separatrix.recurrence.resets import cleared
from separatrix.recurrence.transition import Transition

Function = TypeVar("Function", bound=Callable[..., Any])
Refusal = Callable[..., str | None]


# Numba reads it once, too.
INTERPRETED = None if os.environ.get("NUMBA_DISABLE_JIT", "") in ("", "0") else "NUMBA_DISABLE_JIT is set"


@dataclass(frozen=True)
class Form:
    """One way to compute an operation, called as the operation is.

    refuses    of a fused, chunked or newton form: called with the inputs of a call, it says why this form is not for them, or None.
    pays_from  of a fused form: 1 where a single step too is faster as one kernel than as the operations of the recurrent form.
    state      the place of the initial state among the arguments, `reset` that of the reset.
    """

    function: Callable[..., Any]
    refuses: Refusal | None
    pays_from: int
    state: int
    reset: int

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self.function(*inputs, **named)

    def refusal(self, inputs: tuple) -> str | None:
        """Why it refuses these inputs, or None; without any, float32 on the CPU is meant, which every form takes."""
        return None if self.refuses is None or not inputs else self.refuses(*inputs)

    def restarted(self, inputs: tuple) -> tuple:
        """The inputs, the initial state cleared in rows that the first step resets: most forms multiply it by zero, and a NaN stays one."""
        state, reset = inputs[self.state], inputs[self.reset]
        if state is None or reset is None or reset.shape[1] == 0:
            return inputs

        def clear(part: Tensor) -> Tensor:
            return cleared(part, reset, 0)

        begun: Any  # a tensor, a tuple of them or a State
        if isinstance(state, Tensor):
            begun = clear(state)
        else:
            begun = type(state)(*map(clear, state)) if isinstance(state, tuple) else state.map(clear)
        return *inputs[: self.state], begun, *inputs[self.state + 1 :]


OPERATIONS: dict[str, dict[str, Form]] = {}
COMPOSED: dict[str, str] = {}  # functions that are an operation and what is around it


def runs_as(operation: str) -> Callable[[Function], Function]:
    """Enter the function below as one whose state is moved by `operation`: `plan` and `separatrix doctor` say so."""

    def enter(function: Function) -> Function:
        COMPOSED[function.__name__] = operation
        return function

    return enter


def form(function: Function | None = None, *, refuses: Refusal | None = None, pays_from: int = 2, mixes: bool = False) -> Any:
    """Enter `<operation>_<form>` in OPERATIONS under the two halves of its name; `refuses` and `pays_from` as in `Form`.

    `mixes`, for a form that multiplies by zero where it should select: see `selecting`.
    """
    if function is None:
        return partial(form, refuses=refuses, pays_from=pays_from, mixes=mixes)
    operation, _, name = function.__name__.rpartition("_")
    function = selecting(operation, function) if mixes else function
    arguments = list(signature(function).parameters)
    places = arguments.index("initial_state"), arguments.index("reset")
    OPERATIONS.setdefault(operation, {})[name] = Form(function, refuses, pays_from, *places)
    return function


def selecting(operation: str, function: Function) -> Function:
    """A form that multiplies by zero what a step must not see, being cut off by a reset or yet to come; but 0 times NaN is NaN.

    So an answer that is not finite is computed again by the recurrent form, where nothing meets what it must not. Not where values cannot
    be looked at, that is while tracing, inside torch.func transforms and off the CPU: there a NaN passes resets and reaches earlier steps
    of its chunk.
    """

    @wraps(function)
    def select(*inputs: Any, **named: Any) -> Any:
        answer = function(*inputs, **named)
        if finite(answer):
            return answer
        named.pop("chunk", None)
        return OPERATIONS[operation]["recurrent"](*inputs, **named)

    return select  # type: ignore[return-value]


def finite(answer: Any) -> bool:
    """Whether no number of an output or a state is infinite or NaN, as far as one may look."""
    if isinstance(answer, Tensor):
        return not readable(answer) or bool(answer.detach().isfinite().all())
    return all(map(finite, answer if isinstance(answer, tuple) else answer.tensors().values()))


def choose(operation: str, inputs: tuple, time: int) -> tuple[str, str]:
    """The form that `operation` takes on these inputs over `time` steps, and the reason in words.

    Raises   ValueError for an operation that is not in OPERATIONS.
    """
    if operation not in OPERATIONS:
        raise ValueError(f"operation is {operation!r}, expected one of {', '.join(sorted(OPERATIONS))}")
    forms = OPERATIONS[operation]
    if time <= 1 and "recurrent" in forms:
        if time == 1 and steps_fused(operation) and not recorded(inputs) and objection(operation, inputs) is None:
            return "fused", "one step as one compiled kernel, while nothing records it"
        return "recurrent", "one step is its own definition"
    # a number that is printed is a constant to Dynamo: it would compile once for every length
    steps, refusal = "the steps" if torch.compiler.is_compiling() else f"{time} steps", ""
    if any(isinstance(x, Tensor) and x.device.type == "cuda" for x in inputs):
        why = cuda.refusal(operation, inputs)
        if why is None:
            return "cuda", f"{steps} by the kernels of {cuda.FORMS[operation][0]}"
        refusal = f"; no GPU kernel: {why}"
    elif "fused" in forms:
        why = objection(operation, inputs)
        if why is None:
            return "fused", f"{steps} as one compiled kernel, the state in the cache"
        refusal = f"; not fused: {why}"
    if "chunked" in forms:
        if why := forms["chunked"].refusal(inputs):
            return "recurrent", f"one step after another: {why}{refusal}"
        return "chunked", f"{steps} as products inside chunks and a short scan between them{refusal}"
    if "newton" in forms:
        why = forms["newton"].refusal(inputs) or transformed()
        if why is None:
            return "newton", f"{steps} at once, a handful of times{refusal}"
        refusal += f"; not newton: {why}"
    if "fft" in forms:
        return "fft", "a convolution is a product of spectra"
    return "recurrent", refusal.removeprefix("; ") or "no faster form is known for this operation"


def steps_fused(operation: str) -> bool:
    """Whether a single step of this operation too is faster as one kernel."""
    fused = OPERATIONS[operation].get("fused")
    return fused is not None and fused.pays_from == 1


def objection(operation: str, inputs: tuple) -> str | None:
    """Why the compiled kernel cannot take these inputs, or None."""
    for x in inputs:
        if isinstance(x, Tensor) and not x.is_cpu:
            return "the kernels are for the CPU"
    return OPERATIONS[operation]["fused"].refusal(inputs) or transformed() or interpreted()


def transformed() -> str | None:
    """Why forms that are opaque to torch.func and forward derivatives cannot run now, or None."""
    if not torch.compiler.is_compiling() and (torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0):
        return "forward derivatives and torch.func go through plain torch"
    return None


def interpreted() -> str | None:
    """Why no kernel is compiled in this process, or None."""
    return INTERPRETED


def recorded(inputs: tuple) -> bool:
    """Whether a graph is being made of what happens to these inputs: then plain operations are worth more than one opaque kernel."""
    if torch.compiler.is_compiling():
        return True
    if torch._C._len_torch_dispatch_stack():
        return taken_apart()
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)


def taken_apart() -> bool:
    """Whether a tracer follows what runs now to make a program of it, as a `Stepper` does; no compiler, which has loops of its own."""
    return not torch.compiler.is_compiling() and torch._C._len_torch_dispatch_stack() > 0 and not _PLAYED.get()


_PLAYED: ContextVar[bool] = ContextVar("played", default=False)


@contextmanager
def played_by_torch() -> Iterator[None]:
    """Inside, a kernel of one step is one call of a graph: torch will play it call by call, and each costs the same."""
    before = _PLAYED.set(True)
    try:
        yield
    finally:
        _PLAYED.reset(before)


def single(inputs: tuple[Tensor, ...]) -> bool:
    """Whether a kernel may read these itself: float32 numbers on the CPU that no transform hides."""
    return all(readable(x) and x.dtype is torch.float32 for x in inputs) and (transformed() or interpreted()) is None


def plan(what: str | Callable[..., Any] | Transition, time: int, *inputs: Any) -> str:
    """Which algorithm runs over `time` steps and why, in words.

    `what` is an operation, by name or as the function, or a transition that `scan` will run. `inputs` are the arguments of the call where
    they are known: their device and dtype matter; without any, float32 on the CPU is meant.

    Raises   ValueError for what is neither in OPERATIONS nor made of one of them.
    """
    if isinstance(what, Transition):
        kind = f"{type(what).__name__} transitions of size {what.size}"
        if what.runs_as is None:
            return f"{kind}: one apply after another, {time} steps; no faster scan is known for an arbitrary drive"
        return f"{kind} run as {plan(what.runs_as, time, *(inputs or what.arguments()))}"
    name = what if isinstance(what, str) else getattr(what, "__name__", what)
    if name in COMPOSED:
        return f"{name} runs as {plan(COMPOSED[name], time, *(x for x in inputs if isinstance(x, Tensor)))}"
    if name not in OPERATIONS:
        raise ValueError(f"what is {name!r}, expected a Transition or one of {', '.join(sorted({*OPERATIONS, *COMPOSED}))}")
    chosen, reason = choose(name, inputs, time)
    return f"{name}, {chosen}: {reason}"


def run(operation: str, time: int, *inputs: Any) -> Any:
    """Call the chosen form, in full precision: a state must not be rounded because the layer around it is under autocast."""
    name, _ = choose(operation, inputs, time)
    if name == "cuda":  # never with a reset
        return full_precision(cuda.FORMS[operation][1], *inputs)
    chosen = OPERATIONS[operation][name]
    return full_precision(chosen.function, *chosen.restarted(inputs))
