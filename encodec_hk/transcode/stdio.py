"""Stdin and stdout in place of files."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, BinaryIO, cast

from encodec_hk.system import interruption

NAME = "-"
_WAIT = 0.2  # seconds between looks for an interruption
_PIPE = 1 << 16  # bytes that a pipe holds


class Stdin:
    """Stdin as a file that gives what is there, and ends on Ctrl-C too.

    It ends with what was in the pipe then, also where the other side goes on.
    """

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._left = _PIPE  # bytes to take after an interruption

    def read(self, size: int) -> bytes:
        """Waits for bytes; gives all that are there up to `size`, and none at the end."""
        data = b""
        while len(data) < size and self._left > 0:
            is_ending = interruption.is_requested()
            if not self._is_ready(0.0 if data or is_ending else _WAIT):
                if data or is_ending:
                    break
                continue
            more = os.read(self._descriptor, min(size - len(data), _PIPE))
            data += more
            if is_ending:
                self._left -= len(more)
            if not more:
                break
        return data

    def seekable(self) -> bool:
        """False: it may be a pipe."""
        return False

    def close(self) -> None:
        """Nothing: it is the process's."""

    def _is_ready(self, seconds: float) -> bool:
        return bool(select.select([self._descriptor], [], [], seconds)[0])


def told_apart(name: str) -> str:
    """A path that is not taken for NAME: ./- is a file."""
    return name if name == NAME or os.path.normpath(name) != NAME else os.path.abspath(name)


def stdin() -> BinaryIO:
    """What `run.py infer -` reads.

    Raises:
      ValueError: it is closed.
    """
    if sys.stdin is None:
        raise ValueError("IN: got -, but stdin is closed")
    return cast(BinaryIO, Stdin())


def stdout() -> Any:
    """What `run.py infer IN -` writes into.

    Raises:
      ValueError: it is a terminal, or closed.
    """
    if sys.stdout is None:
        raise ValueError("OUT: got -, but stdout is closed")
    if sys.stdout.isatty():
        raise ValueError("OUT: got -, but stdout is a terminal; must be a pipe or a file")
    return sys.stdout.buffer
