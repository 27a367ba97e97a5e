"""A file written beside its name and renamed when it is whole, so that none is half-written."""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import BinaryIO


class PartFile:
    """A new file that gets its name at the end.

    Attributes:
      path: the name.
      file: where to write, open for reading too.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file beside `path`, whose folder must exist; OSError where that fails."""
        self.path = pathlib.Path(path)
        self._part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self.file: BinaryIO = open(self._part, "w+b")  # noqa: SIM115, closed below

    def commit(self) -> None:
        """Closes the file and gives it its name; OSError where that fails, and nothing is left."""
        try:
            self.file.close()
            os.replace(self._part, self.path)
        except BaseException:  # an interruption too
            self.abort()
            raise

    def abort(self) -> None:
        """Takes the file away."""
        with contextlib.suppress(OSError):  # what was not written yet may not be writable
            self.file.close()
        self._part.unlink(missing_ok=True)
