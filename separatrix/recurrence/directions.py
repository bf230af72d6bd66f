"""An image as four sequences, so that any operation over time can look in every direction.

    row by row, column by column, and both backwards:      s_1 = rows(x)   s_2 = columns(x)   s_3 = reversed s_1   s_4 = reversed s_2
    y[i, j] = Σ_k what the operation says of s_k where it passes (i, j)                                                     (1)

A causal operation over one sequence sees half of the image from each place; in (1) every place hears of every other one.

Paper    Liu et al. 2024, arXiv:2401.10166 (VMamba's cross-scan and cross-merge).
Cost     four scans of H W steps; the sequences are copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from separatrix.recurrence.checks import expect_shape, expect_tensor

Operation = Callable[..., Any]


def cross_scan(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [batch, height, width, ...] -> the four sequences, [batch, height * width, ...] each.

    Paper    Liu et al. 2024 (VMamba), arXiv:2401.10166.
    Raises   ValueError for fewer than three axes; TypeError unless x is a tensor.
    """
    expect_image("x", x)
    rows, columns = x.flatten(1, 2), x.transpose(1, 2).flatten(1, 2)
    return rows, columns, rows.flip(1), columns.flip(1)


def expect_image(name: str, image: Tensor) -> None:
    expect_tensor(name, image)
    if image.ndim < 3:
        raise ValueError(f"{name} is {list(image.shape)}, expected [batch, height, width, ...]")


def cross_merge(sequences: Sequence[Tensor], height: int, width: int) -> Tensor:
    """The four sequences put back where they came from, and added up.   [batch, height * width, ...] each -> [batch, height, width, ...]

    Paper    Liu et al. 2024 (VMamba), arXiv:2401.10166.
    Raises   ValueError unless there are four sequences of one shape and height * width steps; TypeError unless they are tensors.
    """
    if len(sequences) != 4:
        raise ValueError(f"{len(sequences)} sequences were given, expected the four of cross_scan")
    rows, columns, rows_back, columns_back = sequences
    for sequence in sequences:
        expect_tensor("a sequence", sequence)
        if sequence.ndim < 2 or sequence.shape[1] != height * width:
            raise ValueError(f"a sequence is {list(sequence.shape)}, expected height * width = {height * width} steps: [batch, time, ...]")
        expect_shape("a sequence", sequence, rows.shape, "batch, height * width, ...")
    by_rows, by_columns = rows + rows_back.flip(1), columns + columns_back.flip(1)
    return by_rows.unflatten(1, (height, width)) + by_columns.unflatten(1, (width, height)).transpose(1, 2)


def four_directions(operation: Operation | Sequence[Operation], *images: Tensor) -> Tensor:
    """y[i, j] = Σ_k what the operation says of the k-th sequence of `cross_scan` where it passes (i, j): every place hears of every other.

    operation   of [batch, time, ...] for each image, returning its output or (output, final state); one for all directions, or four with
                parameters of their own, in the order of `cross_scan`.
    images      [batch, height, width, ...], whatever the operation wants one of at every step: diagonal_scan a multiplier and an input.

    Paper    Liu et al. 2024 (VMamba), arXiv:2401.10166.
    Raises   ValueError unless all images have one height and width, and operations are one or four; TypeError unless images are tensors
             and operations functions.
    """
    if not images:
        raise ValueError("no image was given, expected at least one, [batch, height, width, ...]")
    for image in images:
        expect_image("an image", image)
    height, width = images[0].shape[1:3]
    for image in images:
        if image.shape[1:3] != (height, width):
            raise ValueError(
                f"an image is {list(image.shape)}, expected [batch, height, width, ...] with the {height} x {width} of the first"
            )
    operations = [operation] * 4 if callable(operation) else list(operation) if isinstance(operation, Sequence) else []
    if not all(callable(f) for f in operations) or not operations:
        raise TypeError(f"operation is {operation!r}, expected a function of sequences, or four of them")
    if len(operations) != 4:
        raise ValueError(f"{len(operations)} operations were given, expected one, or one for each of the four directions")
    found = [f(*sequences) for f, *sequences in zip(operations, *(cross_scan(image) for image in images))]
    return cross_merge([y[0] if isinstance(y, tuple) else y for y in found], height, width)
