"""A forecasting task as a value: hear the rows before `origin`, go on alone for `horizon` rows.

    fitted     rows 0 .. origin - 1           everything that is learned or chosen comes from here
    truth      rows origin .. origin + horizon - 1

Kept beside a model as task.json, it is what an audit needs to find the same data again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from separatrix.data.series import Series
from separatrix.data.shipped import SHIPPED, read
from separatrix.files import write_text

TASK = "task.json"


@dataclass(frozen=True)
class Task:
    """Continue a series.

    source   the name of a shipped series, or the path of a file.
    column   the column that is used, or several (None: every column of numbers).
    origin   rows that may be heard, counted from the start.
    horizon  rows that are forecast from there; the file may hold more.
    sha256   of the file, so that another file in its place is noticed.
    command  what was typed, for the report.
    rows     how many the file had, and the fingerprint of their values, so that a file that has grown since can be told from another one.
    """

    source: str
    column: str | list[str] | None
    origin: int
    horizon: int
    sha256: str
    command: str = ""
    rows: int = 0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for name, least in (("origin", 8), ("horizon", 1), ("rows", 0)):
            if type(value := getattr(self, name)) is not int or value < least:
                raise ValueError(f"{name} is {value!r} but must be a whole number of at least {least}")
        names = [] if self.column is None else self.column if isinstance(self.column, list) else [self.column]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"column is {self.column!r} but must be text, or a list of it")
        for name in ("source", "sha256", "command", "fingerprint"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"{name} is {value!r} but must be text")

    @classmethod
    def of(cls, source: str, column: str | list[str] | None = None, horizon: int | None = None, command: str = "") -> tuple[Task, Series]:
        """The task of a series and the series: from the origin the field agreed on, else with the last `horizon` rows kept back."""
        path = Path(source)
        if source == "-" or path.is_fifo() or path.is_char_device():
            raise ValueError(
                f"{source} can be read only once, but a run reads its series again when it is measured or goes on. Save it first, as in "
                f"cat > my.csv, and give that file."
            )
        series = read(source, column)
        if horizon is not None and horizon < 1:
            raise ValueError(f"horizon is {horizon} but a forecast has at least one row. Choose a horizon of 1 or more.")
        if series.origin is not None and series.horizon is not None:
            origin, ahead = series.origin, horizon or series.horizon
        else:
            ahead = horizon or max(1, min(100, len(series) // 10))
            origin = len(series) - ahead
        if origin < 8 or origin + ahead > len(series):
            mend = "Choose a shorter horizon" if ahead > 1 else "Give a longer series"
            raise ValueError(f"{series.name!r} has {len(series)} rows: a horizon of {ahead} leaves too few to fit (8). {mend}.")
        place = source if source in SHIPPED else str(path.resolve())
        return cls(place, column, origin, ahead, series.sha256, command, len(series), series.fingerprint), series

    def series(self) -> Series:
        """The series, read again; it may have grown, but an error if the rows that it had are no longer the same."""
        series = read(self.source, self.column)
        if series.sha256 != self.sha256 and not self._begins(series):
            raise ValueError(
                f"{self.source} has changed since the run was made (sha256 {series.sha256[:12]}, then {self.sha256[:12]}), and not by rows "
                f"after its last. Fit it again."
            )
        if self.origin + self.horizon > len(series):
            raise ValueError(
                f"the task asks for {self.origin + self.horizon} rows but {self.source} has {len(series)}: {TASK} was changed. Fit again."
            )
        return series

    def _begins(self, series: Series) -> bool:
        """Whether a series begins with the rows that there were."""
        return 0 < self.rows <= len(series) and replace(series, values=series.values[: self.rows]).fingerprint == self.fingerprint

    def fitted(self, series: Series) -> Series:
        """The rows of the series that may be heard."""
        return replace(series, values=series.values[: self.origin])

    def truth(self, series: Series) -> NDArray[np.float64]:
        """The rows to forecast.    [horizon, C]"""
        return series.values[self.origin : self.origin + self.horizon]

    def save(self, folder: str | Path) -> None:
        write_text(Path(folder) / TASK, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Task:
        path = Path(folder) / TASK
        if not path.is_file():
            raise ValueError(f"{folder} is not the folder of a run: it has no {TASK}. Give the folder that `separatrix fit` wrote.")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, json.JSONDecodeError, UnicodeDecodeError):
            names = ", ".join(field.name for field in fields(cls))
            raise ValueError(f"{path} is damaged: it must be JSON with {names}. Fit again.") from None
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}. Fit again.") from None
