"""The Parquet files of a data set of codes: columns, metadata, and how a file is written.

A row is one excerpt of one source, at the model's sample rate. Rows of one source that was cut
(`row_seconds`) follow each other: their codes and scales, concatenated, are those of the whole.

Shapes: K codebooks, F frames, S segments.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from encodec_hk.system import part_file

FORMAT = "encodec_hk_tokens"
FORMAT_VERSION = "1"
ROWS_OF_GROUP = 256

_CODES = pa.list_(pa.list_(pa.int16()))
_COLUMNS = (
    ("id", pa.string()),
    ("source", pa.string()),
    ("part", pa.int32()),
    ("channel", pa.int16()),
    ("start", pa.float64()),
    ("duration", pa.float64()),
    ("num_frames", pa.int32()),
    ("num_samples", pa.int64()),
    ("source_rate", pa.int32()),
    ("source_channels", pa.int16()),
    ("codes", _CODES),
)
_SCALES = ("scales", pa.list_(pa.float32()))
COLUMNS = (*(name for name, _ in _COLUMNS), _SCALES[0])
"""The names that kept fields cannot have."""

# Keys of the footer begin with this.
_PREFIX = "encodec_hk."


class TokenRow(NamedTuple):
    """A row of a data set of codes; the fields are columns, but for `kept`.

    Attributes:
      id: unique in the data set.
      source: where the audio was: a path, below IN if that is a folder, or a URL.
      part: number of the row among those of its source and channel, from 0.
      channel: of the source, from 0; -1 for all channels, mixed to those of the model.
      start: seconds into the source.
      duration: seconds.
      num_frames: F.
      num_samples: at the model's rate. The last segment of a row that its source goes on after has
        `stride` samples of its own, so fewer frames than codes: see `DatasetInfo.segment_stride`.
      source_rate: Hz of the source.
      source_channels: channels of the source.
      codes: int [K, F].
      scales: float32 [S], of a model that normalises, else None.
      kept: the fields that were kept, by name; missing ones are null.
    """

    id: str
    source: str
    part: int
    channel: int
    start: float
    duration: float
    num_frames: int
    num_samples: int
    source_rate: int
    source_channels: int
    codes: np.ndarray
    scales: np.ndarray | None = None
    kept: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What the rows of a data set share: the footer of every file, each field a key.

    Attributes:
      fingerprint: of the model whose codes these are, see `Codec.codes_of`.
      checkpoint: its name.
      source: where its weights come from.
      licence: of the weights; "" if unknown.
      sample_rate: Hz, of the model.
      channels: of the model.
      hop_length: samples of a frame.
      num_codebooks: K, of the codes.
      codebook_size: entries of a codebook.
      bandwidth: kbps.
      segment_length, segment_stride: samples; 0 for a model without segments.
      normalize: whether each segment is divided by its scale.
      channel_policy: "mean", "split" or "first".
      resampling: how audio came to the model's rate.
      row_seconds: length of a row; 0 for whole sources.
      versions: of the packages that decide codes and files, by name.
      plan: hash of the plan.
    """

    fingerprint: str
    checkpoint: str
    source: str
    licence: str
    sample_rate: int
    channels: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    bandwidth: float
    segment_length: int
    segment_stride: int
    normalize: bool
    channel_policy: str
    resampling: str
    row_seconds: float
    versions: Mapping[str, str]
    plan: str

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of a footer, strings that JSON reads back."""
        found = {_PREFIX + "format": FORMAT, _PREFIX + "format_version": FORMAT_VERSION}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
            found[_PREFIX + field.name] = text
        return found

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, name: str) -> DatasetInfo:
        """Read the metadata of a footer.

        Args:
          metadata: of an Arrow schema.
          name: of the file in messages.

        Raises:
          ValueError: if it is not that of a data set of codes, or of another version.
        """
        found = {key.decode(): value.decode() for key, value in (metadata or {}).items()}
        if found.get(_PREFIX + "format") != FORMAT:
            raise ValueError(f"{name}: not a file of codes made by `run.py tokenize`")
        version = found.get(_PREFIX + "format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{name}: format_version {version!r}, this program reads {FORMAT_VERSION}"
            )
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            text = found.get(_PREFIX + field.name)
            if text is None:
                raise ValueError(f"{name}: its metadata lacks {_PREFIX}{field.name}")
            values[field.name] = text if field.type == "str" else json.loads(text)
        return cls(**values)


def read_info(path: str | os.PathLike[str]) -> DatasetInfo:
    """Return the `DatasetInfo` of a file; raise ValueError if it is not a file of codes."""
    try:
        metadata = pq.read_schema(path).metadata
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    return DatasetInfo.from_metadata(metadata, os.fspath(path))


def arrow_schema(info: DatasetInfo, kept: Mapping[str, pa.DataType] | None = None) -> pa.Schema:
    """Return the schema of a data set's files, with their metadata.

    Args:
      info: what the rows share.
      kept: types of the kept fields, by name.

    Raises:
      ValueError: if a kept field has the name of another column.
    """
    columns = list(_COLUMNS)
    if info.normalize:
        columns.append(_SCALES)
    for name, kind in (kept or {}).items():
        if name in COLUMNS:
            raise ValueError(f"--keep: got {name}, which is a column of its own")
        columns.append((name, kind))
    return pa.schema(columns, metadata=info.to_metadata())


def make_table(rows: Sequence[TokenRow], schema: pa.Schema) -> pa.Table:
    """Return rows as a table of a schema."""
    arrays = []
    for field in schema:
        if field.name == "codes":
            arrays.append(_codes_array([row.codes for row in rows]))
        elif field.name == "scales":
            arrays.append(pa.array([_numbers(row.scales) for row in rows], field.type))
        elif field.name in COLUMNS:
            arrays.append(pa.array([getattr(row, field.name) for row in rows], field.type))
        else:
            arrays.append(pa.array([row.kept.get(field.name) for row in rows], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_file(
    path: str | os.PathLike[str], tables: Iterable[pa.Table], schema: pa.Schema
) -> tuple[int, int]:
    """Write a Parquet file beside its name, bring it to the disk and rename it.

    The bytes depend on the rows, the schema and the version of pyarrow alone, not on how the rows
    are divided into tables.

    Returns:
      The numbers of rows and of bytes. Without rows there is no file, as `datasets` reads none that
      has an empty row group; one that exists is removed.

    Raises:
      OSError: if the file cannot be written; an existing one stays as it was.
    """
    path = pathlib.Path(path)
    groups = _groups(tables, schema)
    first = next(groups, None)
    if first is None:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
        return 0, 0
    count = 0
    with synced_file(path) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in itertools.chain([first], groups):
                writer.write_table(group)
                count += group.num_rows
        size = file.tell()
    return count, size


def _groups(tables: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Divide the rows of tables into groups, each of them full but the last."""
    waiting = schema.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while waiting.num_rows >= ROWS_OF_GROUP:
            yield waiting.slice(0, ROWS_OF_GROUP).combine_chunks()
            waiting = waiting.slice(ROWS_OF_GROUP)
    if waiting.num_rows:
        yield waiting.combine_chunks()


@contextlib.contextmanager
def synced_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file beside its name, bring it to the disk and rename it; may raise OSError."""
    with part_file.PartFile(path) as part:
        yield part.file
        part.file.flush()
        os.fsync(part.file.fileno())
    sync_folder(pathlib.Path(path).parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a whole text file, as `synced_file` does."""
    with synced_file(path) as file:
        file.write(text.encode())


def sync_folder(folder: pathlib.Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows opens no folders
    with contextlib.suppress(OSError):  # some network file systems do not
        os.fsync(descriptor)
    os.close(descriptor)


def codes_of(array: pa.ListArray, row: int) -> np.ndarray:
    """Return the codes of a row of an Arrow column, int16 [K, F]."""
    codebooks = array[row].values
    frames = codebooks.value_lengths()[0].as_py() if len(codebooks) else 0
    values = codebooks.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(codebooks), frames)


def _codes_array(codes: Sequence[np.ndarray]) -> pa.ListArray:
    """Return codes [K, F] of rows as lists of lists."""
    counts = [own.shape[0] for own in codes]
    lengths = [own.shape[1] for own in codes for _ in range(own.shape[0])]
    values = [np.ascontiguousarray(own, np.int16).reshape(-1) for own in codes]
    flat = np.concatenate(values) if values else np.zeros(0, np.int16)
    inner = pa.ListArray.from_arrays(_offsets(lengths), pa.array(flat, pa.int16()))
    return pa.ListArray.from_arrays(_offsets(counts), inner)


def _offsets(lengths: Sequence[int]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), pa.int32())


def _numbers(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else np.asarray(values, np.float32).tolist()
