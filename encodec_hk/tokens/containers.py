"""Files that hold many sounds: WebDataset tars, and Parquet files of the `datasets` library.

Of a tar, every member that is a sound is an item; what else is there of the same key (its name up
to the first dot) are its fields: those of KEY.json, and KEY.txt as `txt`. Of a Parquet file, every
row of the column of {bytes, path} is an item, and the other columns are fields; `id` is its ID.
"""

from __future__ import annotations

import collections
import functools
import itertools
import json
import os
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from encodec_hk.sound import file_formats
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.tokens import av_sounds
from encodec_hk.tokens import item_table
from encodec_hk.tokens import urls

SUFFIXES = frozenset({".tar", ".parquet"})
_BATCH = 1000


def is_container(name: str) -> bool:
    """Return whether a file is a container, by its suffix."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def items_of_container(
    base: str, name: str, keep: Sequence[str], types: dict[str, pa.DataType]
) -> Iterator[item_table.AudioItem]:
    """Yield the items of a container.

    Args:
      base: folder or URL of the search.
      name: of the container, below the base.
      keep: fields to keep.
      types: where to note the types of kept columns.

    Raises:
      ValueError: if the container is damaged, or has no column of sounds.
      OSError: if it cannot be read.
    """
    kinds = (tarfile.TarError, pa.ArrowInvalid, EOFError)
    with file_errors.as_value_error(name, *kinds), urls.open_file(urls.join(base, name)) as file:
        if name.lower().endswith(".tar"):
            yield from _items_of_tar(file, name, keep)
        else:
            yield from _items_of_parquet(pq.ParquetFile(file), name, keep, types)


def _items_of_tar(file: Any, name: str, keep: Sequence[str]) -> Iterator[item_table.AudioItem]:
    shown = file_paths.shown(name)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for _, group in itertools.groupby(_members(tar), lambda member: _key(member.name)):
            sounds, fields = [], {}
            for member in group:
                suffix = posixpath.splitext(member.name)[1].lower()
                if suffix in file_formats.READABLE or suffix in av_sounds.SUFFIXES:
                    sounds.append(member)
                elif keep:
                    fields.update(_fields(tar, member, keep))
            for member in sounds:
                source = f"{shown}/{file_paths.shown(member.name)}"
                yield item_table.AudioItem(
                    id=source,
                    source=source,
                    path=os.fsencode(name),
                    container=item_table.TAR,
                    at=member.offset_data,
                    size=member.size,
                    seconds=item_table.expected_seconds(member.name, member.size),
                    kept=fields,
                )


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # else all stay in memory
        if member.isreg() and not posixpath.basename(member.name).startswith("."):
            yield member


def _key(name: str) -> str:
    folder, file = posixpath.split(name)
    return posixpath.join(folder, file.split(".")[0])


def _fields(tar: tarfile.TarFile, member: tarfile.TarInfo, keep: Sequence[str]) -> dict[str, Any]:
    """Return the kept fields that a member holds."""
    kind = member.name[len(_key(member.name)) + 1 :].lower()
    if kind != "json" and kind not in keep:
        return {}
    content = tar.extractfile(member)
    data = b"" if content is None else content.read()
    if kind != "json":
        return {kind: data.decode("utf-8", "replace").strip()}
    try:
        entry = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{member.name}: {error}") from error
    is_object = isinstance(entry, dict)
    return {name: entry[name] for name in keep if name in entry} if is_object else {}


def audio_column(schema: pa.Schema, name: str) -> str:
    """Return the name of the column of sounds, struct<bytes, path>.

    Raises:
      ValueError: if there is none, or several and none is called audio.
    """
    found = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    if "audio" in found:
        return "audio"
    if len(found) != 1:
        raise ValueError(
            f"{name}: got {len(found)} columns of struct<bytes, path>, must be one, or called audio"
        )
    return found[0]


def _items_of_parquet(
    parquet: pq.ParquetFile, name: str, keep: Sequence[str], types: dict[str, pa.DataType]
) -> Iterator[item_table.AudioItem]:
    schema, shown = parquet.schema_arrow, file_paths.shown(name)
    audio = audio_column(schema, shown)
    has_id = "id" in schema.names
    kept = [field for field in keep if field in schema.names and field != audio]
    types.update({field: schema.field(field).type for field in kept})
    has_path = schema.field(audio).type.get_field_index("path") >= 0
    columns = list(dict.fromkeys([*kept, *(["id"] if has_id else [])]))
    columns += [f"{audio}.path"] if has_path else []
    has_duration = "duration" in schema.names and pa.types.is_floating(
        schema.field("duration").type
    )
    columns += ["duration"] if has_duration and "duration" not in columns else []
    row = 0
    for group in range(parquet.num_row_groups):
        size = _bytes_of_row(parquet.metadata.row_group(group), audio)
        for batch in parquet.iter_batches(_BATCH, row_groups=[group], columns=columns):
            for values in _entries(batch, columns):
                member = (values.get(audio) or {}).get("path") or ""
                source = f"{shown}/{row:08d}"
                seconds = values.get("duration") if has_duration else None
                yield item_table.AudioItem(
                    id=str(values["id"]) if has_id else source,
                    source=source,
                    path=os.fsencode(name),
                    container=item_table.PARQUET,
                    at=row,
                    size=size,
                    group=group,
                    seconds=seconds or item_table.expected_seconds(member, size),
                    kept={field: values[field] for field in kept},
                )
                row += 1


def _entries(batch: pa.RecordBatch, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    if columns:
        yield from batch.to_pylist()
    else:
        yield from ({} for _ in range(batch.num_rows))


def _bytes_of_row(group: Any, audio: str) -> int:
    """Return the mean bytes of a row's sound in a row group."""
    sizes: dict[str, int] = collections.defaultdict(int)
    for index in range(group.num_columns):
        column = group.column(index)
        sizes[column.path_in_schema] = column.total_uncompressed_size
    return sizes[f"{audio}.bytes"] // max(group.num_rows, 1)


class ParquetSounds:
    """Reads sounds of a Parquet file by row; keeps a few row groups."""

    def __init__(self, base: str, name: str):
        """Open a file; raises OSError or ValueError if it cannot be read."""
        self._file = urls.open_file(urls.join(base, name))
        self._parquet = pq.ParquetFile(self._file)
        self._audio = audio_column(self._parquet.schema_arrow, name)
        metadata = self._parquet.metadata
        counts = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
        self._starts = list(itertools.accumulate(counts, initial=0))
        self._group = functools.lru_cache(maxsize=2)(self._read_group)

    def sound(self, group: int, row: int) -> tuple[bytes | None, str]:
        """Return the bytes of a row's sound, None if it has none, and its path."""
        value = self._group(group)[row - self._starts[group]].as_py() or {}
        return value.get("bytes"), value.get("path") or ""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_group(self, group: int) -> pa.Array:
        try:
            table = self._parquet.read_row_group(group, columns=[self._audio])
        except OSError as error:
            if type(error) is OSError and error.errno is None:  # pyarrow's, for damaged pages
                raise ValueError(file_errors.reason(error)) from None
            raise
        return table[self._audio].combine_chunks()
