"""What is in work, on disk: so that an item that kills whole processes is found.

Each process appends to a log of its own, a *.log file in the folder "work" of OUT/.tokenize, and
holds a lock on it: a JSON line [sign, shard, id] with "+" where an item begins, "!" where it begins
alone, "-" where it ends. A process that ends deletes its log; a log without a lock is that of one
that was killed.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import os
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Self

from encodec_hk.system import part_file

_MOST_LINES = 20_000  # then a log is begun anew, with what is in work

_Key = tuple[int, str]  # shard and ID


class NoWorkLog:
    """Notes nothing, and knows nothing."""

    def deaths(self, shard: int, item: str) -> tuple[int, int]:
        """Return 0 and 0."""
        return 0, 0

    def begin(self, shard: int, item: str, *, is_alone: bool) -> None:
        """Do nothing."""

    def end(self, shard: int, item: str) -> None:
        """Do nothing."""


class WorkLog(NoWorkLog):
    """The log of this process, and those that killed processes have left."""

    def __init__(self, folder: pathlib.Path, is_needed: Callable[[int], bool]):
        """Read the logs of killed processes, and begin one.

        Args:
          folder: of the logs; created if it is missing.
          is_needed: whether a shard is not done; what logs say of others is forgotten.

        Raises:
          OSError: if the log cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._is_needed = folder, is_needed
        self._found = self._read_logs()
        name = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}.log"
        self._path = folder / name
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        part_file.lock(self._file)
        self._in_work: dict[_Key, str] = {}
        self._lines = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._read_logs()  # deletes those that are no longer needed

    def deaths(self, shard: int, item: str) -> tuple[int, int]:
        """Return how many processes were killed while an item was in work, and alone in work."""
        key = shard, item
        alone = self._found["!"][key]
        return self._found["+"][key] + alone, alone

    def begin(self, shard: int, item: str, *, is_alone: bool) -> None:
        """Note that an item begins."""
        sign = "!" if is_alone else "+"
        self._in_work[shard, item] = sign
        self._write(sign, shard, item)

    def end(self, shard: int, item: str) -> None:
        """Note that an item has ended."""
        if self._in_work.pop((shard, item), None):
            self._write("-", shard, item)

    def _write(self, sign: str, shard: int, item: str) -> None:
        is_full = self._lines >= _MOST_LINES
        if is_full:
            text = "".join(_line(own, *key) for key, own in self._in_work.items())
            self._lines = len(self._in_work)
            os.lseek(self._file, 0, os.SEEK_SET)
        else:
            text = _line(sign, shard, item)
            self._lines += 1
        data = text.encode()
        with contextlib.suppress(OSError):  # a full disk fails the writer, which tells
            os.write(self._file, data)
            if is_full:
                os.ftruncate(self._file, len(data))

    def _read_logs(self) -> dict[str, collections.Counter[_Key]]:
        """Return how often items were in work, and alone in work, when processes were killed."""
        found: dict[str, collections.Counter[_Key]] = {s: collections.Counter() for s in "+!"}
        is_needed = functools.cache(self._is_needed)
        for path in self._folder.glob("*.log"):
            with contextlib.suppress(OSError):
                for key, sign in _read(path, is_needed).items():
                    found["!" if sign == "!" else "+"][key] += 1
        return found


def _read(path: pathlib.Path, is_needed: Callable[[int], bool]) -> dict[_Key, str]:
    """Return what a killed process had in work; delete its log if none of that is needed."""
    file = os.open(path, os.O_RDWR)
    try:
        if not part_file.lock(file):
            return {}  # its process is at work
        in_work: dict[_Key, str] = {}
        for line in path.read_text().splitlines():
            try:
                sign, shard, item = json.loads(line)
            except ValueError:
                continue  # killed while it wrote
            if sign == "-":
                in_work.pop((shard, item), None)
            elif is_needed(shard):
                in_work[shard, item] = sign
        if not in_work:
            path.unlink(missing_ok=True)
        return in_work
    finally:
        os.close(file)


def _line(sign: str, shard: int, item: str) -> str:
    return json.dumps([sign, shard, item]) + "\n"
