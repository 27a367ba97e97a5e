"""Paths: of the project, in messages, and found in folders."""

from __future__ import annotations

import glob
import os
import pathlib
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

PACKAGE = pathlib.Path(__file__).parents[1]
"""The folder of the package."""

ROOT = PACKAGE.parent
"""The folder of a clone, with run.py and assets/."""


def is_installed() -> bool:
    """Return whether the package is installed with its configs, not used from a clone."""
    return (PACKAGE / "configs" / "base.py").is_file()


def shipped(folder: Literal["configs", "checkpoints"]) -> pathlib.Path:
    """Return a folder of shipped files: in a clone beside the package, else inside it."""
    return (PACKAGE if is_installed() else ROOT) / folder


def shipped_configs() -> dict[str, pathlib.Path]:
    """Return the files of the shipped configs by name, such as encodec_24khz_small."""
    return _by_stem(shipped("configs").glob("encodec_*.py"))


def shipped_checkpoints() -> dict[str, pathlib.Path]:
    """Return the checkpoints by name: the shipped ones, and in a clone those made there."""
    return _by_stem(shipped("checkpoints").glob("*.safetensors"))


def _by_stem(paths: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
    return {path.stem: path for path in sorted(paths)}


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for messages; bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")


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
    brackets in it. `suffixes` are lower-case, such as ".wav"; those of files match in any case.
    """
    pattern = os.fspath(pattern)
    unreadable: list[str] = []

    def report(error: OSError) -> None:
        unreadable.append(f"{shown(error.filename)}: {error.strerror}")

    if os.path.isdir(pattern):
        found = []
        for parent, folders, names in os.walk(pattern, onerror=report):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    else:
        if os.path.exists(pattern):
            pattern = glob.escape(pattern)
        found = [name for name in glob.glob(pattern, recursive=True) if not os.path.isdir(name)]
    files = [name for name in found if os.path.splitext(name)[1].lower() in suffixes]
    return Matches(sorted(files), unreadable)
