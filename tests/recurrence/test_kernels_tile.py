"""Tiles against the matrix products they stand for."""

from functools import partial

import numpy as np
import pytest
import torch
from numba import njit
from torch import Tensor

from separatrix.recurrence.kernels.lanes import fill, load
from separatrix.recurrence.kernels.tile import (
    LANES,
    ROWS,
    after_each,
    load_rows,
    pack,
    scaled,
    solved,
    store_rows,
    through,
    tile,
    times,
    unpack,
)
from separatrix.recurrence.kernels.transpose import transpose, transpose_squares, transposed
from tests.agree import agree
from tests.recurrence.roads import randn

agree = partial(agree, factor=2)
zero = np.float32(0)


def flat(x: Tensor) -> np.ndarray:
    """What a kernel sees of x, in place where x is stored row by row."""
    return x.contiguous().numpy().reshape(-1)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@njit
def product(A, at, row, step, B, n, into):
    none = tile(ROWS, fill(LANES, zero))
    store_rows(into, 0, LANES, through(none, A, at, row, step, B, 0, LANES, n))


@njit
def weighted(rows, a, x, into):
    none = tile(ROWS, fill(LANES, zero))
    loaded = times(scaled(load_rows(none, rows, 0, LANES), a, 0, 1), load_rows(none, x, 0, LANES))
    store_rows(into, 0, LANES, loaded)


@njit
def solution(rows, M, at, row, step, b, first, following):
    none = tile(ROWS, fill(LANES, zero))
    store_rows(rows, 0, LANES, solved(load_rows(none, rows, 0, LANES), M, at, row, step, b, first, following))


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_tile_is_a_product_whatever_the_layout_of_the_left_matrix(n: int):
    straight, turned, from_below = lambda A: A, lambda A: A.T, lambda A: A.flip(0)
    for stored, at, row, step, left in (
        (straight, 0, 9, 1, straight), (turned, 0, 1, ROWS, straight), (straight, (ROWS - 1) * 9, -9, 1, from_below)
    ):  # fmt: skip

        def fast(A: Tensor, B: Tensor, stored=stored, at=at, row=row, step=step) -> Tensor:
            into = torch.empty(ROWS, LANES)
            product(flat(stored(A)), at, row, step, flat(B), n, flat(into))
            return into

        agree(fast, lambda A, B, left=left: left(A)[:, :n] @ B[:n], (randn(ROWS, 9), randn(9, LANES)), torch.float32)


def test_rows_take_their_factors():
    rows, a, x, into = numbers(ROWS, LANES), numbers(ROWS), numbers(ROWS, LANES)[::-1].copy(), np.empty((ROWS, LANES), np.float32)
    weighted(rows.reshape(-1), a, x.reshape(-1), into.reshape(-1))
    np.testing.assert_allclose(into, a[:, None] * rows * x, rtol=1e-6)  # two products, rounded in either order


def test_a_triangle_is_solved_from_either_end():
    for backward in (False, True):

        def slow(M: Tensor, b: Tensor, x: Tensor, backward=backward) -> Tensor:
            lower = ((M.T.flip(0, 1) * b.flip(0)) if backward else M * b).tril(-1)
            return torch.linalg.solve(torch.eye(ROWS, dtype=M.dtype) - lower, x)

        def fast(M: Tensor, b: Tensor, x: Tensor, backward=backward) -> Tensor:
            x = x.clone()
            end, sign = (ROWS - 1, -1) if backward else (0, 1)
            row, step = (sign, sign * ROWS) if backward else (ROWS, 1)
            solution(flat(x), flat(M), end * ROWS + end, row, step, flat(b), end, sign)
            return x

        agree(fast, slow, (randn(ROWS, ROWS), randn(ROWS), randn(ROWS, LANES)), torch.float32)


@njit
def walk(before, decay, keys, factors, into):
    lanes = fill(LANES, zero)
    store_rows(into, 0, LANES, after_each(tile(ROWS, lanes), load(lanes, before, 0), decay, keys, 0, LANES, factors, 1))


def test_rows_follow_each_other():
    def slow(row: Tensor, decay: Tensor, keys: Tensor, factors: Tensor) -> Tensor:
        return torch.stack([row := decay[s] * row + factors[s + 1] * keys[s] for s in range(ROWS)])

    def fast(*inputs: Tensor) -> Tensor:
        into = torch.empty(ROWS, LANES)
        walk(*map(flat, inputs), flat(into))
        return into

    agree(fast, slow, (randn(LANES), randn(ROWS), randn(ROWS, LANES), randn(ROWS + 1)), torch.float32)


@pytest.mark.parametrize("n", [4, 8, 16])
def test_a_square_of_registers_is_transposed(n: int):
    @njit
    def turn(x, into):
        store_rows(into, 0, n, transposed(load_rows(tile(n, fill(n, zero)), x, 0, n)))

    x, into = numbers(n, n), np.empty((n, n), np.float32)
    turn(x.reshape(-1), into.reshape(-1))
    assert (into == x.T).all()


@pytest.mark.parametrize("rows, columns", [(8, 8), (16, 24)])
def test_whole_squares_are_transposed(rows: int, columns: int):
    x, into = numbers(rows, columns), np.empty((columns, rows), np.float32)
    transpose_squares(x.reshape(-1), 0, columns, rows, columns, into.reshape(-1), rows)
    assert (into == x.T).all()


@pytest.mark.parametrize("rows, columns", [(1, 1), (8, 8), (9, 17), (19, 7)])
def test_ragged_edges_are_transposed_and_nothing_around_them_is_touched(rows: int, columns: int):
    x, into = numbers(rows, columns + 2), np.full((columns, rows + 3), 7, np.float32)
    transpose(x.reshape(-1), 1, columns + 2, rows, columns, into.reshape(-1), 2, rows + 3)
    assert (into[:, 2 : rows + 2] == x[:, 1 : columns + 1].T).all()
    assert (into[:, :2] == 7).all() and (into[:, rows + 2 :] == 7).all()


@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 3])
def test_unpacked_is_what_was_packed_and_nothing_around_it_is_touched(n: int):
    width = 2 * LANES
    x, inside = numbers(3, n + 5), np.full(4 * width, np.nan, np.float32)
    pack(x.reshape(-1), 0, n + 5, 3, n, np.float32(2), inside, 4, width)
    rows = inside.reshape(4, width)
    assert (rows[:3, :n] == 2 * x[:, :n]).all() and not rows[3].any() and not rows[:, n:].any()
    back = np.full((3, n + 5), 7, np.float32)
    unpack(inside, width, 3, n, np.float32(0.5), back.reshape(-1), 0, n + 5)
    assert (back[:, :n] == x[:, :n]).all() and (back[:, n:] == 7).all()
