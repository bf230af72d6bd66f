"""The time of a row in words: the way back from `grid.py`.

    time(row) = start + row * step        counted on the calendar in months and years, in seconds below them

It is written as the series writes its start: 1749-01, 1871, 2013-01-01 06:00, or a number. A start on the last day of a month stands for
month ends, the way business series are dated. The calendar ends with the year 9999; rows beyond it have no time.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import MAXYEAR, datetime, timedelta
from functools import lru_cache

from separatrix.data.grid import SECONDS
from separatrix.data.series import Series

FORMATS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


def time_of(series: Series, row: int) -> str:
    """When `row` was or will be measured, beyond the end too; "" where the series has no clock."""
    form, start = _read(series.start)
    passed = row * series.step
    if start is None or (series.unit not in SECONDS and passed % 1):
        return _counted(series.start, passed)
    if series.unit in SECONDS:
        try:
            at = start + timedelta(seconds=passed * SECONDS[series.unit])
        except OverflowError:
            return ""
        needed = FORMATS[{"s": 4, "minute": 3, "hour": 3}.get(series.unit, 2)]
        return at.isoformat(" ") if at.microsecond else at.strftime(max(form, needed, key=len))
    if series.unit not in ("month", "year"):
        return _counted(series.start, passed)
    months = 12 * start.year + start.month - 1 + round(passed) * (12 if series.unit == "year" else 1)
    year, month = months // 12, months % 12 + 1
    if year > MAXYEAR:
        return ""
    last = monthrange(year, month)[1]
    ends = "%d" in form and start.day == monthrange(start.year, start.month)[1]
    return start.replace(year=year, month=month, day=last if ends else min(start.day, last)).strftime(form)


@lru_cache(maxsize=16)
def _read(start: str) -> tuple[str, datetime | None]:
    """The form in which a start is written, and the start; read once, as every row counts from it."""
    for form in FORMATS:
        try:
            return form, datetime.strptime(start, form)
        except ValueError:
            continue
    return "", None


def _counted(start: str, passed: float) -> str:
    """A clock that is a number goes on counting."""
    try:
        value = float(start) + passed
    except ValueError:
        return ""
    digits = len(start.partition(".")[2])
    return f"{value:.0f}" if value % 1 == 0 else f"{value:.{digits}f}" if digits > 3 else f"{value:.12g}"  # 2000.0417 is rounded itself
