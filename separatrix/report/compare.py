"""Two reports side by side, differences first.

    compare("runs/a", "runs/b")  ->  one page: both verdicts, what differs beyond its error, what the recipes differ in, what agrees

Two numbers differ when both have an interval and these have no value in common, or when one of them is exact on its inputs and lies
outside the other's. Two measured numbers without intervals are shown with their ratio and called neither equal nor different.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from separatrix import __version__
from separatrix.report.finding import plain, show
from separatrix.report.verdict import Standing
from separatrix.stability.number import Number

EVIDENCE = "evidence.json"


@dataclass(frozen=True)
class Row:
    """One number in both reports."""

    finding: str
    name: str
    first: Number
    second: Number

    @property
    def ratio(self) -> float:
        a, b = self.first.value, self.second.value
        return b / a if a != 0 and math.isfinite(a) and math.isfinite(b) else math.nan

    @property
    def apart(self) -> bool | None:
        """Whether the numbers differ beyond their error; None: no interval can tell."""
        (a, b), (c, d) = _ends(self.first), _ends(self.second)
        if math.isnan(a + b + c + d) or (a == b and c == d):
            return None
        if b < c or d < a:
            return True
        return None if b == d == math.inf or a == c == -math.inf else False  # two bounds may belong to anything

    @property
    def size(self) -> float:
        """How far apart, as |log ratio|; what has no ratio comes last."""
        return abs(math.log(self.ratio)) if self.ratio > 0 else -1.0


@dataclass(frozen=True)
class Comparison:
    names: tuple[str, str]
    records: tuple[dict[str, Any], dict[str, Any]]
    differ: list[Row]
    unclear: list[Row]
    agree: list[Row]
    only: tuple[list[str], list[str]]
    settings: list[tuple[str, str, str]]


def compare(first: str | Path, second: str | Path) -> str:
    """The page for two run folders (or two evidence.json files)."""
    found = differences(read_evidence(first), read_evidence(second), (_name(first), _name(second)))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"show": show, "plain": plain}
    here = files("separatrix.report")
    template = environment.from_string((here / "compare.html.j2").read_text(encoding="utf-8"))
    return template.render(
        c=found,
        version=__version__,
        css=Markup((here / "page.css").read_text(encoding="utf-8")),
        standing=[Standing(record["verdict"]).name.lower() for record in found.records],
    )


def read_evidence(path: str | Path) -> dict[str, Any]:
    """The evidence of a run folder."""
    path = Path(path)
    path = path / EVIDENCE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path} does not exist. Make the report first: separatrix audit {path.parent}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        Standing(record["verdict"])
        for number in record["numbers"]:
            _number(number)
        return record
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the evidence of a report ({error}). Make the report again: separatrix audit {path.parent}"
        ) from None


def differences(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str]) -> Comparison:
    one, two = ({(n["finding"], n["name"]): _number(n) for n in record["numbers"]} for record in (first, second))
    rows = [Row(*key, number, two[key]) for key, number in one.items() if key in two]
    settings = {**first["run"]["config"], **second["run"]["config"]}
    a, b = ({**record["run"], **record["run"]["config"]} for record in (first, second))
    return Comparison(
        names,
        (first, second),
        sorted((row for row in rows if row.apart), key=lambda row: -row.size),
        sorted((row for row in rows if row.apart is None and row.first.value != row.second.value), key=lambda row: -row.size),
        [row for row in rows if row.apart is False or (row.apart is None and row.first.value == row.second.value)],
        ([f"{key[1]}" for key in one if key not in two], [f"{key[1]}" for key in two if key not in one]),
        [(key, str(a.get(key, "")), str(b.get(key, ""))) for key in ["model", "data", "seed", *settings] if a.get(key) != b.get(key)],
    )


def _number(row: dict[str, Any]) -> Number:
    value, low, high = (None if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
    return Number(math.nan if value is None else value, row["kind"], low, high, row["unit"], row["how"])


def _ends(number: Number) -> tuple[float, float]:
    """Where the number may be; a measured number without an interval is exact on its inputs."""
    low, high = number.low, number.high
    if low is None and high is None:
        return (math.nan, math.nan) if number.kind == "estimated" else (number.value, number.value)
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _name(path: str | Path) -> str:
    path = Path(path)
    return path.name if path.is_dir() else path.parent.name or path.name
