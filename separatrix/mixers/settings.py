"""What the settings of a layer may be, beside counts and positive numbers (`recurrence/checks.py`); each returns what is to be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from separatrix.recurrence.checks import expect_count


def expect_pair(name: str, value: tuple[float, float], words: str) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise (ValueError if isinstance(value, tuple | list) else TypeError)(f"{name} is {value!r} but must be two numbers, {words}.")
    return value[0], value[1]


def expect_flag(name: str, value: bool) -> bool:
    """Of a word, "no" too, Python would make True."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} but must be True or False.")
    return value


def expect_function(name: str, value: Callable[..., Any], such_as: str) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{name} is {value!r} but must be a function, such as {such_as}.")
    return value


def expect_even(name: str, value: int) -> int:
    if expect_count(name, value) % 2:
        raise ValueError(f"{name} is {value} but must be even: one of each conjugate pair is kept.")
    return value


def expect_divides(by: str, count: int, what: str, whole: int) -> int:
    """whole / count, when that is a whole number."""
    for name, value in ((what, whole), (by, count)):
        expect_count(name, value)
    if whole % count:
        raise ValueError(f"{what} is {whole} and {by} is {count}, but {by} must divide {what}. Choose one that does.")
    return whole // count
