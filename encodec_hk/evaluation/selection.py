"""The files to evaluate on: their names, their groups, and which of them are speech."""

from __future__ import annotations

import dataclasses
import fnmatch
import pathlib
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class EvaluationFile:
    """A file to evaluate on.

    Attributes:
      path: where it is.
      file: its name in rows, from the folder that was given.
      group: its folder.
      is_speech: whether measures of speech are taken.
    """

    path: pathlib.Path
    file: str
    group: str
    is_speech: bool


def name_all(
    paths: Sequence[pathlib.Path], root: pathlib.Path, speech: Sequence[str] = ()
) -> list[EvaluationFile]:
    """Sources of files below a folder.

    The group of a file is its folder's path below the root; of files in the root itself, the root's
    own name. Speech is what has "speech" in its name or in that of a folder, from the root's own
    on, in any case of letters; or whose path or name one of the patterns of `speech` matches.

    Args:
      paths: of the files.
      root: a folder that they are in.
      speech: patterns as of `fnmatch`: * is any number of characters, / among them.
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
