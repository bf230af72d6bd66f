"""What looks wrong in columns of numbers: said, never changed.

a code for missing    -999, 9999, -99.9 and the like, farther from all other values than these are from each other
a row number          whole numbers that grow by the same amount in every row
a label               one number in all rows
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CODES = frozenset(sign * base for base in (99.0, 999.0, 9999.0, 99999.0, 99.9, 999.9, 9999.9, 99.99, 999.99) for sign in (-1, 1))
FEWEST = 8  # rows, before a column that grows is called a row number


def doubts(names: Sequence[str], values: NDArray[np.float64], asked: bool) -> list[str]:
    """Remarks on these columns.    values [T, C], NaN where missing; asked: they were chosen by name, so that they are no labels"""
    columns = list(zip(names, values.T))
    said = [remark for name, column in columns for remark in _codes(name, column)]
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


def _labels(name: str, values: NDArray[np.float64]) -> list[str]:
    if len(values) < FEWEST or (np.diff(values) != values[1] - values[0]).any() or (values % 1 != 0).any():
        return []
    growth = values[1] - values[0]
    if growth < 0:
        return []
    what = f"grows by {growth:g} in every row" if growth else f"is {values[0]:.12g} in every row"
    return [f"{name!r} {what} and was taken as data. If it is a number of the row or a label, choose others with --column."]
