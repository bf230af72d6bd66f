"""Threads for the members of an ensemble: each is fitted on one, as many at a time as torch may use.

The networks are small. Two threads that share one of them wait for each other; two that have one each take half the time for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

Result = TypeVar("Result")
Spread = Callable[[Callable[[int], Result]], list[Result]]


@contextmanager
def crew(members: int) -> Iterator[Spread]:
    """`spread(work)` is [work(0), ..., work(members - 1)]; a single member works on the caller's thread, with all of the caller's threads.

    Numbers do not depend on how many members work at a time, since each has one thread of torch's. An error is raised when all are done.
    """
    if members == 1:
        yield lambda work: [work(0)]
        return
    before = torch.get_num_threads()
    here = Barrier(min(members, before))
    with ThreadPoolExecutor(here.parties, "separatrix-member", _on_one_thread) as pool:
        wait([pool.submit(here.wait) for _ in range(here.parties)])
        torch.set_num_threads(before)  # torch keeps a number for each thread, and the last one that was set for threads yet to come

        def spread(work: Callable[[int], Result]) -> list[Result]:
            found = [pool.submit(work, i) for i in range(members)]
            wait(found)
            return [future.result() for future in found]

        yield spread


def _on_one_thread() -> None:
    torch.get_num_threads()  # a thread's first question sets its number to the last one that was set anywhere
    torch.set_num_threads(1)
