'''What a claim says before it runs, and what it returns.

A claim is a module whose docstring was written first:

    """Parity needs negative eigenvalues.

    Paper    Grazzi et al. 2024, arXiv:2411.12537.
    Scale    train on 40 steps, test on 256; one core, 90 s.
    Holds    accuracy at 256 above 0.9 with eigenvalues in [-1, 1] and below 0.6 in [0, 1], on 3 seeds of 3.
    """

    def claim(seeds=(0, 1, 2)) -> Claim: ...

The first paragraph is the sentence, "Holds" the bar. They stand nowhere else: the runner reads them from the module's text, so that what
is printed beside a verdict is what was promised, and the bar is known before anything is imported.
'''

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from separatrix.stability.number import Kind, Number, weakest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOLDS, FAILS = "holds", "does not hold here"
LABELS = ("Paper", "Scale", "Holds")


class Statement(NamedTuple):
    """What a claim's module says about itself."""

    sentence: str
    paper: str
    scale: str
    bar: str


@dataclass(frozen=True)
class Claim:
    """What came out.

    holds    whether the bar in the module's docstring was met.
    numbers  name -> what was found: a `Number`, which says its kind; or plain numbers, one or one a seed, which are measured.
             Kept as a tuple of Numbers a name.
    figure   draws the evidence on an empty matplotlib Figure, with the inks of `report/ink.py`.
    dtype    the precision it ran in, for example "float32".
    seeds    the seeds that were used; () where nothing is random.
    """

    holds: bool
    numbers: Mapping[str, Any]
    figure: Callable[[Figure], None]
    dtype: str
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.holds, bool | np.bool_):
            raise TypeError(f"holds is {self.holds!r}, expected True or False")
        if not callable(self.figure):
            raise TypeError(f"figure is {self.figure!r}, expected a function that draws on a matplotlib Figure")
        object.__setattr__(self, "holds", bool(self.holds))
        object.__setattr__(self, "numbers", {name: _numbers(name, found) for name, found in self.numbers.items()})
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))
        weakest(self._all())  # a verdict without evidence is refused

    @property
    def verdict(self) -> str:
        return HOLDS if self.holds else FAILS

    @property
    def kind(self) -> Kind:
        """Of the weakest number: the verdict is no stronger."""
        return weakest(self._all())

    def _all(self) -> list[Number]:
        return [number for found in self.numbers.values() for number in found]


def statement_of(source: str | Path) -> Statement:
    """The sentence, the paper, the scale and the bar of a claim's file, without running it."""
    path = Path(source)
    document = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    said = {"": ""}
    label = ""
    for line in document.splitlines():
        if opening := re.match(r"([A-Z][a-z]+)\s{2,}(.*)", line):
            label, line = opening.groups()
            said[label] = ""
        elif not line.strip():
            label = label if label == "" and not said[""] else "-"  # a paragraph ends here
        said[label] = f"{said.get(label, '')} {line.strip()}".strip()
    if missing := [name for name in ("", *LABELS) if not said.get(name)]:
        names = ", ".join(name or "a sentence" for name in missing)
        raise ValueError(f"{path.name}: the docstring lacks {names}. A claim opens with one sentence, then Paper, Scale and Holds.")
    return Statement(said[""], *(said[name] for name in LABELS))


def _numbers(name: str, found: Any) -> tuple[Number, ...]:
    several = [found] if isinstance(found, Number) or getattr(found, "ndim", None) == 0 or not isinstance(found, Iterable) else list(found)
    try:
        return tuple(x if isinstance(x, Number) else Number(float(x), "measured") for x in several)
    except (TypeError, ValueError):
        raise TypeError(f"numbers[{name!r}] is {found!r}, expected a number, a Number, or a sequence of them") from None
