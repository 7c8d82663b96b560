"""Threads that play games side by side: while one computes, the emulators of another run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """A thread each for so many pieces of work; when one fails, or on Ctrl-C, all stop at their next step.

    Args:
        size: threads.
    """

    def __init__(self, size: int) -> None:
        self._pool = ThreadPoolExecutor(size)
        self._stop = threading.Event()

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Results of ``work`` on every item, in their order; raises what the first failure raised."""
        try:
            futures = [self._pool.submit(work, item) for item in items]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            self._stop.set()
            raise

    def check(self) -> None:
        """Call between steps of the work.

        Raises:
            CancelledError: another thread failed.
        """
        if self._stop.is_set():
            raise CancelledError

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown()


def halves(lanes: int) -> list[range]:
    """The lanes 0 .. ``lanes - 1`` in two parts, or in one where there is only one lane."""
    middle = lanes - lanes // 2
    return [part for part in (range(middle), range(middle, lanes)) if part]
