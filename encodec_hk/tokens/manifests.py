"""Manifests: a JSON object per line for each item, the form of audiocraft, NeMo and moshi.

`path` or `audio_filepath` names the audio, relative to the manifest's folder. With `offset`, the
item is an excerpt of `duration` seconds; without, it is the whole file, and `duration` only says
how long that is. `id` is the path by default, with @OFFSET for an excerpt.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from encodec_hk.system import file_paths
from encodec_hk.tokens import item_table
from encodec_hk.tokens import urls

_SUFFIXES = (".jsonl", ".json", ".ndjson")
LAST_SUFFIXES = frozenset({*_SUFFIXES, ".gz"})
_PATHS = ("path", "audio_filepath")


def is_manifest(name: str) -> bool:
    """Return whether a file is a manifest, by its suffix."""
    return name.lower().removesuffix(".gz").endswith(_SUFFIXES)


def items_of_manifest(
    base: str, name: str, folder: str, keep: Sequence[str]
) -> Iterator[item_table.AudioItem]:
    """Yield the items of a manifest.

    Args:
      base: folder or URL of the search.
      name: of the manifest, below the base.
      folder: what relative paths in it are relative to, below the base.
      keep: fields to keep.

    Raises:
      ValueError: if a line is not an object with the fields of an item, or a file whose duration
        is not stated does not exist.
      OSError: if the manifest cannot be read.
    """
    shown = file_paths.shown(name)
    with urls.open_file(urls.join(base, name)) as file:
        is_packed = name.lower().endswith(".gz")
        lines: Any = gzip.GzipFile(fileobj=file) if is_packed else file
        for number, line in enumerate(io.TextIOWrapper(lines, encoding="utf-8"), 1):
            if line.strip():
                try:
                    yield _item(base, folder, json.loads(line), keep)
                except ValueError as error:
                    raise ValueError(f"{shown}:{number}: {error}") from error


def _item(base: str, folder: str, entry: Any, keep: Sequence[str]) -> item_table.AudioItem:
    if not isinstance(entry, dict):
        raise ValueError("got no object, must be a JSON object per line")
    given = next((entry[name] for name in _PATHS if isinstance(entry.get(name), str)), None)
    if not given:
        raise ValueError("got no path, must have path or audio_filepath")
    offset, duration = _seconds(entry, "offset"), _seconds(entry, "duration")
    # Names that are not UTF-8 come as surrogates.
    source = file_paths.shown(given)
    default = source if offset is None else f"{source}@{offset:g}"
    own = entry.get("id")
    is_known = urls.is_url(given) or os.path.isabs(given)
    path = given if is_known else posixpath.join(folder, given)
    size = -1
    if duration is None:
        place = urls.join(base, path)
        size = _size(place)
        seconds = item_table.expected_seconds(given, size)
    else:
        seconds = duration
    return item_table.AudioItem(
        id=default if own is None else str(own),
        source=source,
        path=os.fsencode(path),
        size=size,
        offset=offset,
        duration=None if offset is None else duration,
        seconds=seconds,
        kept={name: entry[name] for name in keep if name in entry},
    )


def _size(place: str) -> int:
    if urls.is_url(place):
        return -1
    try:
        return os.stat(place).st_size
    except OSError:
        return -1  # reported when it is read


def _seconds(entry: dict[str, Any], name: str) -> float | None:
    value = entry.get(name)
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: got {value!r}, must be a number of seconds")
    return float(value)
