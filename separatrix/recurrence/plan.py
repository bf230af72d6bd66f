"""Which algorithm runs, and why.

One operation has several forms, all the same function of the same arguments:

    recurrent   the definition, one step after another; also the decoding step
    chunked     matrix products inside a chunk, a scan between chunks
    fused       the recurrent form as one compiled kernel
    cuda        another package's kernels, on a GPU
    dense       the matrix the operation is, for analysis and small T
    newton      all steps at once by iteration, for recurrences that are not linear

A form is a plain function named `<operation>_<form>` that takes the operation's arguments; their types and shapes stand there. `@form`
enters it in OPERATIONS. `choose` picks one for a call and says why; `plan` says it in words for a call that has not happened yet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from separatrix.recurrence import cuda
from separatrix.recurrence.checks import cleared, readable
from separatrix.recurrence.transition import Transition

OPERATIONS: dict[str, dict[str, Callable[..., Any]]] = {}

Form = TypeVar("Form", bound=Callable[..., Any])
Refusal = Callable[..., str | None]

_refusals: dict[str, Refusal] = {}
_pays_from: dict[str, int] = {}
_restarts: dict[str, tuple[int, int]] = {}  # the places of an operation's initial state and reset among its arguments


def form(function: Form | None = None, *, refuses: Refusal | None = None, pays_from: int = 2, mixes: bool = False) -> Any:
    """Enter `<operation>_<form>` in OPERATIONS under the two halves of its name.

    `refuses`, for a fused, chunked or newton form: called with the inputs of a call, it says why this form is not for them, or None.
    `pays_from`, for a fused form: 1 where a single step too is faster as one kernel than as the operations of the recurrent form.
    `mixes`, for a form that multiplies by zero where it should select: see `selecting`.
    """
    if function is None:
        return partial(form, refuses=refuses, pays_from=pays_from, mixes=mixes)
    operation, _, name = function.__name__.rpartition("_")
    function = selecting(operation, function) if mixes else function
    OPERATIONS.setdefault(operation, {})[name] = function
    arguments = list(signature(function).parameters)
    _restarts[operation] = (arguments.index("initial_state"), arguments.index("reset"))
    _pays_from[function.__name__] = pays_from
    if refuses is not None:
        _refusals[function.__name__] = refuses
    return function


def selecting(operation: str, function: Form) -> Form:
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
    refusal = ""
    if any(isinstance(x, Tensor) and x.device.type == "cuda" for x in inputs):
        why = cuda.refusal(operation, inputs)
        if why is None:
            return "cuda", f"{time} steps by the kernels of {cuda.FORMS[operation][0]}"
        refusal = f"; no GPU kernel: {why}"
    elif "fused" in forms:
        why = objection(operation, inputs)
        if why is None:
            return "fused", f"{time} steps as one compiled kernel, the state in the cache"
        refusal = f"; not fused: {why}"
    if "chunked" in forms and (why := refusal_of(operation, "chunked", inputs)):
        return "recurrent", f"one step after another: {why}{refusal}"
    if "chunked" in forms:
        return "chunked", f"{time} steps as products inside chunks and a short scan between them{refusal}"
    if "newton" in forms:
        why = refusal_of(operation, "newton", inputs) or transformed()
        if why is None:
            return "newton", f"{time} steps at once, a handful of times{refusal}"
        refusal += f"; not newton: {why}"
    if "fft" in forms:
        return "fft", "a convolution is a product of spectra"
    return "recurrent", refusal.removeprefix("; ") or "no faster form is known for this operation"


def steps_fused(operation: str) -> bool:
    """Whether a single step of this operation too is faster as one kernel."""
    return _pays_from.get(f"{operation}_fused") == 1


def objection(operation: str, inputs: tuple) -> str | None:
    """Why the compiled kernel cannot take these inputs, or None."""
    for x in inputs:
        if isinstance(x, Tensor) and not x.is_cpu:
            return "the kernels are for the CPU"
    if why := refusal_of(operation, "fused", inputs):
        return why
    return transformed()


def transformed() -> str | None:
    """Why forms that are opaque to torch.func and forward derivatives cannot run now, or None."""
    if not torch.compiler.is_compiling() and (torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0):
        return "forward derivatives and torch.func go through plain torch"
    return None


def refusal_of(operation: str, name: str, inputs: tuple) -> str | None:
    """Why the form refuses these inputs, or None; without any, float32 on the CPU is meant, which every form takes."""
    refuses = _refusals.get(f"{operation}_{name}")
    return None if refuses is None or not inputs else refuses(*inputs)


def recorded(inputs: tuple) -> bool:
    """Whether a graph is being made of what happens to these inputs: then plain operations are worth more than one opaque kernel."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True
    return torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs)


def single(inputs: tuple[Tensor, ...]) -> bool:
    """Whether a kernel may read these itself: float32 numbers on the CPU that no transform hides."""
    return all(readable(x) and x.dtype is torch.float32 for x in inputs) and transformed() is None


def plan(what: str | Callable[..., Any] | Transition, time: int, *inputs: Any) -> str:
    """Which algorithm runs over `time` steps and why, in words.

    `what` is an operation, by name or as the function, or a transition that `scan` will run. `inputs` are the arguments of the call where
    they are known: their device and dtype matter; without any, float32 on the CPU is meant.

    Raises   ValueError for an operation that is not in OPERATIONS.
    """
    if isinstance(what, Transition):
        kind = f"{type(what).__name__} transitions of size {what.size}"
        if what.runs_as is None:
            return f"{kind}: one apply after another, {time} steps; no faster scan is known for an arbitrary drive"
        return f"{kind} run as {plan(what.runs_as, time, *(inputs or what.arguments()))}"
    name = what if isinstance(what, str) else getattr(what, "__name__", what)
    if name not in OPERATIONS:
        raise ValueError(f"what is {name!r}, expected a Transition or one of {', '.join(sorted(OPERATIONS))}")
    chosen, reason = choose(name, inputs, time)
    return f"{name}, {chosen}: {reason}"


def run(operation: str, time: int, *inputs: Any) -> Any:
    """Call the chosen form, in full precision: a state must not be rounded because the layer around it is under autocast."""
    name, _ = choose(operation, inputs, time)
    function = cuda.FORMS[operation][1] if name == "cuda" else OPERATIONS[operation][name]
    return full_precision(function, *restarted(operation, inputs))


def restarted(operation: str, inputs: tuple) -> tuple:
    """The inputs, the initial state cleared in rows that the first step resets: most forms multiply it by zero, and a NaN stays one."""
    place, of_reset = _restarts[operation]
    state, reset = inputs[place], inputs[of_reset]
    if state is None or reset is None or reset.shape[1] == 0:
        return inputs

    def clear(part: Tensor) -> Tensor:
        return cleared(part, reset, 0)

    if isinstance(state, Tensor):
        return *inputs[:place], clear(state), *inputs[place + 1 :]
    begun = type(state)(*map(clear, state)) if isinstance(state, tuple) else state.map(clear)
    return *inputs[:place], begun, *inputs[place + 1 :]


def under_autocast(device: str) -> bool:
    """Whether results on this kind of device are being rounded; meta tensors have shapes only, and no autocast to ask about."""
    return device != "meta" and torch.is_autocast_enabled(device)


def full_precision(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    first = next((x for x in (*inputs, *options.values()) if isinstance(x, Tensor)), None)
    device = "cpu" if first is None or first.is_cpu else first.device.type
    if under_autocast(device):
        with torch.autocast(device, enabled=False):
            return function(*inputs, **options)
    return function(*inputs, **options)


def outside_autocast(function: Form) -> Form:
    """For what is called without `run`."""

    @wraps(function)
    def outside(*inputs: Any, **options: Any) -> Any:
        return full_precision(function, *inputs, **options)

    return outside  # type: ignore[return-value]
