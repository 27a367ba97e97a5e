"""Work in a thread beside the caller's, in order: calls, or the items of an iterator.

Errors are raised in the caller, by the call or the item that comes after them. A thread that is
stopped ends after the call that it is in.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Generic, TypeVar

T = TypeVar("T")


class Calls:
    """Calls one function after the other in a thread."""

    def __init__(self, most: int):
        """Let at most `most` calls wait."""
        self._most = most
        self._pool = futures.ThreadPoolExecutor(1)
        self._waiting: collections.deque[futures.Future[object]] = collections.deque()

    def put(self, call: Callable[[], object]) -> None:
        """Add a call, after waiting for a place; raises what an earlier one has raised."""
        self.wait(self._most - 1)
        self._waiting.append(self._pool.submit(call))

    def wait(self, most: int = 0) -> None:
        """Wait until at most so many calls are left; raises what one has raised."""
        while len(self._waiting) > most or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def stop(self) -> None:
        """Drop the calls that have not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Ahead(Generic[T]):
    """An iterator whose items a thread takes, some ahead of the caller."""

    def __init__(self, items: Iterator[T], most: int):
        """Take at most `most` items ahead, from the first `next` on."""
        self._items = items
        self._most = most
        self._pool = futures.ThreadPoolExecutor(1)
        self._taken: collections.deque[futures.Future[T | None]] = collections.deque()

    def __iter__(self) -> Ahead[T]:
        return self

    def __next__(self) -> T:
        while len(self._taken) <= self._most:
            self._taken.append(self._pool.submit(next, self._items, None))
        item = self._taken.popleft().result()
        if item is None:
            raise StopIteration
        return item

    def stop(self) -> None:
        """Take no more items."""
        self._pool.shutdown(wait=False, cancel_futures=True)
