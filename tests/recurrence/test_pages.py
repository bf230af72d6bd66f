"""Large outputs ask for large pages; what they hold is theirs alone."""

import torch

from separatrix.recurrence.operators.pages import LARGE, blank


def test_a_blank_is_contiguous_and_of_the_shape_asked_for():
    like = torch.randn(4, 3).T
    assert blank(like).shape == (3, 4) and blank(like).is_contiguous()
    assert blank(like, (2, 5)).shape == (2, 5) and blank(like, (0,)).numel() == 0
    assert blank(torch.zeros(2, dtype=torch.complex64)).dtype is torch.complex64


def test_asking_for_large_pages_touches_nothing_else():
    before, after = torch.randn(LARGE // 4 + 77), torch.randn(LARGE // 4 + 77)
    one, other = before.clone(), after.clone()
    for _ in range(3):
        large = blank(before)
        large.fill_(7)
        assert torch.equal(before, one) and torch.equal(after, other) and large.eq(7).all()
        del large
