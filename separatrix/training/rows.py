"""Whatever a caller has a series in: a `Series`, an array, a tensor or lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from separatrix.data import Series
from separatrix.data.series import real_numbers


def as_series(values: Series | ArrayLike | Tensor) -> tuple[Series, bool]:
    """A series to fit, and whether it came as [time]."""
    if isinstance(values, Series):
        return values, False
    array = as_array(values)
    return Series.from_array(array), array.ndim == 1


def as_rows(values: Series | ArrayLike | Tensor) -> NDArray[np.float64]:
    """More rows of a series, [T, C]. What a series may not be, they may not either, but a channel may be missing in all of them."""
    if isinstance(values, Series):
        return values.values
    array = as_array(values)
    Series.from_array(np.where(np.isnan(array), 0.0, array))
    return array if array.ndim == 2 else array[:, None]


def as_array(values: ArrayLike | Tensor) -> NDArray[np.float64]:
    if isinstance(values, Tensor) and values.is_complex():
        values = values.detach().cpu().numpy()  # to be refused as an array is
    return real_numbers(values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values)
