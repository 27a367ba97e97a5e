"""The items of a data set, a row of an Arrow table each: which audio, where, and how much.

An item is a whole source or an excerpt of one. Its row holds

    id         unique; items are sorted by it
    source     where the audio is, as rows of codes name it
    path       bytes of the file's name, below the base of the search unless absolute or a URL
    container  FILE, TAR (a range of bytes) or PARQUET (a row)
    at         first byte in a tar, or row of a Parquet file; -1 for FILE
    size       bytes; -1 if unknown
    group      row group of a Parquet file; -1 otherwise
    offset     seconds into the source; null for its start
    duration   seconds of an excerpt; null for the rest of the source
    seconds    expected duration, to divide the work by: stated, or estimated from the size

and the kept fields.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from encodec_hk.system import file_errors

FILE, TAR, PARQUET = range(3)

_FIELDS = (
    ("id", pa.string()),
    ("source", pa.string()),
    ("path", pa.binary()),
    ("container", pa.int8()),
    ("at", pa.int64()),
    ("size", pa.int64()),
    ("group", pa.int32()),
    ("offset", pa.float64()),
    ("duration", pa.float64()),
    ("seconds", pa.float64()),
)
_KEPT = "kept:"  # begins the names of columns of kept fields
_CHUNK = 10_000  # items that are Python objects at the same time

# Bytes of a second, about, of typical files.
_BYTES_OF_SECOND = {
    **dict.fromkeys((".flac",), 80_000),
    **dict.fromkeys((".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".mp4", ".wma"), 16_000),
    **dict.fromkeys((".ogg", ".oga", ".opus", ".webm", ".mka"), 10_000),
}
_BYTES_OF_SECOND_OF_PCM = 100_000
_UNKNOWN_SECONDS = 10.0


class AudioItem(NamedTuple):
    """An item; the fields are those of the table, `kept` the kept fields by name."""

    id: str
    source: str
    path: bytes
    container: int = FILE
    at: int = -1
    size: int = -1
    group: int = -1
    offset: float | None = None
    duration: float | None = None
    seconds: float = 0.0
    kept: Mapping[str, Any] = {}


def expected_seconds(name: str, size: int) -> float:
    """Return how long a file of this name and size probably plays; of size -1, any."""
    if size < 0:
        return _UNKNOWN_SECONDS
    suffix = os.path.splitext(name)[1].lower()
    return size / _BYTES_OF_SECOND.get(suffix, _BYTES_OF_SECOND_OF_PCM)


def collect(
    items: Iterable[AudioItem], keep: Sequence[str], types: Mapping[str, pa.DataType]
) -> pa.Table:
    """Return items as a table, sorted by ID.

    Args:
      items: the items; few are objects of Python at the same time.
      keep: names of the kept fields.
      types: of the kept fields that have one of their own; filled while `items` is read. The types
        of the others follow from their values.

    Raises:
      ValueError: if two items have the same ID, no item has a kept field, or its values have
        several types.
    """
    tables = [_table(chunk, keep, types) for chunk in _chunks(items)]
    if not tables:
        return pa.schema(_FIELDS).empty_table()
    try:
        schema = pa.unify_schemas([table.schema for table in tables], promote_options="permissive")
    except pa.ArrowTypeError as error:
        raise ValueError(f"--keep: {file_errors.reason(error)}") from error
    for name in keep:
        if schema.field(_KEPT + name).type == pa.null():
            raise ValueError(f"--keep: got {name}, which no item has")
    table = pa.concat_tables([table.cast(schema) for table in tables]).combine_chunks()
    table = table.take(pc.sort_indices(table, [("id", "ascending")])).combine_chunks()
    _check_unique(table)
    return table


def kept_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """Return the types of the kept fields by name."""
    return {
        field.name.removeprefix(_KEPT): field.type
        for field in schema
        if field.name.startswith(_KEPT)
    }


def items_of(table: pa.Table) -> list[AudioItem]:
    """Return the items of a table."""
    names = [name for name, _ in _FIELDS]
    kept = [name for name in table.column_names if name.startswith(_KEPT)]
    columns = [table[name].to_pylist() for name in names]
    fields = [table[name].to_pylist() for name in kept]
    plain = [name.removeprefix(_KEPT) for name in kept]
    rows = zip(*fields, strict=True) if fields else iter([()] * table.num_rows)
    return [
        AudioItem._make((*values, dict(zip(plain, own, strict=True))))
        for *values, own in zip(*columns, rows, strict=True)
    ]


def digest(table: pa.Table, settings: Mapping[str, Any]) -> str:
    """Return a hash of settings and of what identifies items: IDs, sizes, excerpts, kept fields."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    kept = sorted(name for name in table.column_names if name.startswith(_KEPT))
    names = ["id", "size", "offset", "duration", *kept]
    for start in range(0, table.num_rows, _CHUNK):
        part = table.slice(start, _CHUNK)
        for values in zip(*(part[name].to_pylist() for name in names), strict=True):
            found.update(repr(values).encode())
    return found.hexdigest()


def changed(old: pa.Table, new: pa.Table) -> tuple[list[str], list[str], pa.Table]:
    """Compare the items of a plan with those that a search finds now.

    Returns:
      The IDs that are missing, those whose size or excerpt differs, and the items that are new.
    """
    names = ["id", "size", "offset", "duration"]
    is_known = pc.is_in(new["id"], old["id"])
    missing = old.filter(pc.invert(pc.is_in(old["id"], new["id"])))["id"].to_pylist()
    before = old.filter(pc.is_in(old["id"], new["id"])).select(names)
    before = before.take(pc.sort_indices(before, [("id", "ascending")]))
    after = new.filter(is_known).select(names)
    is_equal = pa.array([True] * after.num_rows, pa.bool_())
    for name in names:
        equal = pc.equal(before[name], after[name])
        both = pc.and_(pc.is_null(before[name]), pc.is_null(after[name]))
        is_equal = pc.and_(is_equal, pc.or_(pc.fill_null(equal, False), both))
    differing = after.filter(pc.invert(is_equal))["id"].to_pylist()
    return missing, differing, new.filter(pc.invert(is_known))


def _chunks(items: Iterable[AudioItem]) -> Iterator[list[AudioItem]]:
    chunk: list[AudioItem] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _table(
    items: list[AudioItem], keep: Sequence[str], types: Mapping[str, pa.DataType]
) -> pa.Table:
    columns = {
        name: pa.array([getattr(item, name) for item in items], kind) for name, kind in _FIELDS
    }
    for name in keep:
        values = [item.kept.get(name) for item in items]
        try:
            columns[_KEPT + name] = pa.array(values, types.get(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"--keep: the values of {name} have several types ({file_errors.reason(error)})"
            ) from error
    return pa.table(columns)


def _check_unique(table: pa.Table) -> None:
    """Raise ValueError if neighbours have the same ID."""
    if table.num_rows < 2:
        return
    ids = table["id"].combine_chunks()
    same = pc.equal(ids.slice(0, len(ids) - 1), ids.slice(1))
    at = pc.index(same, True).as_py()
    if at >= 0:
        first, second = table["source"][at].as_py(), table["source"][at + 1].as_py()
        raise ValueError(
            f"IN: got the id {ids[at].as_py()!r} twice ({first}, {second}), ids must be unique"
        )
