"""One line for bad input, 130 for Ctrl-C, one bar at most ten times a second."""

import io
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

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
        (ImportError("numba does not load: pip install -U numba"), 2, "separatrix: numba does not load: pip install -U numba\n"),
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


@pytest.mark.skipif(os.name == "nt", reason="no call back from a wait")
def test_an_interrupt_that_a_foreign_call_swallows_comes_again():
    """Of the time that kernels compile, much is LLVM's; a Ctrl-C in it is raised in the call back to Python, where ctypes drops it."""
    code = """
import ctypes, signal, sys, time
from separatrix.cli import app, main, screen
foreign = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))
@app.command()
@screen.polite
def work():
    foreign()
    time.sleep(30)
sys.argv = ["separatrix", "work"]
main()
"""
    env = {**os.environ, "PYTHONPATH": str(Path(screen.__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "stopped\n")


def test_an_interrupt_waits_for_no_thread():
    """A member of an ensemble may be compiling a kernel, half a minute in which nothing stops it."""
    code = """
import signal, sys, threading, time
from separatrix.cli import app, main, screen
from separatrix.training.crew import crew
@app.command()
@screen.polite
def work():
    threading.Timer(0.5, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    with crew(2) as hands:
        hands.each(lambda i: time.sleep(300))
sys.argv = ["separatrix", "work"]
main()
"""
    env = {**os.environ, "PYTHONPATH": str(Path(screen.__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (130, "stopped\n")


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


class Slow(io.RawIOBase):
    """Takes seven bytes at a time, and `room` in all."""

    def __init__(self, room):
        self.taken, self.room = b"", room

    def writable(self):
        return True

    def write(self, data):
        if len(self.taken) >= self.room:
            raise OSError(28, "No space left on device")
        self.taken += bytes(data[:7])
        return len(data[:7])


def test_all_is_written_or_it_is_said(monkeypatch):
    text = "".join(f"{i},°\n" for i in range(100))
    for room in (10_000, 50):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(slow := Slow(room), "utf-8", write_through=True))  # as PYTHONUNBUFFERED has it
        if room == 50:
            with pytest.raises(OSError, match="No space left"):
                screen.write(text)
        else:
            screen.write(text)
            assert slow.taken == text.encode()


DATA = [sys.executable, "-m", "separatrix", "data"]
TOO_SMALL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")


@TOO_SMALL
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_the_output_is_an_error(unbuffered):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(DATA, stdout=full, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert ended.returncode == 2
    assert ended.stderr == "separatrix: a file or the output: no space left on device. Choose another place, or mend this one.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_who_reads_no_further_is_told_nothing(unbuffered):
    process = subprocess.Popen(
        DATA, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}
    )
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 141)
    process.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="a shell of its own")
def test_without_an_output_a_command_works_on():
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        assert subprocess.run(f"{shlex.join(DATA)} {closed}", shell=True, capture_output=True, text=True).stderr == ""
        assert subprocess.run(f"{shlex.join(DATA)} {closed}", shell=True, capture_output=True).returncode == 0


@pytest.mark.parametrize("columns", [0, 1, 20, 71])
def test_a_narrow_terminal_loses_no_number(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    assert screen.out().width == screen.NARROWEST
