"""The table of commands."""

from __future__ import annotations

import os
import signal
import sys

import typer

from separatrix.cli.bench import bench
from separatrix.cli.doctor import doctor
from separatrix.cli.fit import fit
from separatrix.cli.lists import data, papers
from separatrix.cli.reproduce import reproduce
from separatrix.cli.runs import audit, forecast

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
        sys.stdout.reconfigure(errors="replace")  # where ° cannot be written, a ? must not cost the answer
    for name in ("SIGTERM", "SIGHUP"):  # kill, a container's stop, a closed terminal: each is a Ctrl-C, and keeps what a Ctrl-C keeps
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # under nohup it is ignored, and stays so
            signal.signal(number, signal.default_int_handler)
    app(prog_name="separatrix")
