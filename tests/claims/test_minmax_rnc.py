"""The parts of the claim, at a size that takes no time: what is asked, and what must be exact."""

import torch

from separatrix.claims.minmax_rnc import ASK, MinMaxLayer, accuracies, flip_flop, largest_differences, latch


def test_the_bit_that_was_written_last():
    symbol, bit = flip_flop(50, 8, torch.Generator().manual_seed(0))
    assert (symbol[:, 0] < 2).all() and (symbol == ASK).any()
    for row, answer in zip(symbol, bit):
        last = None
        for t in range(50):
            last = row[t] if row[t] < 2 else last
            assert answer[t] == last


def test_as_many_writes_at_every_length():
    for length in (64, 1024):
        symbol, _ = flip_flop(length, 256, torch.Generator().manual_seed(0))
        writes = (symbol < 2).double().sum(1)
        assert abs(float(writes.mean()) - 6) < 4 * float(writes.std()) / 16


def test_forms_agree_and_a_latch_holds():
    assert largest_differences(65, 0)[0] == 0
    assert (latch(1000, 0) == 1).all()


def test_the_same_seed_says_the_same(monkeypatch):
    monkeypatch.setattr("separatrix.claims.minmax_rnc.LENGTHS", (64, 100))
    monkeypatch.setattr("separatrix.claims.minmax_rnc.COUNTS", 100)
    monkeypatch.setattr("separatrix.claims.minmax_rnc.STEPS", 3)
    assert accuracies(MinMaxLayer, 1) == accuracies(MinMaxLayer, 1)
