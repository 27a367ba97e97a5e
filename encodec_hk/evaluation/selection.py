"""The files to evaluate on: their names, their groups, and which are speech."""

from __future__ import annotations

import dataclasses
import fnmatch
import pathlib
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class EvaluationFile:
    """A file to evaluate on."""

    path: pathlib.Path
    name: str  # the path below the folder that the user named
    group: str  # the folder
    is_speech: bool  # whether measures of speech apply

    def stamp(self) -> tuple[str, int, int]:
        """Return name, size and time of change, as part of keys; raise OSError if it is gone."""
        status = self.path.stat()
        return self.name, status.st_size, status.st_mtime_ns


def name_all(
    paths: Sequence[pathlib.Path], root: pathlib.Path, speech: Sequence[str] = ()
) -> list[EvaluationFile]:
    """Name and group files below a root folder, and tell which are speech.

    A file's group is its folder's path below the root; for files in the root, the root's own name.
    A file is speech if its name or a folder's name, the root's included, contains "speech" in any
    case, or if one of the `speech` patterns (of `fnmatch`; * also matches /) matches its path or
    name.
    """
    top = root.resolve().name
    found = []
    for path in paths:
        relative = path.relative_to(root)
        folder = relative.parent.as_posix()
        name = relative.as_posix()
        is_speech = "speech" in f"{top}/{name}".lower() or any(
            fnmatch.fnmatch(str(candidate), pattern)
            for pattern in speech
            for candidate in (path, name, path.name)
        )
        found.append(EvaluationFile(path, name, top if folder == "." else folder, is_speech))
    return found
