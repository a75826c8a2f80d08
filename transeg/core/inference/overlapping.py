"""Work in threads: files are read ahead of what computes with them, and results written or measured behind it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

READERS = 2
"""Threads that decode: a GPU may take images faster than one thread reads them."""
AHEAD = 4
"""Images that are decoded before they are wanted."""
BEHIND = 2
"""Images that wait for a thread to write or to measure them."""


@contextmanager
def read_ahead(read: Callable[[T], R], items: Sequence[T]) -> Iterator[Iterator[tuple[T, Future[R]]]]:
    """Each item with what will have been read of it, in order; an error is raised where the result is asked for.

    At most :data:`AHEAD` results wait. Nothing more is read once the block is left.

    Args:
        read: called in other threads.
        items: to be read.
    """
    threads = ThreadPoolExecutor(READERS, "read")

    def results() -> Iterator[tuple[T, Future[R]]]:
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            waiting.append((item, threads.submit(read, item)))
            if len(waiting) > AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()

    try:
        yield results()
    finally:
        threads.shutdown(cancel_futures=True)


class WorkBehind:
    """Does work in other threads; little of it waits. One thread does it in order.

    An error of the work is raised by a later call or at the end of the block, the first one alone. Where the block is
    left by an error, what waits is still done; where it is interrupted, only what has begun.

    Args:
        threads: that work; at most :data:`BEHIND` pieces wait for each.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(threads, "behind")
        self._most = BEHIND * threads
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.finish()
            elif isinstance(error, Exception):
                wait(self._waiting)  # whatever these end with, it came later
        finally:
            self._threads.shutdown(cancel_futures=True)

    def __call__(self, work: Callable[[], None]) -> None:
        """Have a piece of work done."""
        self._waiting.append(self._threads.submit(work))
        while len(self._waiting) > self._most:
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Wait until everything is done."""
        while self._waiting:
            self._waiting.popleft().result()
