"""A small cache that several threads share."""

from __future__ import annotations

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class RecentValues(Generic[_Value]):
    """The values that were made last, by key, for several threads; each is made once."""

    def __init__(self, count: int):
        """Begin without values; keep `count` of them."""
        self._count = count
        self._lock = threading.Lock()
        self._values: collections.OrderedDict[Hashable, concurrent.futures.Future[_Value]] = (
            collections.OrderedDict()
        )

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Return a value; make it if it is not kept, or wait for the thread that makes it."""
        with self._lock:
            future = self._values.get(key)
            is_new = future is None
            if future is None:
                future = self._values[key] = concurrent.futures.Future()
                while len(self._values) > self._count:
                    self._values.popitem(last=False)
            self._values.move_to_end(key)
        if is_new:
            try:
                future.set_result(make())
            except BaseException as error:  # of an interruption too: others wait
                future.set_exception(error)
                with self._lock:
                    self._values.pop(key, None)
        return future.result()
