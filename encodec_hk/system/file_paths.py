"""Paths: of the project, in messages, and found in folders."""

from __future__ import annotations

import collections
import glob
import os
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, NamedTuple

PACKAGE = pathlib.Path(__file__).parents[1]
"""The folder of the package."""

ROOT = PACKAGE.parent
"""The folder of a clone, with run.py and assets/."""


def is_installed() -> bool:
    """Return whether the package is installed with its configs, not used from a clone."""
    return (PACKAGE / "configs" / "base.py").is_file()


Shipped = Literal["assets/clips", "checkpoints", "configs", "docs/web"]


def shipped(folder: Shipped) -> pathlib.Path:
    """Return a folder of shipped files: in a clone beside the package, else inside it."""
    return (PACKAGE if is_installed() else ROOT) / folder


def shipped_configs() -> dict[str, pathlib.Path]:
    """Return the files of the shipped configs by name, such as encodec_24khz_small."""
    return _by_stem(shipped("configs").glob("*encodec_*.py"))


def shipped_checkpoints() -> dict[str, pathlib.Path]:
    """Return the checkpoints by name: the shipped ones, and in a clone those made there.

    Language models, which lie beside them, are none.
    """
    paths = shipped("checkpoints").glob("*.safetensors")
    return _by_stem(path for path in paths if not path.stem.endswith("_language"))


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
    Links to folders are followed, but no folder is searched twice, and none above the link.
    """
    pattern = os.fspath(pattern)
    unreadable: dict[str, None] = {}

    def report(error: OSError) -> None:
        unreadable[f"{shown(error.filename)}: {error.strerror}"] = None

    if os.path.isdir(pattern):
        folders = _walk(pattern, report)
        found = {os.path.join(folder, name) for folder, names in folders for name in names}
    else:
        if os.path.exists(pattern):
            pattern = glob.escape(pattern)
        found = {name for name in _glob(pattern, report) if not os.path.isdir(name)}
    files = [name for name in found if os.path.splitext(name)[1].lower() in suffixes]
    return Matches(sorted(files), list(unreadable))


def _glob(pattern: str, report: Callable[[OSError], None]) -> Iterator[str]:
    """Yield what matches a glob, as `glob.glob` does, which loops where links do."""
    match = re.fullmatch(r"((?:.*?/)?)\*\*(?:/+(.*))?", pattern, re.DOTALL)
    if match is None:
        yield from glob.glob(pattern)
        return
    before, after = match.groups()
    for base in glob.glob(before) if before else [""]:
        start = base or os.curdir
        for folder, names in _walk(start, report):
            path = os.path.join(base, folder[len(start) :].lstrip(os.sep))
            if after is None:
                yield from (os.path.join(path, name) for name in names)
            else:
                yield from _glob(os.path.join(glob.escape(path), after), report)


def _walk(start: str, report: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """Yield a folder and those below it, each once, with the names of the files in each.

    What links lead to comes last: so a file has the path without links, if there is one.
    """
    searched: set[str] = set()
    top = os.path.realpath(start)
    waiting = collections.deque([start])
    while waiting:
        for folder, folders, names in os.walk(waiting.popleft(), onerror=report):
            real = os.path.realpath(folder)
            if real in searched:
                folders.clear()
                continue
            searched.add(real)
            yield folder, [name for name in names if not name.startswith(".")]
            paths = {name: os.path.join(folder, name) for name in folders if name[0] != "."}
            folders[:] = [name for name, path in paths.items() if not os.path.islink(path)]
            for name in sorted(paths.keys() - set(folders)):
                target = os.path.realpath(paths[name])
                if not any(_contains(target, inner) for inner in (top, real)):
                    waiting.append(paths[name])


def _contains(folder: str, path: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))
