"""What the settings of a layer may be: each check returns the value, or names the setting, what came and what was expected."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any


def check_positive(value: float, name: str) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value} but must be > 0 and finite.")
    return value


def check_pair(value: tuple[float, float], name: str, words: str) -> tuple[float, float]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise (ValueError if isinstance(value, tuple | list) else TypeError)(f"{name} is {value!r} but must be two numbers, {words}.")
    return value[0], value[1]


def check_flag(value: bool, name: str) -> bool:
    """Of a word, "no" too, Python would make True."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r} but must be True or False.")
    return value


def check_function(value: Callable[..., Any], name: str, such_as: str) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{name} is {value!r} but must be a function, such as {such_as}.")
    return value


def check_count(value: int, name: str) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r} but must be a whole number, 1 or more.")
    return int(value)


def check_even(value: int, name: str) -> int:
    if check_count(value, name) % 2:
        raise ValueError(f"{name} is {value} but must be even: one of each conjugate pair is kept.")
    return value


def check_divides(whole: int, count: int, what: str, by: str) -> int:
    """whole / count, when that is a whole number."""
    for value, name in ((whole, what), (count, by)):
        check_count(value, name)
    if whole % count:
        raise ValueError(f"{what} is {whole} and {by} is {count}, but {by} must divide {what}. Choose one that does.")
    return whole // count
