"""Large outputs are on memory that was written before; what they hold is theirs alone."""

import gc
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from separatrix.recurrence import diagonal_scan
from separatrix.recurrence.operators import pages
from separatrix.recurrence.operators.pages import LARGE, blank


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    pages._free.clear()
    yield
    pages._free.clear()


def large(numbers: int = LARGE // 4 + 77) -> torch.Tensor:
    return blank(torch.zeros(numbers))


def test_a_blank_is_contiguous_and_of_the_shape_asked_for():
    like = torch.randn(4, 3).T
    assert blank(like).shape == (3, 4) and blank(like).is_contiguous()
    assert blank(like, (2, 5)).shape == (2, 5) and blank(like, (0,)).numel() == 0
    for dtype in (torch.complex64, torch.bfloat16, torch.float64):
        for shape in ((2,), (3, LARGE // 4)):
            x = blank(torch.zeros(2, dtype=dtype), shape)
            assert x.dtype is dtype and x.shape == shape and x.is_contiguous() and x.data_ptr() % 64 == 0


def test_what_died_is_handed_out_again_and_what_lives_is_not():
    one = large()
    address = one.data_ptr()
    view = one[5:9].unsqueeze(0)
    del one
    assert large().data_ptr() != address, "a view of it lives"
    del view
    assert large(LARGE // 4 + 50).data_ptr() == address, "a little less than there is room for"
    assert large(LARGE).data_ptr() != address, "more than there is room for"


def test_what_a_graph_keeps_is_kept():
    a = torch.full((1, LARGE // 16, 4), 0.5, requires_grad=True)
    h, _ = diagonal_scan(a, torch.ones(1, LARGE // 16, 4))
    loss, before = h.sum(), torch.cat([torch.zeros(1, 1, 4), h.detach()[:, :-1]], dim=1)
    del h
    others = [large(before.numel()).fill_(torch.nan) for _ in range(3)]
    loss.backward()
    after = diagonal_scan(torch.full_like(a, 0.5).detach(), torch.ones_like(before))[0].flip(1)  # of a loss with a gradient of 1
    assert torch.equal(a.grad, after * before) and len(others) == 3


def test_no_more_is_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(pages, "KEPT", 3 * LARGE)
    several = [large() for _ in range(5)]
    several.clear()
    assert 0 < sum(map(len, pages._free)) <= pages.KEPT


def _write_in_a_child() -> None:
    torch.set_num_threads(1)  # torch's team does not outlive a fork
    for _ in range(2):
        large().fill_(2)


def test_a_forked_child_writes_to_its_own():
    kept, _ = large().fill_(1), large()  # the second lies free, for both
    child = multiprocessing.get_context("fork").Process(target=_write_in_a_child)
    child.start()
    mine = large().fill_(3)
    child.join()
    assert child.exitcode == 0 and kept.eq(1).all() and mine.eq(3).all()


def test_threads_never_share():
    def fill(number: int) -> bool:
        for _ in range(40):
            x = large().fill_(number)
            y = large().fill_(-number)
            if not (x.eq(number).all() and y.eq(-number).all()):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(fill, range(1, 9)))
