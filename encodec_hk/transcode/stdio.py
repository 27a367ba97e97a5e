"""Stdin and stdout in place of files."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, BinaryIO, cast

from encodec_hk.system import interruption

NAME = "-"
_WAIT = 0.2  # seconds between two checks for an interruption
_PIPE = 1 << 16  # bytes that a pipe holds


class Stdin:
    """Stdin as a stream that returns bytes as they arrive, and that ends on Ctrl-C too.

    After Ctrl-C it returns what the pipe holds and then ends, even if more arrives.
    """

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._left = _PIPE  # bytes to return after an interruption

    def read(self, size: int) -> bytes:
        """Wait for bytes and return those that have arrived, at most `size`; none at the end."""
        data = b""
        while len(data) < size and self._left > 0:
            is_ending = interruption.is_requested()
            seconds = 0.0 if data or is_ending else _WAIT
            if not select.select([self._descriptor], [], [], seconds)[0]:
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


def resolve(name: str) -> str:
    """Return a path that equals NAME for "-" alone: ./- is a file and becomes absolute."""
    return name if name == NAME or os.path.normpath(name) != NAME else os.path.abspath(name)


def stdin() -> BinaryIO:
    """Return the file to read for IN.

    Raises:
      ValueError: if stdin is closed.
    """
    if sys.stdin is None:
        raise ValueError("IN: got -, but stdin is closed")
    return cast(BinaryIO, Stdin())


def stdout() -> Any:
    """Return the file to write for OUT.

    Raises:
      ValueError: if stdout is closed or a terminal.
    """
    if sys.stdout is None:
        raise ValueError("OUT: got -, but stdout is closed")
    if sys.stdout.isatty():
        raise ValueError("OUT: got -, but stdout is a terminal; must be a pipe or a file")
    return sys.stdout.buffer
