"""Names of files: local paths, and URLs by fsspec, which is optional (s3://, gs://, hf://, ...)."""

from __future__ import annotations

import glob
import os
import posixpath
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple, cast

from encodec_hk.system import extras
from encodec_hk.system import file_errors

_ATTEMPT_ERRORS = (Exception,)  # file systems of fsspec raise exceptions of their own libraries


class FoundUrls(NamedTuple):
    """What a URL names.

    Attributes:
      base: the URL that names are relative to.
      files: names and sizes in bytes, -1 if unknown, in alphabetical order.
      is_folder: whether the URL is not that of a single file.
    """

    base: str
    files: list[tuple[str, int]]
    is_folder: bool


def is_url(name: str) -> bool:
    """Return whether a name is a URL, not a path."""
    return "://" in name


def join(base: str, name: str) -> str:
    """Return the path or URL of a name below a base; absolute names and URLs stay as they are."""
    if is_url(name):
        return name
    if not is_url(base):
        return os.path.join(base, name)
    return name if posixpath.isabs(name) else f"{base.rstrip('/')}/{name}"


def folder_of(place: str) -> str:
    """Return the folder of a path or URL."""
    return posixpath.dirname(place) if is_url(place) else os.path.dirname(place)


def open_file(place: str) -> BinaryIO:
    """Open a file to read; a URL raises OSError for whatever fails there."""
    if not is_url(place):
        return open(place, "rb")
    fsspec = _fsspec()
    try:
        return cast(BinaryIO, fsspec.open(place, "rb").open())
    except (OSError, ImportError):
        raise
    except _ATTEMPT_ERRORS as error:
        raise OSError(f"{place}: {file_errors.reason(error)}") from error


def find(url: str) -> FoundUrls:
    """Find the files of a URL: one, all of a folder, or those of a glob.

    Raises:
      ValueError: if there are none, or fsspec or the package of the protocol is not installed.
    """
    fsspec = _fsspec()
    try:
        system, root = fsspec.core.url_to_fs(url)
        root = root.rstrip("/")
        if glob.has_magic(root):
            found: dict[str, Any] = system.glob(root, detail=True)
            base = root[: min(root.find(mark) for mark in "*?[" if mark in root)]
            base = base.rpartition("/")[0]
        elif system.isdir(root):
            found, base = system.find(root, detail=True), root
        else:
            found, base = {root: system.info(root)}, posixpath.dirname(root)
    except ImportError as error:
        raise ValueError(f"{url}: {file_errors.reason(error)}") from error
    except _ATTEMPT_ERRORS as error:
        raise ValueError(f"{url}: {file_errors.reason(error)}") from error
    files = [
        (name[len(base) :].lstrip("/"), -1 if info.get("size") is None else info["size"])
        for name, info in sorted(found.items())
        if info.get("type") != "directory"
    ]
    # Hidden files are left out, as in local folders.
    files = [(name, size) for name, size in files if "/." not in "/" + name]
    return FoundUrls(system.unstrip_protocol(base), files, list(found) != [root])


def _fsspec() -> ModuleType:
    try:
        return extras.require("fsspec", "tokens")
    except ValueError as error:
        raise ValueError("URLs need fsspec: pip install fsspec") from error
