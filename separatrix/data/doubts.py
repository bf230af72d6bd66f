"""What looks wrong in columns of numbers: said, never changed.

a code for missing    -999, 9999, -99.9 and the like, farther from all other values than these are from each other
a row number          whole numbers that grow by the same amount in every row
a label               one number in all rows
an exact number       whole, and of more digits than a float64 holds, as identifiers and times in nanoseconds are
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

CODES = frozenset(sign * base for base in (99.0, 999.0, 9999.0, 99999.0, 99.9, 999.9, 9999.9, 99.99, 999.99) for sign in (-1, 1))
FEWEST = 8  # rows, before a column that grows is called a row number
LONG = re.compile(r"[+-]?[1-9]\d{15,}")  # whole numbers of fewer digits are float64s


def doubts(cells: Mapping[str, Sequence[str]], values: NDArray[np.float64], asked: bool) -> list[str]:
    """Remarks on columns.

    cells   of each column, as they stand in the file.
    values  [T, C], the numbers in them; NaN where missing.
    asked   whether they were chosen by name, so that they are no labels.
    """
    columns = list(zip(cells, values.T))
    said = [remark for name, column in columns for remark in (*_codes(name, column), *_rounded(name, cells[name]))]
    return said if asked or len(columns) == 1 else said + [remark for name, column in columns for remark in _labels(name, column)]


def _codes(name: str, values: NDArray[np.float64]) -> list[str]:
    known, said = values[np.isfinite(values)], []
    for code in sorted({float(known.min()), float(known.max())} & CODES) if len(known) else ():
        others = known[known != code]
        if len(others) > 1 and np.abs(others - code).min() > np.ptp(others):
            count = len(known) - len(others)
            said.append(
                f"{name!r} is {code:g} in {count:,} row{'s' * (count > 1)}, far from all else, and was taken at its word. "
                f"If it means missing, leave those cells empty."
            )
    return said


def _rounded(name: str, cells: Sequence[str]) -> list[str]:
    lost = [cell for cell in cells if LONG.fullmatch(cell) and int(cell) != float(cell)]
    if not lost:
        return []
    return [
        f"{name!r} has {len(lost):,} whole number{'s' * (len(lost) > 1)} too long to be kept to the last digit: {lost[0]} was read as "
        f"{int(float(lost[0]))}. If the last digits matter, subtract what all have in common; if they are a label, leave the column out."
    ]


def _labels(name: str, values: NDArray[np.float64]) -> list[str]:
    if len(values) < FEWEST or (np.diff(values) != values[1] - values[0]).any() or (values % 1 != 0).any():
        return []
    growth = values[1] - values[0]
    if growth < 0:
        return []
    what = f"grows by {growth:g} in every row" if growth else f"is {values[0]:.12g} in every row"
    return [f"{name!r} {what} and was taken as data. If it is a number of the row or a label, choose others with --column."]
