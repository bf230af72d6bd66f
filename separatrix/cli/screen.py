"""What a command shows: one progress bar while it works, two lines when it is done, one line when it cannot.

exit 0     done
exit 2     bad input, or a package that is not installed: one line on stderr that says what to do, nothing half-written
exit 130   interrupted (Ctrl-C, SIGTERM, SIGHUP): what is kept, and how to go on
exit 141   whoever read the output has gone, as with `| head`: nothing more is said
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

P = ParamSpec("P")
R = TypeVar("R")

TRACEBACK = "SEPARATRIX_TRACEBACK"  # set to see where a bad input was found out
INTERRUPTED = 130
NARROWEST = 72  # columns of a table; a terminal that has fewer breaks its lines, where we would cut its numbers

AsJson = typer.Option("--json", help="Print JSON.")


class Advance(Protocol):
    """How far the work is, from 0 to 1, and what it says."""

    def __call__(self, done: float, loss: float | None = None, said: str = "", label: str | None = None) -> None: ...


class Stopped(Exception):
    """Ctrl-C, or a signal that is taken for one, with the lines that say what is kept."""


def out() -> Console:
    """Standard output, at the width of the terminal; unwrapped when it goes into a file or a pipe."""
    console = _Output(highlight=False)
    if not console.is_terminal:
        return _Output(highlight=False, width=10_000, soft_wrap=True)
    return console if console.width >= NARROWEST else _Output(highlight=False, width=NARROWEST)


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # to `polite`; rich would end the process here


def write(text: str) -> None:
    """All of `text` to standard output, or an OSError: without a buffer (PYTHONUNBUFFERED) Python drops what a full disk did not take."""
    if (binary := getattr(sys.stdout, "buffer", None)) is None:
        sys.stdout.write(text)
        return
    sys.stdout.flush()
    left = memoryview(text.encode(sys.stdout.encoding or "utf-8", errors="replace"))
    while left:
        left = left[binary.write(left) or 0 :]


def err() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def polite(command: Callable[P, R]) -> Callable[P, R]:
    """Bad input ends a command with one line and exit code 2, Ctrl-C with 130."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            sys.stdout.flush()  # here a full disk is still an error of this command
            return result
        except BrokenPipeError:
            _write_no_more()
            raise typer.Exit(141) from None
        except (ValueError, TypeError, OSError, ImportError) as error:
            if os.environ.get(TRACEBACK):
                raise
            if isinstance(error, OSError):
                _write_no_more()
            _tell(f"separatrix: {_one_line(error)}")
            raise typer.Exit(2) from None
        except FloatingPointError as error:
            _tell(f"separatrix: {_one_line(error)}")
            raise typer.Exit(1) from None
        except Stopped as stop:
            _tell(str(stop))
            raise typer.Exit(INTERRUPTED) from None
        except KeyboardInterrupt:
            _tell("stopped")
            raise typer.Exit(INTERRUPTED) from None

    return run


def _tell(line: str) -> None:
    with suppress(OSError):  # nobody listens: the exit code still tells
        err().print(line, markup=False)


def _write_no_more() -> None:
    """What is left of standard output goes nowhere: Python would try it again at exit, and complain."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    with suppress(OSError, ValueError, AttributeError):  # under a test it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file or the output'}: {error.strerror.lower()}. Choose another place, or mend this one."
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def threads(count: int | None, networks: int = 1) -> Iterator[None]:
    """Run torch on this many threads. None: one for each of the networks that are fitted side by side, as far as there are cores.

    A network that a thousand rows can feed is small, and threads that share it mostly wait for each other. Beside another busy process,
    an optimizer step of the default network took 65 ms of processor time on one thread and 1,041 on two.
    """
    if count is not None and count < 1:
        raise ValueError(f"--threads is {count} but must be at least 1.")
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(count or min(networks, cores))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _News(ProgressColumn):
    """How far, in the words of the work, and the loss."""

    def render(self, task: Task) -> Text:
        loss, said = task.fields["loss"], task.fields["said"]
        return Text(f"{said}  loss {loss:.4g}" if loss is not None else said, style="cyan")


class _TimeLeft(ProgressColumn):
    """From the work that is done; rich's own column forgets what happened more than half a minute ago."""

    def render(self, task: Task) -> Text:
        done, seconds = task.completed, task.elapsed or 0.0
        if task.finished:
            return Text(f"{_clock(seconds)}", style="green")
        here = done - task.fields["first"]  # a resumed run begins part of the way
        return Text(f"{_clock(seconds * (1 - done) / here)} left" if here > 0.005 else "", style="green")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """One bar with news and time left, drawn at most ten times a second.

    It appears with the first news, so that work refused at the door shows only its error. Warnings of the library and of matplotlib are
    held back while the bar stands and printed under it.
    """
    console = Console(stderr=True, highlight=False)
    named, whole = Column(no_wrap=True, overflow="ellipsis", max_width=max(16, console.width // 3)), Column(no_wrap=True)
    bar = Progress(
        TextColumn("{task.description}", table_column=named), BarColumn(bar_width=None), TaskProgressColumn(), _News(whole),
        _TimeLeft(whole), console=console, refresh_per_second=10,
    )  # fmt: skip
    loggers, held = [logging.getLogger(name) for name in ("separatrix", "matplotlib")], _Held()
    for logger in loggers:
        logger.addHandler(held)
    try:
        task = bar.add_task(label, total=1.0, loss=None, said="", first=0.0)

        def advance(done: float, loss: float | None = None, said: str = "", label: str | None = None) -> None:
            bar.update(task, completed=done, loss=loss, said=said, description=label)
            if not bar.live.is_started:
                bar.update(task, first=done)
                bar.start()

        yield advance
        bar.update(task, completed=1.0)
    finally:
        if bar.live.is_started:
            bar.stop()
        for logger in loggers:
            logger.removeHandler(held)
        for line in held.lines:
            err().print(f"note: {line}", markup=False)


def part(advance: Advance, start: float, end: float) -> Advance:
    """The stretch of a bar that belongs to one part of the work."""
    return lambda done, loss=None, said="", label=None: advance(start + (end - start) * done, loss, said, label)


class _Held(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if (line := record.getMessage()) not in self.lines:
            self.lines.append(line)
