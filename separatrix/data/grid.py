"""Clock readings onto a regular grid.

    row = (reading - first reading) / step        step: the most frequent difference between neighbours

Missing readings become rows of NaN. Readings that are a little off, by a clock that jitters or by rounding (2000.0417, 2000.125), stand in
the nearest row of the line that fits them best. Months and years are counted on the calendar, since no number of seconds is a month; they
may be dated by their last days.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections import Counter
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ZONED = re.compile(r":\d\d(\.\d+)? ?[+-](?!00:?(00)?$)\d\d(:?\d\d)?$")  # by more than nothing
SECONDS = {"s": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
DATED = re.compile(r"[/A-Za-z:]|[-.].*[-.]|\d-\d")  # what every date has and most numbers have not
TIME = r"(?:[T ,]+(?P<hour>\d{1,2})(?P<minute>:\d\d(?::\d\d(?:\.\d+)?)?)? ?(?P<half>[ap]m)? ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
FORMS = [
    re.compile(date + TIME, re.IGNORECASE)
    for date in (
        r"(?P<left>\d{1,2})(?P<mark>[-/.])(?P<right>\d{1,2})(?P=mark)(?P<year>\d{4})",
        r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
        r"(?P<year>\d{4})[-/](?P<month>\d{1,2})",
        r"(?P<month>\d{1,2})/(?P<year>\d{4})",
        r"(?P<day>\d{1,2})[-/. ](?P<month>[a-z]{3,9})[-/.]? ?(?P<year>\d{4})",
        r"(?P<month>[a-z]{3,9})\.? (?P<day>\d{1,2}),? (?P<year>\d{4})",
        r"(?P<month>[a-z]{3,9})[-/ ](?P<year>\d{4})",
    )
]
MONTH = 365.2425 / 12 * 86400
EXACT, NEAREST = 0.01, 0.25  # of a step: how far a reading may be off its row without a word, and at all
EMPTIEST = 100  # a grid with more rows than this per reading is no grid, but moments far apart
LONGEST = 10  # no jump may leave more rows empty than this per reading: it is a mistake in one time, or two series in one file


class Grid(NamedTuple):
    values: NDArray[np.float64]  # [T, C], NaN rows where a reading is missing
    step: float
    unit: str
    remarks: tuple[str, ...]
    first: float | None  # the reading of row 0; None where the readings fit no grid


def parse_stamp(text: str, *, day_first: bool = False) -> datetime | None:
    """A date or time, UTC where no zone is said; None where it is none.

    ISO 8601 (also 2013/01/31, 2013-01, 201301, 19580329, 2013013118), 31 Jan 2013, January 31, 2013, Jan 2013, 01/2013, and 1/31/2013 in
    the order that is asked for; after a date a time such as 18:30, 6:30 PM or 18:30:00 UTC. A year of two digits is none: 01/02/03 may be
    in three years.
    """
    text = text.strip()
    if text.isdecimal():
        if len(text) not in (6, 8, 10, 12, 14):  # Python's reader takes any sign, a digit too, for the T between date and time
            return None
        text = f"{text[:4]}-{text[4:]}" if len(text) == 6 else f"{text[:8]}T{text[8:]}".removesuffix("T")
    elif not DATED.search(text):
        return None
    try:
        stamp: datetime | None = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        match = next((match for form in FORMS if (match := form.fullmatch(text))), None)
        stamp = None if match is None else _stamp(match.groupdict(), day_first)
    if stamp is None:
        return None
    return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)


def _stamp(said: dict[str, str | None], day_first: bool) -> datetime | None:
    day, month = said.get("day") or "1", said.get("month") or ""
    if said.get("left"):
        day, month = (str(said["left" if first else "right"]) for first in (day_first, not day_first))
    if not month.isdecimal():
        month = str(next((i for i, name in enumerate(MONTHS, 1) if name.startswith(month.lower())), 0))
    hour = int(said["hour"] or 0)
    if said["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if said["half"].lower() == "pm" else 0)
    zone = "Z" if said["zone"] and said["zone"].isalpha() else said["zone"] or ""
    try:
        return datetime.fromisoformat(f"{said['year']}-{month:0>2}-{day:0>2}T{hour:02}{said['minute'] or ''}{zone}")
    except ValueError:
        return None


def parse_stamps(cells: list[str]) -> tuple[list[datetime], tuple[str, ...]] | None:
    """The times of a column, and what has to be said about them; None where a cell is no time.

    1/2/2024 is in January or in February, depending on who wrote it. The whole column decides: by a day beyond the twelfth, or because
    one order leaves the times on a grid without a hole and the other does not. Where it does not decide, nobody may guess.
    """
    orders = [[parse_stamp(cell, day_first=day_first) for cell in cells] for day_first in (False, True)]
    month_first, day_first = ([stamp for stamp in stamps if stamp is not None] for stamps in orders)
    said = ("Times with a zone of their own are counted and shown in UTC.",) if any(map(ZONED.search, cells)) else ()
    if month_first == day_first:
        return (month_first, said) if len(month_first) == len(cells) else None
    fits = [stamps for stamps in (month_first, day_first) if len(stamps) == len(cells)]
    example = next(cell for cell, one, other in zip(cells, *orders) if one != other)
    if len(fits) == 2 and len(fits := [stamps for stamps in fits if _without_a_hole(stamps)]) != 1:
        raise ValueError(
            f"{example!r} is one date read day first and another read month first, and both fit. Write 2024-01-31 for January 31."
        )
    read = f"Dates such as {example} are read {'day' if fits and fits[0] is day_first else 'month'} first."
    return (fits[0], (read, *said)) if fits else None


def _without_a_hole(stamps: list[datetime]) -> bool:
    try:
        return not by_stamp(stamps, np.zeros((len(stamps), 1))).remarks
    except ValueError:
        return False


def by_stamp(stamps: list[datetime], values: NDArray[np.float64]) -> Grid:
    """The values [T, C] on the grid that their time stamps describe: calendar months or years, else a fixed number of seconds."""
    months = np.array([12 * stamp.year + stamp.month for stamp in stamps], dtype=np.float64)
    growing = bool((np.diff(months) > 0).all())
    ends = all(stamp.day == monthrange(stamp.year, stamp.month)[1] for stamp in stamps)
    if growing and len({(ends or stamp.day, stamp.hour, stamp.minute, stamp.second) for stamp in stamps}) == 1:
        return _by_month(months, values)
    readings = np.array([stamp.timestamp() for stamp in stamps])
    grid = by_count(readings, values, "s")
    if grid.unit != "s" or grid.remarks:
        length = np.median(np.diff(readings)) / MONTH
        if growing and abs(length - max(1, round(length))) < 0.05:
            grid = _by_month(months, values)
            return grid._replace(remarks=("The day of the month varies: each value stands for its month.", *grid.remarks))
    if grid.unit != "s":
        return grid
    unit = max((unit for unit in SECONDS if grid.step % SECONDS[unit] == 0), key=SECONDS.__getitem__, default="s")
    return grid._replace(step=grid.step / SECONDS[unit], unit=unit)


def _by_month(months: NDArray[np.float64], values: NDArray[np.float64]) -> Grid:
    grid = by_count(months, values, "month")
    return grid._replace(step=grid.step / 12, unit="year") if grid.unit == "month" and grid.step % 12 == 0 else grid


def by_count(readings: NDArray[np.float64], values: NDArray[np.float64], unit: str) -> Grid:
    """The values [T, C] on the grid of these clock readings [T]; unit "step" where they fit none."""
    remarks: list[str] = []
    if (backwards := np.diff(readings) < 0).any():
        raise ValueError(
            f"time goes backwards at data row {int(np.argmax(backwards)) + 2}. Sort the file by time, or, where clocks were set back, "
            f"write UTC."
        )
    rows = np.arange(len(readings))
    if count := int((repeated := np.diff(readings) == 0).sum()):
        if 2 * count >= len(readings):
            raise ValueError(
                f"{count} of {len(readings)} times repeat the one before. Where the hour stands in another column, join the "
                f"two; where several series share the times, keep one of them."
            )
        rows = rows[np.append(~repeated, True)]
        remarks.append(f"{count:,} repeated time{'s' * (count > 1)}: the last row of each was kept.")
        readings, values = readings[rows], values[rows]
    if len(readings) < 2:
        return Grid(values, 1.0, "step", tuple(remarks), float(readings[0]) if len(readings) else None)
    first, step, whole = _even(readings, unit)
    off = float(np.abs((readings - first) / step - whole).max())
    leaps = np.diff(whole)
    if off <= NEAREST and leaps.max() > LONGEST * len(whole):
        before = int(np.argmax(leaps))
        raise ValueError(
            f"time jumps over {int(leaps[before]) - 1:,} rows between data rows {rows[before] + 1} and {rows[before + 1] + 1}, where only "
            f"{len(whole):,} were measured. Repair the time that is wrong, or keep the rows on one side of the jump."
        )
    if off > NEAREST or leaps.min() < 1 or whole[-1] > EMPTIEST * len(whole):
        return Grid(values, 1.0, "step", (*remarks, "The times are irregular: rows are taken as equally spaced."), None)
    if off > EXACT:
        remarks.append(f"The times are up to {off:.2g} steps off an even grid: each value stands in the nearest row.")
    filled = np.full((int(whole[-1]) + 1, values.shape[1]), np.nan)
    filled[whole] = values
    if missing := len(filled) - len(values):
        remarks.append(f"{missing:,} missing times became rows of gaps." if missing > 1 else "1 missing time became a row of gaps.")
    return Grid(filled, float(step), unit, tuple(remarks), float(first))


def _even(readings: NDArray[np.float64], unit: str) -> tuple[float, float, NDArray[np.int64]]:
    """The first reading, the step and the row of each on the grid that comes nearest."""
    apart = np.diff(readings)
    step = Counter(np.round(apart, 6).tolist()).most_common(1)[0][0] or float(np.median(apart))
    whole = np.round((readings - readings[0]) / step).astype(np.int64)
    if np.abs((readings - readings[0]) / step - whole).max() <= EXACT:
        return float(readings[0]), step, whole
    whole = np.append(0, np.cumsum(np.round(apart / np.median(apart)))).astype(np.int64)  # from neighbour to neighbour nothing adds up
    if whole[-1] == 0:
        return float(readings[0]), step, whole
    step, past = np.polyfit(whole, readings - readings[0], 1)
    first = float(readings[0] + past)
    return (*(_set(readings, whole, first, float(step)) if unit == "s" else (first, float(step))), whole)


def _set(readings: NDArray[np.float64], whole: NDArray[np.int64], first: float, step: float) -> tuple[float, float]:
    """The same line in the whole hours, minutes or seconds that clocks are set to, where it is as near to them as it is known."""
    spread = float((readings - first - step * whole).std())
    slack = max(EXACT * step, 3 * spread * (12 / len(whole)) ** 0.5)  # how far the end of the line may be off
    sizes = sorted(SECONDS.values(), reverse=True)
    size = next((size for size in sizes if step > size / 2 and abs(step - size * round(step / size)) * whole[-1] < slack), 0)
    step = size * round(step / size) if size else step
    first, noise = float(np.median(readings - step * whole)), min(0.05 * step, max(30.0, 4 * spread / len(whole) ** 0.5))
    grain = next((size for size in (3600, 60) if abs(first - size * round(first / size)) <= noise), 0)
    return float(grain * round(first / grain)) if grain else first, float(step)
