"""Find the items that IN names: sound files, manifests, tars and Parquet files.

No sound file is opened: ten million headers would take half a day.
"""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from encodec_hk.sound import file_formats
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.tokens import av_sounds
from encodec_hk.tokens import containers
from encodec_hk.tokens import item_table
from encodec_hk.tokens import manifests
from encodec_hk.tokens import urls

_VIDEO = frozenset({".mp4"})  # rarely meant in a folder
_IN_FOLDERS = file_formats.READABLE | (av_sounds.SUFFIXES - _VIDEO) | containers.SUFFIXES
_IN_GLOBS = (
    file_formats.READABLE | av_sounds.SUFFIXES | containers.SUFFIXES | manifests.LAST_SUFFIXES
)


class FoundItems(NamedTuple):
    """What IN names.

    Attributes:
      table: the items, see `item_table`.
      base: folder or URL that their paths are relative to.
      unreadable: "FOLDER: REASON" for each folder that could not be searched.
    """

    table: pa.Table
    base: str
    unreadable: tuple[str, ...] = ()


class _File(NamedTuple):
    """A file that was found: its name below the base, and its size, -1 if not known yet."""

    name: str
    size: int = -1


def find_items(inputs: str, keep: Sequence[str] = (), *, output: str | None = None) -> FoundItems:
    """Find the items that IN names: a file, a folder, a quoted glob, or a URL of one.

    Args:
      inputs: IN. A folder gives its sound files, tars and Parquet files, a glob manifests too.
      keep: fields of manifests, tars and Parquet files to keep.
      output: OUT, whose files are not inputs.

    Raises:
      ValueError: if there are none, a manifest or container is damaged, two items have the same
        ID, or a kept field cannot be kept.
    """
    if not inputs:
        raise ValueError("IN: got an empty name")
    base, files, unreadable = _find_remote(inputs) if "://" in inputs else _find_local(inputs)
    if output is not None and "://" not in base:
        written = os.path.realpath(output) + os.sep
        files = [
            file
            for file in files
            if not os.path.realpath(os.path.join(base, file.name)).startswith(written)
        ]
    types: dict[str, pa.DataType] = {}
    table = item_table.collect(_items(base, files, keep, types), keep, types)
    if not table.num_rows and not unreadable:
        raise ValueError(f"{file_paths.shown(inputs)}: found no sound files")
    return FoundItems(table, base, tuple(unreadable))


def _find_local(inputs: str) -> tuple[str, list[_File], list[str]]:
    """Return the base, the files below it, and what could not be searched."""
    if os.path.isdir(inputs):
        base, suffixes = inputs, _IN_FOLDERS
    elif os.path.exists(inputs):
        base, name = os.path.split(inputs)
        return base or os.curdir, [_File(name)], []
    elif not glob.has_magic(inputs):
        raise ValueError(f"{file_paths.shown(inputs)}: no such file or folder")
    else:
        parts = itertools.takewhile(
            lambda part: not glob.has_magic(part), inputs.split(os.sep)[:-1]
        )
        base, suffixes = (
            os.sep.join(parts) or (os.sep if inputs[0] == os.sep else os.curdir),
            (_IN_GLOBS),
        )
    names, unreadable = file_paths.find(inputs, suffixes)
    return base, [_File(os.path.relpath(name, base)) for name in names], unreadable


def _find_remote(inputs: str) -> tuple[str, list[_File], list[str]]:
    found = urls.find(inputs)
    is_folder = found.is_folder and not glob.has_magic(inputs)
    suffixes = _IN_FOLDERS if is_folder else _IN_GLOBS
    is_single = not found.is_folder
    files = [
        _File(name, size)
        for name, size in found.files
        if is_single or os.path.splitext(name)[1].lower() in suffixes
    ]
    return found.base, files, []


def _items(
    base: str, files: list[_File], keep: Sequence[str], types: dict[str, pa.DataType]
) -> Iterator[item_table.AudioItem]:
    for file in files:
        place = urls.join(base, file.name)
        with file_errors.as_value_error(place):
            if manifests.is_manifest(file.name):
                # Paths in a manifest are relative to its folder.
                folder = posixpath.dirname(file.name)
                yield from manifests.items_of_manifest(base, file.name, folder, keep)
            elif containers.is_container(file.name):
                yield from containers.items_of_container(base, file.name, keep, types)
            else:
                yield _item_of_file(place, file)


def _item_of_file(place: str, file: _File) -> item_table.AudioItem:
    size = file.size if file.size >= 0 else os.stat(place).st_size
    name = file_paths.shown(file.name.replace(os.sep, "/"))
    seconds = item_table.expected_seconds(name, size)
    return item_table.AudioItem(name, name, os.fsencode(file.name), size=size, seconds=seconds)
