"""Files of a folder or a glob, chosen by their suffixes."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection
from typing import NamedTuple

from encodec_hk.system import file_errors
from encodec_hk.system import file_paths


class Matches(NamedTuple):
    """What `find` found.

    Attributes:
      files: paths, in alphabetical order.
      unreadable: "FOLDER: REASON" for each folder that could not be searched.
    """

    files: list[str]
    unreadable: list[str]


def find(pattern: str | os.PathLike[str], suffixes: Collection[str]) -> Matches:
    """Find files by suffix in a folder and all below it, or by a glob (`**` for any folders).

    Hidden files and folders are left out. A name that exists is not taken for a glob, even with
    brackets in it.

    Args:
      pattern: a folder, a glob or a file.
      suffixes: lower-case, such as ".wav"; the suffixes of files match in any case.
    """
    pattern = os.fspath(pattern)
    unreadable: list[str] = []
    if os.path.isdir(pattern):
        names = _walk(pattern, unreadable)
    else:
        if os.path.exists(pattern):
            pattern = glob.escape(pattern)
        names = [name for name in glob.glob(pattern, recursive=True) if not os.path.isdir(name)]
    files = [name for name in names if os.path.splitext(name)[1].lower() in suffixes]
    return Matches(sorted(files), unreadable)


def _walk(folder: str, unreadable: list[str]) -> list[str]:
    def report(error: OSError) -> None:
        unreadable.append(f"{file_paths.shown(error.filename)}: {file_errors.reason(error)}")

    found = []
    for parent, folders, names in os.walk(folder, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    return found
