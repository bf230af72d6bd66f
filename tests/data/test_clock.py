"""Rows have the times that a file gave them, and those to come go on from there."""

from dataclasses import replace

import numpy as np
import pytest

from separatrix import data
from separatrix.data.clock import time_of
from separatrix.data.series import Series
from separatrix.data.table import read_csv


@pytest.mark.parametrize(
    "stamps",
    [
        ["2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02"],
        ["2023-12-31 00:00", "2023-12-31 12:00", "2024-01-01 00:00", "2024-01-01 12:00"],
        ["2023-12-31 22:00", "2023-12-31 23:00", "2024-01-01 00:00", "2024-01-01 01:00"],
        ["2024-02-28 23:59:30", "2024-02-28 23:59:45", "2024-02-29 00:00:00", "2024-02-29 00:00:15"],
        ["2023-10-31", "2023-11-30", "2023-12-31", "2024-01-31", "2024-02-29"],
        ["2023-11-15", "2023-12-15", "2024-01-15"],
        ["2022-03-31", "2022-06-30", "2022-09-30", "2022-12-31"],
        ["2021-07-01", "2022-07-01", "2023-07-01"],
        ["2024-01-01", "2024-01-08", "2024-01-15"],
        ["3", "5", "7", "9"],
        ["0.5", "0.75", "1", "1.25"],
    ],
)
def test_a_file_s_times_come_back(tmp_path, stamps):
    path = tmp_path / "a.csv"
    kept = len(stamps) - 1  # the last one is to come
    path.write_text("time,x\n" + "".join(f"{stamp},{i % 2}\n" for i, stamp in enumerate(stamps[:kept])))
    if kept > 2:  # two readings alone describe no calendar
        assert [time_of(read_csv(path), row) for row in range(len(stamps))] == stamps
    path.write_text("time,x\n" + "".join(f"{stamp},{i % 2}\n" for i, stamp in enumerate(stamps)))
    assert [time_of(read_csv(path), row) for row in range(len(stamps))] == stamps


@pytest.mark.parametrize(
    "name, row, time",
    [
        ("sunspots", 3126, "2009-07"),
        ("nile", 100, "1971"),
        ("co2", 1, "1958-04-05"),
        ("weather_jfk", 20, "2013-01-02 02:00"),
        ("laser", 5, ""),
    ],
)
def test_shipped_series_go_on_from_their_start(name, row, time):
    assert time_of(data.load(name), row) == time


def test_a_series_without_a_clock_has_no_times():
    assert time_of(Series.from_array(np.zeros(3)), 7) == ""


@pytest.mark.parametrize(
    "start, unit, last", [("1749-01", "month", "9999-12"), ("1871", "year", "9999"), ("9999-12-31 20:00", "hour", "9999-12-31 23:00")]
)
def test_rows_beyond_the_last_year_of_the_calendar_have_no_time(start, unit, last):
    series = replace(Series.from_array(np.zeros(3)), start=start, unit=unit)
    rows = {"month": 12 * (10_000 - 1749), "year": 10_000 - 1871, "hour": 4}[unit]
    assert [time_of(series, rows - 1), time_of(series, rows), time_of(series, 10**9)] == [last, "", ""]
