"""A finding: one question put to a system, what came out, and what it rests on.

The title says what was found ("Forecast leaves the data after 43 samples"), never what was looked at ("Forecast horizon"). Every
number carries its name, its kind and its interval; how it was made, what it does not say and the call that makes it again stand beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from separatrix.report.ink import Panel
from separatrix.stability.number import Number

ROWS = ("steps", "samples", "minutes", "hours", "days", "weeks", "months", "years")  # what Subject.unit may be, and the instruments' own


@dataclass(frozen=True)
class Picture:
    """Panels that belong together, side by side where the page is wide enough.

    alt       the finding in words, for those who do not see the picture.
    caption   what to look at, one or two sentences.
    switches  lines that a reader may show and hide: name -> (id inside the drawing, shown at first).
    """

    panels: tuple[Panel, ...]
    alt: str
    caption: str = ""
    switches: Mapping[str, tuple[str, bool]] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """How numbers were made: from what, by which call, over how many steps, from which seed, in which arithmetic, in how many seconds."""

    inputs: str
    call: str
    steps: int | None = None
    seed: int | None = None
    dtype: str = ""
    seconds: float | None = None
    method: str = ""


@dataclass(frozen=True)
class Finding:
    """One section of the report.    slug names it in addresses: letters, digits and hyphens."""

    slug: str
    title: str
    question: str
    numbers: Mapping[str, Number]
    made: Made
    does_not_say: str
    picture: Picture | None = None
    text: str = ""

    def __post_init__(self) -> None:
        if not self.slug or not all(c.isascii() and (c.isalnum() or c == "-") for c in self.slug):
            raise ValueError(f"slug is {self.slug!r}: use letters, digits and hyphens, it becomes an address inside the page.")
        words = {"title": self.title, "question": self.question, "does_not_say": self.does_not_say, "call": self.made.call}
        for name, text in words.items():
            if not text.strip():
                raise ValueError(f"finding {self.slug!r} has no {name}. Say it: a reader cannot judge a number without it.")
        for name, number in self.numbers.items():
            if not isinstance(number, Number):
                raise TypeError(f"number {name!r} of finding {self.slug!r} is a {type(number).__name__}, expected a Number with its kind.")


@dataclass(frozen=True)
class Run:
    """The recipe: everything needed to make the run again, and what it was made on.

    choices   how each setting that matters was chosen, and on which part of the data: name -> sentence.
    """

    name: str
    model: str
    data: str
    command: str
    data_sha256: str = ""
    seed: int | None = None
    created: str = ""
    machine: str = ""
    notice: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    choices: Mapping[str, str] = field(default_factory=dict)


def show(number: Number, unit: bool = True) -> str:
    """A number as a person reads it: as many digits as its interval supports, the interval in brackets, the unit at the end."""
    value = number.value
    low, high = (None if end is None or not math.isfinite(end) else end for end in (number.low, number.high))
    if not math.isfinite(value):
        text = "not a number" if math.isnan(value) else "without bound" if value > 0 else "minus infinity"
    elif _interval(number):
        digits = _digits((high - low) / 2)  # type: ignore[operator]
        text = f"{_round(value, digits)} [{_round(low, digits)}, {_round(high, digits)}]"  # type: ignore[arg-type]
    elif low is not None and high is None:
        text = f"at least {plain(low)}" if low == value else f"{plain(value)} (at least {plain(low)})"
    elif high is not None and low is None:
        text = f"at most {plain(high)}" if high == value else f"{plain(value)} (at most {plain(high)})"
    else:
        text = plain(value)
    return f"{text} {_one(number.unit) if text == '1' else number.unit}".strip() if unit else text


def plain(value: float) -> str:
    """Three digits, near 1 as many as tell it from 1; whole numbers whole, thousands apart, very large and small ones as powers of ten."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}".replace("-", "−")
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa} × 10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}".replace("-", "−")
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    if 0 < (apart := abs(abs(value) - 1)) < 0.005:  # on which side of 1 a modulus lies is what is asked of it
        digits = min(8, 1 - math.floor(math.log10(apart)))
    text = _round(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def ends(number: Number) -> tuple[str, str, str]:
    """Value, low and high, each for a cell of its own; ends that differ are also seen to differ."""
    if _interval(number):
        digits = _digits((number.high - number.low) / 2)  # type: ignore[operator]
        return _round(number.value, digits), _round(number.low, digits), _round(number.high, digits)  # type: ignore[arg-type]
    return plain(number.value), *("" if end is None else plain(end) for end in (number.low, number.high))  # type: ignore[return-value]


def _interval(number: Number) -> bool:
    return (
        number.low is not None
        and number.high is not None
        and math.isfinite(number.low)
        and math.isfinite(number.high)
        and number.high > number.low
    )


def _digits(half: float) -> int:
    return min(12, max(0, 1 - math.floor(math.log10(half))))


def _round(value: float, digits: int) -> str:
    if abs(value) >= 1e7 or (value != 0 and digits > 8):
        return plain(value)
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) != 0 else "0"


def _one(unit: str) -> str:
    """The name of one row, where the unit counts rows; a unit of the data stays as it is."""
    return unit[:-1] if unit in ROWS else unit


def plural(word: str) -> str:
    return word if word.endswith("s") else word + "s"


def counted(number: float, word: str) -> str:
    """1 sample, 2 samples, 1,000 samples."""
    return f"{plain(number)} {word if number == 1 else plural(word)}"


def record(number: Number) -> dict[str, object]:
    """A number for evidence.json: what is not finite becomes its name, because JSON has no word for it."""

    def value(x: float | None) -> object:
        return x if x is None or math.isfinite(x) else str(x)

    return {
        "value": value(number.value),
        "low": value(number.low),
        "high": value(number.high),
        "unit": number.unit,
        "kind": str(number.kind),
        "how": number.how,
    }


def table(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Every number of every finding, one row each, in the order of the page."""
    return [{"finding": finding.slug, "name": name, **record(number)} for finding in findings for name, number in finding.numbers.items()]


def to_json(content: object) -> str:
    """JSON that is also safe inside a page: no tag can be opened or closed in it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=str)
    return (
        text.replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )
