"""Threads for the members of an ensemble: each is fitted on one, as many at a time as torch may use.

The networks are small. Two threads that share one of them wait for each other; two that have one each take half the time for both. What
is done for all of them at once, such as an optimizer step, is small too: beside other busy processes AdamW took 0.9 s a step on two
threads, which spun at its barriers, and 1 ms on one.

A Ctrl-C waits for nobody: who is at work may be compiling a kernel for half a minute, and who is still queued never begins.

A process that was forked computes on one thread: OpenMP's threads do not follow a fork, and torch would wait for them without end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Crew:
    """Who does the work of so many members. A single one works on the caller's thread, with all of the caller's threads."""

    def __init__(self, members: int, pool: ThreadPoolExecutor | None):
        self.members, self._pool = members, pool

    def each(self, work: Callable[[int], Result]) -> list[Result]:
        """[work(0), ..., work(members - 1)], side by side. An error is raised when all are done."""
        if self._pool is None:
            return [work(i) for i in range(self.members)]
        return _results([self._pool.submit(work, i) for i in range(self.members)])

    def together(self, work: Callable[[], Result]) -> Result:
        """What is done once for all of them."""
        return work() if self._pool is None else _results([self._pool.submit(work)])[0]


def _results(found: list[Future[Result]]) -> list[Result]:
    """A Ctrl-C that comes just as a thread goes to sleep is heard when it wakes, so it wakes every second."""
    while wait(found, timeout=1).not_done:
        pass
    return [future.result() for future in found]


@contextmanager
def crew(members: int) -> Iterator[Crew]:
    """Threads for so many members. Numbers do not depend on how many work at a time, since each has one thread of torch's."""
    if members == 1:
        yield Crew(1, None)
        return
    before = torch.get_num_threads()
    here = Barrier(min(members, before))
    pool, told_to_stop = ThreadPoolExecutor(here.parties, "separatrix-member", _on_one_thread), False
    try:
        wait([pool.submit(here.wait) for _ in range(here.parties)])
        torch.set_num_threads(before)  # torch keeps a number for each thread, and the last one that was set for threads yet to come
        yield Crew(members, pool)
    except KeyboardInterrupt:
        told_to_stop = True
        raise
    finally:
        pool.shutdown(wait=not told_to_stop, cancel_futures=True)


def _on_one_thread() -> None:
    torch.get_num_threads()  # a thread's first question sets its number to the last one that was set anywhere
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
