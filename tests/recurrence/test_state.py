"""A state is a value: its rows, its parts, and a file of it."""

import pytest
import torch

from separatrix.recurrence import State


def test_a_row_that_is_not_there():
    state = State(h=torch.randn(3, 4), inner=State(c=torch.randn(3, 2)))
    assert torch.equal(state[-1].h, state.h[2:]) and torch.equal(state[torch.tensor(1)].inner.c, state.inner.c[1:2])
    for row in (3, -4):
        with pytest.raises(IndexError, match=f"row {row} of a state of 3 rows"):
            state[row]


def test_neither_rows_nor_parts_are_taken_one_by_one_unasked():
    state = State(h=torch.randn(3, 4))
    for use in (list, lambda state: "h" in state, lambda state: max(*state)):
        with pytest.raises(TypeError, match=r"iterable"):
            use(state)


def test_a_file_of_parts_that_share_memory_and_of_a_conjugate(tmp_path):
    z = torch.randn(2, 3, dtype=torch.complex64)
    state = State(a=z, b=z, c=z.conj(), d=z.real)
    state.save(tmp_path / "state.safetensors")
    loaded = State.load(tmp_path / "state.safetensors")
    assert all(torch.equal(part, loaded.tensors()[name]) for name, part in state.tensors().items())
