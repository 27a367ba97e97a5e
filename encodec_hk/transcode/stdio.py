"""Stdin, stdout and other pipes in place of files: `-`, /dev/stdin, FIFOs, `<(COMMAND)`."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from typing import Any, BinaryIO, cast

from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import interruption

NAME = "-"
STDIN = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_WAIT = 0.2  # seconds between two checks for an interruption
_PIPE = 1 << 16  # bytes that a pipe holds


class PipeIn:
    """A pipe that returns bytes as they arrive, and that ends on Ctrl-C too.

    After Ctrl-C it returns what the pipe holds and then ends, even if more arrives.
    """

    def __init__(self, file: Any) -> None:
        self._file = file  # is closed with this object, unless it is stdin
        self._descriptor = file.fileno()
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
    """Return a path that equals NAME for "-" alone: ./- is a file and becomes absolute.

    /dev/stdin is NAME too, unless it is a file, which has a format of its own; /dev/stdout always.
    """
    if name in _STDOUT or (name in STDIN and is_pipe(name)):
        return NAME
    return name if name == NAME or os.path.normpath(name) != NAME else os.path.abspath(name)


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is NAME, a FIFO, a socket or a device of characters."""
    if os.fspath(path) == NAME:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


def stdin() -> BinaryIO:
    """Return stdin as a pipe to read.

    Raises:
      ValueError: if it is closed.
    """
    if sys.stdin is None:
        raise ValueError("IN: got -, but stdin is closed")
    return cast(BinaryIO, PipeIn(sys.stdin))


def stdout() -> Any:
    """Return stdout as a file to write.

    Raises:
      ValueError: if it is closed or a terminal.
    """
    if sys.stdout is None:
        raise ValueError("OUT: got -, but stdout is closed")
    if sys.stdout.isatty():
        raise ValueError("OUT: got -, but stdout is a terminal; must be a pipe or a file")
    return sys.stdout.buffer


def open_in(path: str | os.PathLike[str]) -> BinaryIO:
    """Return the pipe to read for IN; raises ValueError if it does not open."""
    if os.fspath(path) == NAME:
        return stdin()

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)  # `read` waits for a writer, until Ctrl-C

    with file_errors.as_value_error(path):
        file = open(path, "rb", buffering=0, opener=opener)  # noqa: SIM115
        return cast(BinaryIO, PipeIn(file))


def open_out(path: str | os.PathLike[str]) -> Any:
    """Return the pipe to write for OUT; raises ValueError if it does not open or is a terminal."""
    if os.fspath(path) == NAME:
        return stdout()
    with file_errors.as_value_error(path):
        file = open(path, "wb")  # noqa: SIM115, `close_out` closes it
    if file.isatty():
        file.close()
        raise ValueError(f"OUT: got {file_paths.shown(path)}, a terminal; must be a pipe or a file")
    return file


def close_out(file: Any) -> None:
    """Close a pipe of `open_out`."""
    with contextlib.suppress(OSError):  # what closing would write was for a reader that has left
        file.close()
