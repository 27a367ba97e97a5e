"""Files written beside their names and renamed when complete, so that none is half-written."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import BinaryIO, Self


class PartFile:
    """A new file that gets its name when it is complete.

    As a context, it is closed at the end, or aborted if an exception (or an interruption)
    leaves the context. `file` is open, to write to and read from.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Open a file beside `path`, whose folder must exist; raises OSError if that fails."""
        self._path = pathlib.Path(path)
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self.file: BinaryIO = open(self._part, "w+b")  # noqa: SIM115, closed below

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

    def abort(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):  # closing flushes, which may fail on a full disk
            self.file.close()
        self._part.unlink(missing_ok=True)


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a complete file; if that fails, raise OSError and leave an existing one as it was."""
    with PartFile(path) as part:
        part.file.write(content)
