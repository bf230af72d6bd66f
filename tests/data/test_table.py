"""Reading a stranger's file: what is understood, what is refused, and in which words."""

import bz2
import gzip
import lzma
import math
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separatrix import data
from separatrix.data.table import parse_csv, to_series

nan = math.nan


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def same(got, want):
    return np.array_equal(got, np.array(want, dtype=float), equal_nan=True)


def test_missing_cells_are_gaps_and_keep_their_place(write):
    series = data.read_csv(write("a,b\n1,2\n,NA\n3,nan\n"))
    assert series.names == ("a", "b") and series.gaps == 3
    assert same(series.values, [[1, 2], [nan, nan], [3, nan]])
    assert (series.name, series.step, series.unit) == ("mine", 1.0, "step")


def test_an_empty_line_in_a_file_of_one_column_is_a_gap(write):
    assert same(data.read_csv(write("\na\r\n1\r\n\r\n3\r\n\r\n")).values, [[1], [nan], [3]])
    assert same(data.read_csv(write("\na,b\n\n1,2\n\n3,4\n\n")).values, [[1, 2], [3, 4]])


def test_where_cells_are_not_parted_by_commas_they_are_decimal(write):
    assert same(data.read_csv(write("9,1;13,5;2\n-9,2;1,6e1;3\n")).values, [[9.1, 13.5, 2], [-9.2, 16, 3]])
    series = data.read_csv(write("day\tx\n2024-01-01\t1,5\n2024-01-02\t\n"))
    assert series.names == ("x",) and same(series.values, [[1.5], [np.nan]])


def test_one_column(write):
    series = data.read_csv(write("a;b\r\n1;2\r\n3;4\r\n"), "b")
    assert series.names == ("b",) and same(series.values, [[2], [4]])


def test_no_header(write):
    assert same(data.read_csv(write("1\n2.5\n-3e2\n")).values, [[1], [2.5], [-300]])


@pytest.mark.parametrize(
    "stamps, step, unit",
    [
        (["2024-01-01", "2024-01-02", "2024-01-04"], 1.0, "day"),
        (["2024-01-01T00:00", "2024-01-01T06:00", "2024-01-01T18:00"], 6.0, "hour"),
        (["2024-01-31 10:00:00Z", "2024-01-31 10:00:30Z", "2024-01-31 10:01:30Z"], 30.0, "s"),
        (["2024-01", "2024-02", "2024-04"], 1.0, "month"),
        (["2024-01-31", "2024-02-29", "2024-04-30"], 1.0, "month"),
        (["2019-03-31 12:00", "2019-06-30 12:00", "2019-12-31 12:00"], 3.0, "month"),
        (["2019-06-01", "2020-06-01", "2022-06-01"], 1.0, "year"),
        (["20240101", "20240108", "20240122"], 1.0, "week"),
    ],
)
def test_time_stamps_set_the_grid_and_a_missing_one_is_a_gap(write, stamps, step, unit):
    series = data.read_csv(write("date,x\n" + "".join(f"{stamp},{i}\n" for i, stamp in enumerate(stamps))))
    assert series.names == ("x",) and (series.step, series.unit) == (step, unit)
    assert same(series.values, [[0], [1], [nan], [2]])
    assert series.remarks == ("1 missing time became a row of gaps.",)
    assert series.start.startswith("20")


IN_UTC = "Times with a zone of their own are counted and shown in UTC."


@pytest.mark.parametrize(
    "stamps, step, unit, said",
    [
        (["1/30/2024", "1/31/2024", "2/2/2024"], 1.0, "day", "Dates such as 1/30/2024 are read month first."),
        (["30.1.2024", "31.1.2024", "2.2.2024"], 1.0, "day", "Dates such as 30.1.2024 are read day first."),
        (["2/9/2024 11:00 PM", "2/10/2024 12:00 AM", "2/10/2024 2:00 AM"] , 1.0, "hour", None),  # twelve at most everywhere, and a hole
        (["31-Jan-2024", "29 Feb 2024", "30-Apr-2024"], 1.0, "month", ""),
        (["January 1, 2024", "Jan 8 2024", "Jan. 22, 2024"], 1.0, "week", ""),
        (["12/2023", "Jan 2024", "2024/3"], 1.0, "month", ""),
        (["2024-03-31 09:00 UTC", "2024-03-31 12:00 +02:00", "2024-03-31T12:00:00Z"], 1.0, "hour", IN_UTC),
        (["202401010900", "202401011000", "202401011200"], 1.0, "hour", ""),
    ],
)  # fmt: skip
def test_times_as_people_write_them(write, stamps, step, unit, said):
    file = write("date;x\n" + "".join(f"{stamp};{i}\n" for i, stamp in enumerate(stamps)))
    if said is None:
        with pytest.raises(ValueError, match=r"'date': '2/9/2024 11:00 PM' is one date read day first and another read month first"):
            data.read_csv(file)
        return
    series = data.read_csv(file)
    assert series.names == ("x",) and (series.step, series.unit) == (step, unit)
    assert same(series.values, [[0], [1], [nan], [2]])
    assert series.remarks == (*([said] if said else []), "1 missing time became a row of gaps.")


def test_the_order_that_leaves_no_hole(write):
    months = "".join(f"1/{1 + i % 12}/{2020 + i // 12},{i}\n" for i in range(24))
    hours = "".join(f"{2 + i // 24}/1/2024 {i % 24}:00,{i}\n" for i in range(60))
    for rows, unit, order in ((months, "month", "day"), (hours, "hour", "day")):
        series = data.read_csv(write("date,x\n" + rows))
        assert (series.step, series.unit, series.gaps) == (1.0, unit, 0)
        assert len(series.remarks) == 1 and series.remarks[0].endswith(f"are read {order} first.")
    days_or_months = "".join(f"1/{1 + i}/2024,{i}\n" for i in range(9))
    with pytest.raises(ValueError, match=r"'1/2/2024' is one date .* both fit. Write 2024-01-31"):
        data.read_csv(write("date,x\n" + days_or_months))


def test_times_that_are_not_understood_are_said(write):
    series = data.read_csv(write("date,x\n1/31/24,1\n2/1/24,2\n"))  # a year of two digits could be any of the three
    assert series.remarks[0] == "The times in 'date', such as '1/31/24', are not understood: rows are taken as equally spaced."
    assert data.read_csv(write("timestamp,x\n1710123112000,1\n1710126712000,2\n")).start == "1710123112000"  # not the year 1710


def test_a_numeric_clock(write):
    series = data.read_csv(write("t,x\n0,1\n0.5,2\n1.5,3\n"))
    assert (series.step, series.unit) == (0.5, "step") and same(series.values, [[1], [2], [nan], [3]])
    assert data.read_csv(write("t,x\n0,1\n0.5,2\n"), "t").names == ("t",)


@pytest.mark.parametrize("first", [1_700_000_000, 1_701_010_100, 1_700_000_000_000, 1_700_000_000_000_000])  # the second could be a date
def test_a_clock_that_counts_seconds_since_1970(write, first):
    series = data.read_csv(write("time,x\n" + "".join(f"{first + 60 * i},{i}\n" for i in (0, 1, 2, 4))))
    assert series.names == ("x",) and series.step == 60.0 and same(series.values, [[0], [1], [2], [nan], [4]])


def test_irregular_and_repeated_times_are_said(write):
    series = data.read_csv(write("time,x\n0,1\n1,2\n1.3,3\n"))
    assert series.remarks == ("The times are irregular: rows are taken as equally spaced.",) and len(series) == 3
    series = data.read_csv(write("time,x\n2024-01-01,1\n2024-01-01,2\n2024-01-02,3\n"))
    assert series.remarks == ("1 repeated time: the last row of each was kept.",) and same(series.values, [[2], [3]])


def test_what_a_spreadsheet_adds(write):
    assert data.read_csv(write("a,b,,\n1,2,,\n3,4,,\n")).names == ("a", "b")  # the commas of empty columns
    assert same(data.read_csv(write("a,b\r1,2\r3,4\r")).values, [[1, 2], [3, 4]])  # lines as an old Mac ends them
    assert same(data.read_csv(write("x;y\n1,234;5\n12,5;987\n")).values, [[1.234, 5], [12.5, 987]])


def test_a_first_row_of_times_and_numbers_is_no_header(write):
    series = data.read_csv(write("2024-01-01,1\n2024-01-02,2\n2024-01-03,4\n"))
    assert (series.names, series.unit) == (("column 2",), "day") and same(series.values, [[1], [2], [4]])
    assert data.read_csv(write("day,2024-01,2024-02\n1,2,3\n")).names == ("day", "2024-01", "2024-02")


@pytest.mark.parametrize("column", [None, "x"])
@pytest.mark.parametrize("readings", [(3, 2, 1), (1, 3, 2), (1, 1, 2)])
def test_a_clock_that_does_not_grow_is_said(write, column, readings):
    series = data.read_csv(write("time,x\n" + "".join(f"{t},{i}\n" for i, t in enumerate(readings))), column)
    assert series.remarks == ("'time' is no clock, as its numbers do not always grow: rows are taken in their order, as equally spaced.",)


def test_columns_of_words_are_left_out_and_named(write):
    series = data.read_csv(write("station,x\nJFK,1\nJFK,2\n"))
    assert series.names == ("x",) and series.remarks == ("Left out, holding no numbers: station.",)
    series = data.read_csv(write("date,mended,x\n2024-01-01,,1\n2024-01-02,2024-02-01,2\n2024-01-03,2024-02-01,3\n"))
    assert series.unit == "day" and series.remarks == ("Left out, holding no numbers: mended.",)


@pytest.mark.parametrize(
    "text, column, complaint",
    [
        ("", None, "is empty"),
        ("a,b\n", None, "has a header .a, b. but no rows"),
        ("a,b\n1,2\n", "temp", "has no column 'temp'. It has: a, b."),
        ("a,b\n1,2\n3,x7\n", "b", "column 'b' is not a number in data row 2: 'x7'"),
        ("a,b\n1,2\n3,inf\n", None, "column 'b' is infinite in data row 2"),
        ("a,b\n1,2\n3\n", None, "data row 2 has 1 cells but the header, 'a,b', has 2. Repair the row, or"),
        ("made by hand\na,b\n1,2\n", None, "the header, 'made by hand', has 1. .* delete what stands above the table"),
        ("a|b\n1|2\n", None, "has no column of numbers .* parted by commas, semicolons or tabs"),
        ("x\ty\n1,234\t5\n987\t5\n", None, "beside 987, 1,234 may be thousands or decimals"),
        ("time,x\n2024-10-27 02:30,1\n2024-10-27 02:00,2\n", None, "time goes backwards .* where clocks were set back, write UTC"),
        ("a,a\n1,2\n", None, "names a column twice"),
        ("date,x\n2024-01-01,1\n,2\n2024-01-03,3\n", None, "column 'date' is not a time in data row 2: ''"),
        ("day,x\n2024-01-01,1\n2024-01-02,2\nTotal,3\n", "x", "column 'day' is not a time in data row 3: 'Total'"),
        ("x,Year\n1,1990\n2,1991\n3,\n4,1993\n", None, "column 'Year' is not a time in data row 3: ''"),
        ('a,b\n"1,024.5",1\n"1,025.5",2\n', None, "column 'a' is not a number in data row 1: '1,024.5'. Write it with a decimal point"),
        ("a,b\n,1\n,2\n", "a", "'a' holds no number at all"),
        ("a\nx\ny\n", None, "has no column of numbers .* It has: a."),
        ("a;b\n1,5;2.5\n3,5;4\n", None, "with a comma, 1,5, and with a point, 2.5"),
        ("id\n1_1\n1_2\n", None, "has no column of numbers"),
        ("date,x\n2024-01-02,1\n2024-01-01,2\n", None, "column 'date': time goes backwards at data row 2"),
        ("date,x\n12/1/2024,1\n13/1/2024,1\n14/1/2024,1\n1/15/2024,1\n", None, "column 'date' is not a time in data row 4: '1/15/2024'"),
        ("date,x\n1/31/2024,1\n1/30/2024,1\n", None, "column 'date': time goes backwards at data row 2"),
        ("date,h,x\n2024-01-01,0,1\n2024-01-01,1,2\n2024-01-01,2,3\n2024-01-02,0,4\n", None, "'date': 2 of 4 times repeat"),
        ('a,note\n1,"new\n2,old\n3,old\n', None, "row 2 opens a quotation mark that nothing closes"),
        (b"a\n\xff\xfe\n", None, "is not UTF-8 text"),
        (b'a\n"1\x00"\n', None, "column 'a'|not a CSV|no column of numbers"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(write, text, column, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        data.read_csv(write(text), column)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        data.read_csv(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="cannot read"):
        data.read_csv(tmp_path)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".XZ": lzma.compress}
TABLE = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(100))


@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_table_is_the_table(write, suffix):
    series = data.read_file(write(PACKED[suffix](TABLE), f"mine.csv{suffix}"))
    plain = data.read_csv(write(TABLE))
    assert (series.name, series.names) == ("mine", ("a", "b")) and same(series.values, plain.values)
    assert series.sha256 != plain.sha256  # of the file as it lies there


@pytest.mark.parametrize("suffix", PACKED)
def test_a_damaged_packed_table_is_said_in_one_line(write, suffix):
    whole = PACKED[suffix](TABLE)
    for raw in (whole[:-9], whole[:30] + bytes(9) + whole[39:], TABLE):
        with pytest.raises(ValueError, match=rf"mine\.csv{suffix} is damaged or no {suffix.lower()} file .*Use another copy") as error:
            data.read_csv(write(raw, f"mine.csv{suffix}"))
        assert "\n" not in str(error.value)


def test_parquet_says_the_same_as_csv(tmp_path, write):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    text = "date,x,y\n2024-01-01,1,2\n2024-01-02,,4\n2024-01-04,5,6\n"
    path = tmp_path / "mine.parquet"
    pandas.read_csv(write(text), parse_dates=["date"]).to_parquet(path)
    parquet, table = data.read_file(path), data.read_file(write(text))
    assert same(parquet.values, table.values) and parquet.names == table.names
    assert (parquet.step, parquet.unit, parquet.remarks) == (table.step, table.unit, table.remarks)
    assert same(data.read_file(write(gzip.compress(path.read_bytes()), "mine.parquet.gz")).values, table.values)
    with pytest.raises(ValueError, match=r"has no column 'z'\. It has: date, x, y\."):
        data.read_file(path, "z")


def test_a_broken_parquet_file(write):
    pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"not a readable Parquet file|need pandas and pyarrow"):
        data.read_file(write("no parquet", "mine.parquet"))


@given(st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=64), min_size=2, max_size=2), min_size=1, max_size=20))
def test_what_is_written_is_read(rows):
    want = np.array(rows)
    text = "u,v\n" + "\n".join(",".join("" if math.isnan(x) else repr(x) for x in row) for row in rows)
    if np.isnan(want).all(axis=0).any():
        return
    assert same(to_series(parse_csv(text.encode(), "x"), ("u", "v"), "x", b"", "x").values, want)


def test_an_array_of_ones_own():
    series = data.Series.from_array([1.0, nan, 3.0])
    assert series.values.shape == (3, 1) and series.names == ("value",) and series.gaps == 1
    assert data.Series.from_array(np.zeros((3, 2))).names == ("value 0", "value 1")
    assert series.sha256 == data.Series.from_array([1.0, nan, 3.0]).sha256 != data.Series.from_array([1.0, 2.0, 3.0]).sha256


@pytest.mark.parametrize(
    "array, complaint",
    [
        (np.zeros((0,)), "is empty"),
        (np.zeros((2, 2, 2)), "must be .time. or .time, channels."),
        (np.array([1.0, np.inf]), "'value' is infinite in row 1"),
        (np.array([nan, nan]), "holds no number at all"),
    ],
)
def test_arrays_that_are_refused(array, complaint):
    with pytest.raises(ValueError, match=complaint):
        data.Series.from_array(array)


@pytest.mark.parametrize(
    "settings, complaint",
    [
        ({"step": 0.0}, "step is 0.0 but must be a positive time"),
        ({"step": nan}, "step is nan but must be a positive time"),
        ({"period": -7.0}, "period is -7.0 but must be a positive number of rows"),
        ({"origin": -5}, "origin is -5 but must be a whole number of rows"),
        ({"horizon": 2.5}, "horizon is 2.5 but must be a whole number of rows"),
        ({"names": ("a", "a")}, "calls two channels the same"),
        ({"names": "ab"}, "names is 'ab' but must be a tuple of texts"),
        ({"names": (1, 2)}, "names is .1, 2. but must be a tuple of texts"),
        ({"values": np.ones((3, 2)) + 1j}, "values are complex, but a series is of real numbers"),
        ({"values": np.zeros((3, 2), "datetime64[D]")}, "values are times, but a series is of real numbers"),
    ],
)
def test_a_series_that_cannot_be_is_refused(settings, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint):
        data.Series(**{"name": "s", "values": np.zeros((3, 2)), "names": ("a", "b")} | settings)


def test_what_a_mask_hides_is_a_gap():
    series = data.Series.from_array(np.ma.masked_array([1.0, 2.0, -9999.0, 3.0], mask=[False, False, True, False]))
    assert same(series.values, [[1], [2], [nan], [3]])
    assert data.Series.from_array(np.ma.masked_array([1, 2, 3], mask=[False, True, False])).gaps == 1


@pytest.mark.parametrize("values", [{"a": [1, 2]}, "my.csv", [[1, 2], [3]], [object()]])
def test_what_is_no_table_of_numbers_is_named(values):
    with pytest.raises(TypeError, match=f"^values are a {type(values).__name__}, but a series is a regular table of numbers"):
        data.Series.from_array(values)


def test_a_series_is_shown_in_one_line():
    series = data.Series.from_array([[1, nan], [2, 3]], name="s", names=("a", "b"), unit="day")
    assert repr(series) == "Series('s', 2 rows of a, b, step 1 day, gaps 1)"


def test_selecting_channels():
    series = data.load("nino").select("nino4_sst", "nino3_anom")
    assert series.names == ("nino4_sst", "nino3_anom") and series.values.shape == (800, 2) and series.channel_units == ("°C", "°C")
    with pytest.raises(ValueError, match=r"has no column 'x'\. It has: nino12_sst"):
        data.load("nino").select("x")


def test_a_name_or_a_file(write):
    assert data.read("nino", "nino3_sst").names == ("nino3_sst",)
    assert data.read(write("a,b\n1,2\n"), "b").names == ("b",)
    with pytest.raises(ValueError, match=r"neither a file nor a series that comes with the package\. There are: laser"):
        data.read("lazer")
    with pytest.raises(ValueError, match=r"no such file: lazer\.csv"):
        data.read("lazer.csv")
    with pytest.raises(ValueError, match=r"'laser' has no column 'x'\. It has: intensity\."):
        data.read("laser", "x")


def stamps_of(seconds):
    return [str(datetime(2024, 1, 1) + timedelta(seconds=float(second))) for second in seconds]


def rows_of(stamps):
    return "time,x\n" + "".join(f"{stamp},{i % 7}\n" for i, stamp in enumerate(stamps))


def test_a_clock_that_jitters_and_one_time_off_the_grid_keep_the_grid(write):
    hours = np.arange(300) * 3600.0
    jitter = np.random.default_rng(0).uniform(-200, 200, 300)
    late = hours + 180.0 * (np.arange(300) == 100)
    for seconds in (hours + jitter, hours + 3 * jitter, late):
        series = data.read_csv(write(rows_of(stamps_of(seconds))))
        assert (series.step, series.unit, series.start, series.gaps) == (1.0, "hour", "2024-01-01", 0)
        assert len(series.remarks) == 1 and "steps off an even grid: each value stands in the nearest row." in series.remarks[0]
    kept = np.delete(np.arange(300), [50, 51, 120])
    series = data.read_csv(write(rows_of(stamps_of((hours + jitter)[kept]))))
    assert len(series) == 300 and np.flatnonzero(np.isnan(series.values[:, 0])).tolist() == [50, 51, 120]
    wild = np.cumsum(np.random.default_rng(0).uniform(1000, 6000, 300))
    series = data.read_csv(write(rows_of(stamps_of(wild))))
    assert series.remarks == ("The times are irregular: rows are taken as equally spaced.",) and series.start == ""


def test_days_that_vary_within_their_month_stand_for_the_month(write):
    days = [15, 16, 14, 15, 17, 15, 13, 15, 15, 16, 15, 14] * 3
    dates = [f"{2020 + i // 12}-{1 + i % 12:02}-{day}" for i, day in enumerate(days)]
    series = data.read_csv(write(rows_of(dates[:20] + dates[21:])))
    assert (series.step, series.unit, series.gaps, len(series)) == (1.0, "month", 1, 36)
    assert series.remarks == ("The day of the month varies: each value stands for its month.", "1 missing time became a row of gaps.")


def test_years_with_a_fraction_are_months(write):
    series = data.read_csv(write("year,x\n" + "".join(f"{2000 + (i + 0.5) / 12:.4f},{i % 5}\n" for i in range(100))))
    assert (series.step, series.unit, series.start, series.remarks) == (1.0, "month", "2000-01", ())


@pytest.mark.parametrize("name", ["date", "MESS_DATUM", "yyyymm"])
def test_months_and_hours_without_marks(write, name):
    months = [f"{2000 + i // 12}{1 + i % 12:02}" for i in range(30)]
    series = data.read_csv(write(f"{name},x\n" + "".join(f"{stamp},{i % 5}\n" for i, stamp in enumerate(months))))
    assert (series.unit, series.gaps, series.names) == ("month", 0, ("x",))
    hours = [f"2020{1 + i // 24 // 28:02}{1 + i // 24 % 28:02}{i % 24:02}" for i in range(100)]
    series = data.read_csv(write("whatever,x\n" + "".join(f"{stamp},{i % 5}\n" for i, stamp in enumerate(hours))))
    assert (series.unit, series.gaps, series.names) == ("hour", 0, ("x",))


def test_a_jump_longer_than_the_series_is_refused_with_its_rows(write):
    dates = [f"2024-01-{1 + i:02}" for i in range(20)]
    with pytest.raises(ValueError, match=r"time jumps over 35,.* rows between data rows 20 and 21, where only 21 were measured"):
        data.read_csv(write(rows_of([*dates, "2120-01-21"])))
    with pytest.raises(ValueError, match="between data rows 10 and 11"):
        data.read_csv(write(rows_of([*dates[:10], "2120-01-21"])))


def test_digits_that_are_lost_are_said(write, tmp_path):
    exact = [2**53 + 2 * i for i in range(4)]
    assert data.read_csv(write("a\n" + "\n".join(map(str, exact)))).remarks == ()
    numbers = [2**53 + 1, 2**53 + 2, -(2**60) - 1, 7]
    table = write("id,x\n" + "".join(f"{number},{x}\n" for number, x in zip(numbers, (1, 5, 2, 4))))
    said = (
        "'id' has 2 whole numbers too long to be kept to the last digit: 9007199254740993 was read as 9007199254740992. If the last digits "
        "matter, subtract what all have in common; if they are a label, leave the column out.",
    )
    assert data.read_csv(table).remarks == said and data.read_csv(table, "x").remarks == ()
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    pandas.read_csv(table).to_parquet(tmp_path / "mine.parquet")
    assert data.read_file(tmp_path / "mine.parquet").remarks == said


def test_codes_for_missing_and_numbers_of_rows_are_said_and_kept(write):
    flow = [*(10 + np.sin(np.arange(20))), -999, -999]
    series = data.read_csv(write("date,flow\n" + "".join(f"2024-01-{1 + i:02},{x}\n" for i, x in enumerate(flow))))
    assert series.remarks == (
        "'flow' is -999 in 2 rows, far from all else, and was taken at its word. If it means missing, leave those cells empty.",
    )
    assert series.values.min() == -999
    text = "id,station,flow\n" + "".join(f"{i + 7},1013500,{x}\n" for i, x in enumerate(flow[:20]))
    series = data.read_csv(write(text))
    assert series.names == ("id", "station", "flow") and [remark[:40] for remark in series.remarks] == [
        "'id' grows by 1 in every row and was tak", "'station' is 1013500 in every row and wa",
    ]  # fmt: skip
    assert data.read_csv(write(text), "flow").remarks == ()
    counts = "a,b\n" + "".join(f"{i % 3},{999 if i == 4 else 990 + i}\n" for i in range(20))
    assert data.read_csv(write(counts)).remarks == ()  # 999 among its likes is a number


def test_points_that_may_part_thousands_are_refused(write):
    with pytest.raises(ValueError, match=r"beside 931, 11\.955 may be thousands or decimals\. Write every decimal with the same number"):
        data.read_csv(write("date;flow\n2024-01-01;11.955\n2024-01-02;931\n2024-01-03;1.007\n"))
    assert data.read_csv(write("date;flow\n2024-01-01;11.955\n2024-01-02;931.5\n2024-01-03;1.007\n")).values[0, 0] == 11.955


def test_comments_above_a_table(write):
    series = data.read_csv(write("# a station\n# unit: m3/s, daily\ndate\tflow\n2024-01-01\t1.5\n2024-01-02\t2.5\n"))
    assert series.names == ("flow",) and len(series) == 2
    assert data.read_csv(write("# made by hand\n# date,flow\n2024-01-01,1.5\n2024-01-02,2.5\n")).names == ("flow",)
