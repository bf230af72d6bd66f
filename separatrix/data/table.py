"""Reading tables: CSV with the standard library, Parquet where pandas is installed, either perhaps packed (`packed.py`).

A cell is a number, or missing (empty, NA, NaN, null, none, -), or an error that names its row. A column of time stamps
puts the rows on a regular grid (`grid.py`); it is the clock, not a channel, and every row needs its time.
"""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from io import BytesIO, StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from separatrix.data.doubts import doubts
from separatrix.data.grid import SECONDS, Grid, by_count, by_stamp, parse_stamp, parse_stamps
from separatrix.data.packed import inside, unpacked
from separatrix.data.series import Series

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "."})
YEARS = frozenset({"year", "decimal_year", "decimal year", "jahr"})
CLOCKS = YEARS | {
    "", "index", "row", "t", "time", "step", "date", "datetime", "date_time", "timestamp", "ds", "unnamed: 0", "yyyymm",
    "datum", "mess_datum", "zeit", "zeitpunkt", "zeitstempel", "fecha",
}  # fmt: skip
PARQUET = (".parquet", ".pq")
DECIMAL_COMMA, DECIMAL_POINT = (re.compile(rf"[+-]?\d+{mark}\d+([eE][+-]?\d+)?") for mark in (",", r"\."))
THOUSANDS, WHOLE = re.compile(r"[+-]?[1-9]\d{0,2}[,.]\d{3}"), re.compile(r"[+-]?[1-9]\d{0,2}")
DIGITS = re.compile(r"(1[6-9]|20)\d{6}(\d\d)*")  # year, month, day and what may follow, in this and the last centuries
END = "\0"  # a line that no table has
WITH_COMMA = re.compile(r"[+-]?\d+(,\d+)+(\.\d+)?")


Columns = str | Sequence[str] | None  # one, several, or every column of numbers


def read_file(path: str | Path, column: Columns = None) -> Series:
    """A CSV or Parquet file as a `Series`, by its suffix; also packed, as in my.csv.gz."""
    return read_parquet(path, column) if inside(path).suffix.lower() in PARQUET else read_csv(path, column)


def read_csv(path: str | Path, column: Columns = None) -> Series:
    """The numeric columns of a CSV file (comma, semicolon or tab; header optional), or some of them, as a `Series`.

    column  the column to take, or several in the order wanted; None takes every column of numbers. Missing cells become gaps (NaN), never
            dropped rows.
    """
    raw = _bytes(path)
    columns = parse_csv(unpacked(raw, path), str(path))
    return to_series(columns, names_of(column), inside(path).stem, raw, str(path))


def read_parquet(path: str | Path, column: Columns = None) -> Series:
    """As `read_csv`, from a Parquet file. Needs pandas and pyarrow."""
    raw = _bytes(path)
    table = BytesIO(unpacked(raw, path))
    try:
        import pandas

        frame = pandas.read_parquet(table)
    except ImportError:
        raise ValueError(f"{path}: Parquet files need pandas and pyarrow: pip install 'separatrix[parquet]'.") from None
    except Exception as error:  # pyarrow raises a family of its own, which cannot be named without importing it
        raise ValueError(f"{path} is not a readable Parquet file ({type(error).__name__}).") from None
    if isinstance(frame.index, pandas.DatetimeIndex):
        frame = frame.reset_index(names=frame.index.name or "time")
    if frame.empty:
        raise ValueError(f"{path} is empty: it has no rows.")
    columns = {str(name): ["" if gap else str(cell) for cell, gap in zip(frame[name], frame[name].isna())] for name in frame}
    return to_series(columns, names_of(column), inside(path).stem, raw, str(path))


def parse_csv(raw: bytes, source: str) -> dict[str, list[str]]:
    """The cells of a CSV file, column by column. `source` names the file in errors."""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not UTF-8 text (byte {error.start}). Save it as a UTF-8 CSV file.") from None
    text = _below_comments(text.strip("\n"))
    first = text.lstrip().split("\n", 1)[0]
    # Where cells are parted by something else, the comma between two digits is a decimal one, nothing to split at.
    counted = re.sub(r"(?<=\d),(?=\d)", "", first) if {*";\t"} & {*first} else first
    delimiter = max(",;\t", key=counted.count)
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(StringIO(f"{text}\n{END}"), delimiter=delimiter)]
    except csv.Error as error:
        raise ValueError(f"{source} is not a CSV file ({error}). Save it as comma-separated text.") from None
    if rows.pop() != [END]:  # it was read as a part of a cell
        raise ValueError(f"{source}: row {len(rows) + 1} opens a quotation mark that nothing closes. Close it, or take it away.")
    # An empty line parts rows; where a row is one cell, it is an empty cell.
    rows = [row or [""] for row in rows if row or len(rows[0]) == 1]
    if delimiter != ",":
        rows = _with_points(rows, source)
    if not rows:
        raise ValueError(f"{source} is empty. A CSV file needs a header line and rows of numbers.")
    if all(_number(cell) is not None or any(is_time(cell) for is_time in STAMPS) for cell in rows[0]) and any(map(_is_value, rows[0])):
        header = [f"column {i + 1}" for i in range(len(rows[0]))]
    else:
        header, rows = rows[0], rows[1:]
    if not rows:
        raise ValueError(f"{source} has a header ({', '.join(header)}) but no rows.")
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"{source}: data row {i + 1} has {len(row)} cells but the header, {','.join(header)[:40]!r}, has {len(header)}. Repair the "
                f"row, or delete what stands above the table."
            )
    columns = [(name, list(cells)) for name, cells in zip(header, zip(*rows)) if name or any(cells)]  # without those of trailing commas
    if len(dict(columns)) < len(columns):
        raise ValueError(f"{source} names a column twice: {', '.join(header)}. Rename one.")
    return dict(columns)


def _below_comments(text: str) -> str:
    """Without the lines above the table that start with #; the last of them is its header where a row of as many numbers follows."""
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
    if start:
        header, row = (re.split(r"[,;\t]", line.lstrip("# ")) for line in lines[start - 1 : start + 1])
        if len(header) == len(row) > 1 and not any(map(_is_value, header)) and any(_is_value(cell.strip()) for cell in row[1:]):
            lines[start - 1] = lines[start - 1].lstrip("# ")
            start -= 1
    return "\n".join(lines[start:])


def _with_points(rows: list[list[str]], source: str) -> list[list[str]]:
    """Decimal commas as decimal points, where it is clear that they are: beside points, or where every one of them could part thousands
    and some numbers have none, nobody can say what a cell means; nor can they of points."""
    comma, point = (next((cell for row in rows for cell in row if form.fullmatch(cell)), None) for form in (DECIMAL_COMMA, DECIMAL_POINT))
    if comma is not None and point is not None:
        raise ValueError(f"{source} has numbers with a comma, {comma}, and with a point, {point}. Save it with decimal points only.")
    for cells in zip(*rows):
        marked = [cell for cell in cells if DECIMAL_COMMA.fullmatch(cell) or DECIMAL_POINT.fullmatch(cell)]
        if marked and all(map(THOUSANDS.fullmatch, marked)) and (whole := next(filter(WHOLE.fullmatch, cells), None)) is not None:
            raise ValueError(
                f"{source}: beside {whole}, {marked[0]} may be thousands or decimals. Write every decimal with the same number of digits, "
                f"as {whole}.000, or no mark for thousands."
            )
    return rows if comma is None else [[cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in row] for row in rows]


def names_of(column: Columns) -> tuple[str, ...] | None:
    """None for every column of numbers."""
    names = (column,) if isinstance(column, str) else None if column is None else tuple(column)
    if names is not None and (len(set(names)) < len(names) or not names):
        raise ValueError(f"column is {names!r} but must name at least one column, and each of them once.")
    return names


def to_series(columns: dict[str, list[str]], chosen: Sequence[str] | None, name: str, raw: bytes, source: str) -> Series:
    """The chosen columns of a table (None: every column of numbers) on the grid of its clock, if it has one."""
    remarks: list[str] = []
    clock = next((c for c, cells in columns.items() if c not in (chosen or ()) and _is_clock(c, cells)), None)
    if clock is None:
        for c, cells in columns.items():
            if c not in (chosen or ()) and (row := _without_time(c, cells)) is not None:
                raise ValueError(
                    f"{source}: column {c!r} is not a time in data row {row + 1}: {cells[row][:40]!r}. Repair it, or delete the row or the "
                    f"column."
                )
        for c, cells in columns.items():
            if c.lower() not in CLOCKS or c in (chosen or ()):
                continue
            if all(map(_is_value, cells)):
                remarks.append(f"{c!r} is no clock, as its numbers do not always grow: rows are taken in their order, as equally spaced.")
            elif _number(cells[0]) is None and any(map(str.isdigit, cells[0])):
                remarks.append(f"The times in {c!r}, such as {cells[0][:40]!r}, are not understood: rows are taken as equally spaced.")
    asked = chosen is not None
    if chosen is None:
        words = [c for c, cells in columns.items() if c != clock and not any(_is_value(x) or WITH_COMMA.fullmatch(x) for x in cells)]
        chosen = [c for c in columns if c != clock and c not in words]
        if words:
            remarks.append(f"Left out, holding no numbers: {', '.join(words)}.")
    if missing := [c for c in chosen if c not in columns]:
        raise ValueError(f"{source} has no column {missing[0]!r}. It has: {', '.join(columns)}.")
    if not chosen:
        parted = " Its cells must be parted by commas, semicolons or tabs." if len(columns) == 1 else ""
        raise ValueError(f"{source} has no column of numbers such as 1234.5. It has: {', '.join(columns)}.{parted}")
    values = np.stack([_column(source, c, columns[c]) for c in chosen], axis=1)
    remarks += doubts({c: columns[c] for c in chosen}, values, asked)
    grid, start = Grid(values, 1.0, "step", (), None), ""
    if clock is not None:
        try:
            grid, start = _on_grid(clock, columns[clock], values)
        except ValueError as error:
            raise ValueError(f"{source}, column {clock!r}: {error}") from None
    return Series(
        name, grid.values, tuple(chosen), step=grid.step, unit=grid.unit, start=start,
        notice="the user's own file", remarks=(*remarks, *grid.remarks), sha256=hashlib.sha256(raw).hexdigest(),
    )  # fmt: skip


def _on_grid(clock: str, cells: list[str], values: NDArray[np.float64]) -> tuple[Grid, str]:
    """The grid, and the time of its first row in words; none where the times fit no grid."""
    if (found := parse_stamps(cells)) is not None:
        stamps, said = found
        grid = by_stamp(stamps, values)
        grid = grid._replace(remarks=(*said, *grid.remarks))
        if grid.first is None:
            return grid, ""
        start = datetime.fromtimestamp(grid.first, UTC) if grid.unit in SECONDS else stamps[0]
        return grid, str(start.replace(tzinfo=None)).removesuffix(":00").removesuffix(" 00:00")
    readings = np.array([float(cell) for cell in cells])
    grid = by_count(readings, values, "year" if clock.lower() in YEARS else "step")
    if grid.unit == "year" and grid.first is not None and abs(12 * grid.step - 1) < 1e-3:  # 2000.0417, 2000.125: the middles of months
        year, month = divmod(int(12 * grid.first + 1e-2), 12)
        return grid._replace(unit="month", step=1.0), f"{year:04}-{month + 1:02}"
    return grid, "" if grid.first is None else cells[0] if grid.first == readings[0] else f"{grid.first:.9g}"


def _is_clock(name: str, cells: list[str]) -> bool:
    """Time stamps under any name, or numbers that grow under a name that says time."""
    by_name = name.lower() in CLOCKS
    dated = any(is_time(cells[0]) for is_time in STAMPS) and (by_name or _number(cells[0]) is None)
    digits = len(cells) > 2 and all(map(DIGITS.fullmatch, cells)) and all(a < b for a, b in pairwise(cells))  # 20240131, 20240201, ...
    if dated or digits:
        if any(all(map(is_time, cells)) for is_time in STAMPS):
            return True
        if 2 * max(sum(map(is_time, cells)) for is_time in STAMPS) > len(cells):
            return False  # one that is no time is a mistake; where most are none they count seconds, as 1700000000 does
    if not by_name or not all(_is_value(cell) for cell in cells):
        return False
    readings = np.array([float(cell) for cell in cells])
    return bool(np.isfinite(readings).all() and (np.diff(readings) > 0).all())


def _without_time(name: str, cells: list[str]) -> int | None:
    """The first row, such as a total below the table, that has no time where most have one; None where the column is no clock."""
    tests: tuple[Callable[[str], bool], ...] = (*STAMPS, _is_value)
    for is_time in tests:
        timed = [i for i, cell in enumerate(cells) if is_time(cell)]
        if len(cells) < 2 * len(timed) < 2 * len(cells) and _is_clock(name, [cells[i] for i in timed]):
            return next(row for row, i in enumerate([*timed, len(cells)]) if row != i)
    return None


def _is_stamp(cell: str, day_first: bool) -> bool:
    return parse_stamp(cell, day_first=day_first) is not None


STAMPS: tuple[Callable[[str], bool], ...] = (partial(_is_stamp, day_first=False), partial(_is_stamp, day_first=True))


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"no such file: {path}") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None


def _number(cell: str) -> float | None:
    """The number in a cell, NaN if it is missing, None if it is something else."""
    if cell.lower() in MISSING:
        return math.nan
    try:
        return None if "_" in cell else float(cell)  # Python reads the label 2024_01 as 202401
    except ValueError:
        return None


def _is_value(cell: str) -> bool:
    return (number := _number(cell)) is not None and not math.isnan(number)


def _column(source: str, name: str, cells: list[str]) -> NDArray[np.float64]:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        number = _number(cell)
        if number is None:
            mend = "Write it with a decimal point and no other mark" if WITH_COMMA.fullmatch(cell) else "Repair it or leave it empty"
            raise ValueError(f"{source}: column {name!r} is not a number in data row {i + 1}: {cell[:40]!r}. {mend}.")
        if math.isinf(number):
            raise ValueError(f"{source}: column {name!r} is infinite in data row {i + 1}. Repair it or leave it empty.")
        values[i] = number
    return values
