"""Clock readings onto a regular grid.

    row = (reading - first reading) / step        step: the most frequent difference between neighbours

Missing readings become rows of NaN. Months and years are counted on the calendar, since no number of seconds is a month;
they may be dated by their last days.
"""

from __future__ import annotations

from calendar import monthrange
from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SECONDS = {"s": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
EMPTIEST = 100  # a grid with more rows than this per reading is no grid, but two measurements far apart


class Grid(NamedTuple):
    values: NDArray[np.float64]  # [T, C], NaN rows where a reading is missing
    step: float
    unit: str
    remarks: tuple[str, ...]


def parse_stamp(text: str) -> datetime | None:
    """An ISO 8601 date or time (also 2013/01/31, 2013-01 and 19580329), UTC where no zone is said; None where it is none."""
    text = text.strip().replace("/", "-")
    if len(text) < 7:
        return None
    try:
        stamp = datetime.fromisoformat(f"{text}-01" if len(text) == 7 and text[4] == "-" else text)
    except ValueError:
        return None
    return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)


def by_stamp(stamps: list[datetime], values: NDArray[np.float64]) -> Grid:
    """The values [T, C] on the grid that their time stamps describe: calendar months or years, else a fixed number of seconds."""
    months = np.array([12 * stamp.year + stamp.month for stamp in stamps], dtype=np.float64)
    ends = all(stamp.day == monthrange(stamp.year, stamp.month)[1] for stamp in stamps)
    if len({(ends or stamp.day, stamp.hour, stamp.minute, stamp.second) for stamp in stamps}) == 1 and (np.diff(months) > 0).all():
        grid = by_count(months, values, "month")
        return grid._replace(step=grid.step / 12, unit="year") if grid.unit == "month" and grid.step % 12 == 0 else grid
    grid = by_count(np.array([stamp.timestamp() for stamp in stamps]), values, "s")
    if grid.unit != "s":
        return grid
    unit = max((unit for unit in SECONDS if grid.step % SECONDS[unit] == 0), key=SECONDS.__getitem__, default="s")
    return grid._replace(step=grid.step / SECONDS[unit], unit=unit)


def by_count(readings: NDArray[np.float64], values: NDArray[np.float64], unit: str) -> Grid:
    """The values [T, C] on the grid of these clock readings [T]; unit "step" where they fit none."""
    remarks: list[str] = []
    if (backwards := np.diff(readings) < 0).any():
        raise ValueError(f"time goes backwards at data row {int(np.argmax(backwards)) + 2}. Sort the file by time.")
    if (repeated := np.diff(readings) == 0).any():
        if 2 * repeated.sum() >= len(readings):
            raise ValueError(
                f"{int(repeated.sum())} of {len(readings)} times repeat the one before. Where the hour stands in another column, join the "
                f"two; where several series share the times, keep one of them."
            )
        kept = np.append(~repeated, True)
        remarks.append(f"{int(repeated.sum())} repeated times: the last row of each was kept.")
        readings, values = readings[kept], values[kept]
    if len(readings) < 2:
        return Grid(values, 1.0, "step", tuple(remarks))
    step = Counter(np.round(np.diff(readings), 6).tolist()).most_common(1)[0][0]
    rows = (readings - readings[0]) / step if step > 0 else np.full(len(readings), 0.5)
    whole = np.round(rows).astype(np.int64)
    if np.abs(rows - whole).max() > 0.01 or whole[-1] > EMPTIEST * len(whole):
        return Grid(values, 1.0, "step", (*remarks, "The times are irregular: rows are taken as equally spaced."))
    filled = np.full((int(whole[-1]) + 1, values.shape[1]), np.nan)
    filled[whole] = values
    if missing := len(filled) - len(values):
        remarks.append(f"{missing} missing times became rows of gaps.")
    return Grid(filled, float(step), unit, tuple(remarks))
