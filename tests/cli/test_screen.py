"""One line for bad input, 130 for Ctrl-C, one bar at most ten times a second."""

import logging
import os

import pytest
import torch
import typer
from typer.testing import CliRunner

from separatrix.cli import screen


def command_that(raises):
    app = typer.Typer()

    @app.command()
    @screen.polite
    def command() -> None:
        raise raises

    return CliRunner().invoke(app, [])


@pytest.mark.parametrize(
    "error, code, line",
    [
        (ValueError("log_decay must be <= 0,\n  got 0.31. Negate it."), 2, "separatrix: log_decay must be <= 0, got 0.31. Negate it.\n"),
        (TypeError("x is a list"), 2, "separatrix: x is a list\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "separatrix: /x: permission denied. Choose another place, or mend this one.\n"),
        (screen.Stopped("kept: runs/a\ngo on: separatrix fit laser --resume runs/a"), 130,
         "kept: runs/a\ngo on: separatrix fit laser --resume runs/a\n"),
        (FloatingPointError("the loss is not finite at step 7"), 1, "separatrix: the loss is not finite at step 7\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)  # fmt: skip
def test_how_a_command_ends(error, code, line):
    result = command_that(error)
    assert (result.exit_code, result.stderr) == (code, line)


def test_a_programming_error_keeps_its_traceback():
    assert isinstance(command_that(AssertionError("ours")).exception, AssertionError)


def test_where_bad_input_was_found_on_request(monkeypatch):
    monkeypatch.setenv(screen.TRACEBACK, "1")
    assert isinstance(command_that(ValueError("x")).exception, ValueError)


def test_warnings_wait_until_the_bar_is_done(capsys):
    logger = logging.getLogger("separatrix")
    with screen.progress("training") as advance:
        for step in (1, 2):
            advance(step / 2, 0.5, f"{step}/2")
            logger.warning("gradient clipped")
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("note: gradient clipped") == 1
    assert shown.err.count("training") == 1 and "2/2" in shown.err and "loss 0.5" in shown.err
    assert logger.handlers == []


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with screen.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    for networks, wanted in ((1, 1), (10_000, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())):
        with screen.threads(None, networks):
            assert torch.get_num_threads() == wanted
