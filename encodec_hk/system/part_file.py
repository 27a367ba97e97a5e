"""Files written beside their names and renamed when complete, so that none is half-written."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pathlib
import re
import sys
from typing import BinaryIO, Self

if sys.platform != "win32":
    import fcntl

_NAME = re.compile(r"\..+\.\d+(_\d+)?\.part")


class PartFile:
    """A new file that gets its name when it is complete.

    As a context, it is closed at the end, or aborted if an exception (or an interruption)
    leaves the context. `file` is open, to write to and read from. While it is, the process holds a
    lock on it; a part file without one belongs to a process that was killed.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Open a file beside `path`, whose folder must exist; raises OSError if that fails.

        The first in a folder removes those that killed processes have left there.
        """
        self._path = pathlib.Path(path)
        _remove_stale_once(os.path.realpath(self._path.parent))
        self._held: int | None
        self.file, self._held = self._create()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Complete the file and rename it; if that fails, delete it and raise OSError."""
        try:
            self.file.close()
            os.replace(self._part, self._path)
        except BaseException:  # an interruption too
            self.abort()
            raise
        self._release()

    def abort(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):  # closing flushes, which may fail on a full disk
            self.file.close()
        if self._held is not None:  # else it was renamed or deleted before
            self._part.unlink(missing_ok=True)
        self._release()

    def _create(self) -> tuple[BinaryIO, int]:
        """Create and lock a file; return it and a descriptor that holds the lock."""
        for number in itertools.count():
            # The same process ID may be at work in another container.
            unique = f"{os.getpid()}_{number}" if number else str(os.getpid())
            self._part = self._path.with_name(f".{self._path.name}.{unique}.part")
            try:
                file = open(self._part, "x+b")  # noqa: SIM115, `close` closes it
            except FileExistsError:
                continue
            lock(file.fileno(), wait=True)
            if os.fstat(file.fileno()).st_nlink:
                # The lock lasts until both descriptors are closed, so beyond `file.close`.
                return file, os.dup(file.fileno())
            file.close()  # Another process has removed the file before it was locked.
        raise AssertionError

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a complete file; if that fails, raise OSError and leave an existing one as it was."""
    with PartFile(path) as part:
        part.file.write(content)


def remove_stale(folder: str | os.PathLike[str]) -> None:
    """Remove the part files in a folder whose processes are gone.

    Files that cannot be locked, which some file systems do not support, are left alone.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_stale(entry.path)


_remove_stale_once = functools.cache(remove_stale)


def _remove_if_stale(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        # Its process may have renamed or removed it since it was listed.
        if lock(descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            os.unlink(path)
    finally:
        os.close(descriptor)


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Lock an open file; return whether that succeeded."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True
