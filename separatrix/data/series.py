"""A measured sequence as a value: numbers on a regular grid, gaps where nothing was measured.

    values[t, c]        t = 0 .. T-1, `step` units of time apart; NaN where a value is missing

A gap keeps its place: dropping it would join two stretches that never touched, and a model would learn the seam.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


def real_numbers(values: ArrayLike) -> NDArray[np.float64]:
    """As float64, a copy where they are something else; neither imaginary parts nor dates become numbers unasked. Masked is missing."""
    try:
        array = np.asanyarray(values)
        if array.dtype.kind not in "cmM":
            numbers = array.astype(np.float64, copy=False)
            return numbers.filled(np.nan) if isinstance(numbers, np.ma.MaskedArray) else np.asarray(numbers)
    except (TypeError, ValueError, RuntimeError):  # in numpy's words, which name no argument
        raise TypeError(
            f"values are a {type(values).__name__}, but a series is a regular table of numbers. Pass an array [time] or [time, channels], "
            f"a tensor, a pandas column, lists of one length, or what separatrix.data.read_csv returns."
        ) from None
    what = "complex" if array.dtype.kind == "c" else "times"
    mend = "Pass their real and imaginary parts as two channels" if what == "complex" else "Pass what was measured at them"
    raise TypeError(f"values are {what}, but a series is of real numbers. {mend}.")


@dataclass(frozen=True, eq=False)
class Series:
    """A sequence of measurements.    len(series) = T, series.values [T, C] float64, read-only

    name           what the sequence is called; names runs and reports.
    values         [T, C] float64; NaN is a gap, infinity is refused.
    names          C channel names.
    step, unit     time from one row to the next and its unit: 1.0 "month", 1/360 "s", 1.0 "sample".
    channel_units  C units of the values, "" where there is none.
    period         the length of one typical cycle in rows (None: not known), and what the field calls it ("pulse", "solar cycle").
    origin         the first row that a fair forecast may not see (None: nobody agreed on one), and how many rows to forecast from there.
    start          the time of row 0 in words.
    notice         where it comes from and under which terms.
    remarks        what was done to put it on the grid, each a sentence.
    sha256         of the file (or of the array) that it was read from.
    """

    name: str
    values: NDArray[np.float64]
    names: tuple[str, ...]
    step: float = 1.0
    unit: str = "step"
    channel_units: tuple[str, ...] = ()
    period: float | None = None
    period_name: str = "cycle"
    origin: int | None = None
    horizon: int | None = None
    start: str = ""
    notice: str = ""
    remarks: tuple[str, ...] = field(default=())
    sha256: str = ""

    def __post_init__(self) -> None:
        values = np.array(real_numbers(self.values), order="C")
        if values.ndim != 2:
            raise ValueError(f"values must be [time, channels], got {values.shape}. Use Series.from_array for [time].")
        if isinstance(self.names, str) or not all(isinstance(name, str) for name in self.names):
            raise TypeError(f"names is {self.names!r} but must be a tuple of texts, one a channel.")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names is {self.names!r}, which calls two channels the same. Rename one.")
        if not 0 < self.step < math.inf:
            raise ValueError(f"step is {self.step} but must be a positive time from one row to the next.")
        if self.period is not None and not 0 < self.period < math.inf:
            raise ValueError(f"period is {self.period} but must be a positive number of rows, or None where it is not known.")
        for name in ("origin", "horizon"):
            if (rows := getattr(self, name)) is not None and (not isinstance(rows, int | np.integer) or rows < 1):
                raise ValueError(f"{name} is {rows!r} but must be a whole number of rows, 1 or more, or None.")
        if values.shape[1] != len(self.names):
            raise ValueError(f"names must have one entry a channel: got {len(self.names)} names for {values.shape[1]} channels.")
        if len(values) == 0 or values.shape[1] == 0:
            raise ValueError(f"{self.name!r} is empty: a series needs at least one row and one channel.")
        if np.isinf(values).any():
            row, channel = (int(i[0]) for i in np.nonzero(np.isinf(values)))
            raise ValueError(f"{self.names[channel]!r} is infinite in row {row}. Leave the value out (a gap) or repair it.")
        for channel, name in enumerate(self.names):
            if np.isnan(values[:, channel]).all():
                raise ValueError(f"{name!r} holds no number at all: every value is missing. Choose another column.")
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "channel_units", self.channel_units or ("",) * len(self.names))
        if len(self.channel_units) != len(self.names):
            raise ValueError(f"channel_units must have one entry a channel: got {len(self.channel_units)} for {len(self.names)} channels.")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        gaps = f", gaps {self.gaps:,}" if self.gaps else ""
        return f"Series({self.name!r}, {len(self):,} rows of {', '.join(self.names)}, step {self.step:.6g} {self.unit}{gaps})"

    @property
    def gaps(self) -> int:
        """How many values are missing, over all channels."""
        return int(np.isnan(self.values).sum())

    @property
    def fingerprint(self) -> str:
        """sha256 of the values, whatever file they were read from."""
        return hashlib.sha256(self.values.tobytes()).hexdigest()

    def select(self, *names: str) -> Series:
        """These channels only, in this order."""
        for name in names:
            if name not in self.names:
                raise ValueError(f"{self.name!r} has no column {name!r}. It has: {', '.join(self.names)}.")
        chosen = [self.names.index(name) for name in names]
        units = tuple(self.channel_units[i] for i in chosen)
        return replace(self, values=self.values[:, chosen], names=tuple(names), channel_units=units)

    @classmethod
    def from_array(
        cls, values: ArrayLike, *, name: str = "array", names: Sequence[str] | None = None, step: float = 1.0, unit: str = "step"
    ) -> Series:
        """An array [T] or [T, C] of the caller's own."""
        array = real_numbers(values)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2:
            raise ValueError(f"values must be [time] or [time, channels], got shape {array.shape}.")
        if names is None:
            names = ("value",) if array.shape[1] == 1 else tuple(f"value {i}" for i in range(array.shape[1]))
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return cls(
            name,
            array,
            tuple([names] if isinstance(names, str) else names),
            step=step,
            unit=unit,
            notice="the caller's own array",
            sha256=digest,
        )
