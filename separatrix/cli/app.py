"""The table of commands."""

from __future__ import annotations

import _thread
import codecs
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import typer

from separatrix.cli.bench import bench
from separatrix.cli.doctor import doctor
from separatrix.cli.fit import fit
from separatrix.cli.lists import data, papers
from separatrix.cli.reproduce import reproduce
from separatrix.cli.runs import audit, forecast
from separatrix.cli.screen import INTERRUPTED

# Kill, a container's stop, a closed terminal: each is a Ctrl-C, and keeps what a Ctrl-C keeps.
INTERRUPTS = ("SIGINT", "SIGTERM", "SIGHUP")

RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))

app = typer.Typer(
    name="separatrix", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Train sequence models, and measure what they do as dynamical systems.\n\n"
    "Start with:  separatrix fit laser",
)  # fmt: skip
app.command()(fit)
app.command()(forecast)
app.command()(audit)
app.command()(bench)
app.command()(data)
app.command()(papers)
app.command()(reproduce)
app.command()(doctor)


def main() -> None:
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed before we began
            setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (it stays open)
    if hasattr(sys.stdout, "reconfigure"):
        codecs.register_error("separatrix.plain", _plainly)
        sys.stdout.reconfigure(errors="separatrix.plain")  # where ° cannot be written, a ? must not cost the answer
    for number in map(_number, INTERRUPTS):
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is ignored, and stays so
            signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = _stop_all_the_same
    try:
        app(prog_name="separatrix")
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        for file in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                file.flush()
        os._exit(INTERRUPTED)  # Python would wait for every thread, and one may be compiling a kernel


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What the encoding of the output lacks, in letters that all have: without its exponent 10⁻⁹ would be any number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    said = ""
    text = f" {error.object}"
    for before, c in zip(text[error.start : error.end], text[error.start + 1 : error.end + 1]):
        said += ("" if before in RAISED else "^") + RAISED[c] if c in RAISED else "x" if c == "×" else "?"
    return said, error.end


def _number(name: str) -> int | None:
    return getattr(signal, name, None)


def _stop_all_the_same(lost: Any) -> None:
    """A Ctrl-C that met Python where it cannot raise, as in what LLVM calls when it has compiled a kernel, comes again a moment later."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        _thread.start_new_thread(_interrupt, ())
    else:
        sys.__unraisablehook__(lost)


def _interrupt() -> None:
    time.sleep(0.001)  # by then it has left there; if not, it comes once more
    heard = [number for number in map(_number, INTERRUPTS) if number and signal.getsignal(number) == signal.default_int_handler]
    main_thread = threading.main_thread().ident
    if heard and main_thread is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main_thread, heard[0])  # a real one, that ends a wait too
    else:
        _thread.interrupt_main()
