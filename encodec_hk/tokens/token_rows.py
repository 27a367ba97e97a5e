"""Random access to the rows of a data set of codes.

A Parquet file is read a row group at a time, some hundred rows, and only the columns that are
asked for. The last groups are kept, so access in the order of the rows, or near it, is fast.

Shapes: K codebooks, F frames, N rows.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.system import recent_values
from encodec_hk.system import rules
from encodec_hk.tokens import schema
from encodec_hk.tokens import token_crops
from encodec_hk.tokens import urls

SUFFIX = ".parquet"
_DATA = "data"  # the folder of OUT with the files

_OPENING_THREADS = 16


class TokenRows:
    """The rows of files of codes, in the order of the files.

    A data source for grain, and a data set for torch: it has a length, takes an index, pickles into
    worker processes and may be used by several threads. A row is a dictionary of its columns; codes
    are int32 [K, F], and scales float32.

    Attributes:
      paths: the files.
      info: what the rows share, such as the checkpoint's fingerprint.
      num_frames: int32 [N], F of every row.
      group_starts: int64, the first row of every row group, and N.
      cached_groups: row groups in memory, at most.
    """

    def __init__(self, paths: Sequence[str], *, cached_groups: int = 16):
        """Read what the files say of themselves, and the lengths of their rows.

        Args:
          paths: Parquet files made by `run.py tokenize`, or URLs of them.
          cached_groups: row groups to keep in memory. 16 of rows of 30 s take 150 MB for 8
            codebooks at 75 frames a second.

        Raises:
          ValueError: if there are no files, one cannot be read, or they are not of one checkpoint
            and number of codebooks.
        """
        if not paths:
            raise ValueError("paths: got none")
        if cached_groups < 2:
            raise rules.error("cached_groups", cached_groups, "at least 2")
        self.paths = [os.fspath(path) for path in paths]
        with concurrent.futures.ThreadPoolExecutor(_OPENING_THREADS) as pool:
            outlines = list(pool.map(_outline, self.paths))
        self.info = outlines[0][0]
        for path, (info, _, _) in zip(self.paths, outlines, strict=True):
            self._check_same(path, info)
        self._groups = [
            (file, group)
            for file, outline in enumerate(outlines)
            for group in range(len(outline[1]))
        ]
        sizes = [size for _, own, _ in outlines for size in own]
        self.group_starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self.num_frames = np.concatenate([frames for _, _, frames in outlines])
        self.cached_groups = cached_groups
        self._codes: recent_values.RecentValues[_GroupCodes] = recent_values.RecentValues(
            cached_groups
        )
        self._others: recent_values.RecentValues[pa.Table] = recent_values.RecentValues(
            cached_groups
        )

    def __len__(self) -> int:
        return len(self.num_frames)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a row, all columns of it."""
        group, row = self._place(index)
        table = self._others.get(group, lambda: self._read(group, codes=False))
        values = {name: table.column(name)[row].as_py() for name in table.column_names}
        if values.get("scales") is not None:
            values["scales"] = np.array(values["scales"], np.float32)
        return {**values, "codes": self.codes(index)}

    def __repr__(self) -> str:
        info = self.info
        seconds = int(self.num_frames.sum(dtype=np.int64)) * info.hop_length / info.sample_rate
        return (
            f"<TokenRows: {len(self):,} rows in {len(self.paths):,} files, {seconds / 3600:.2f} "
            f"hours, {info.num_codebooks} codebooks of {info.checkpoint} "
            f"({info.fingerprint[:16]})>"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_codes": None, "_others": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._codes, self._others = (
            recent_values.RecentValues(self.cached_groups) for _ in range(2)
        )

    def codes(self, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the codes of a row, or of its frames from `start` to `stop`, int32 [K, F]."""
        group, row = self._place(index)
        codes = self._codes.get(group, lambda: _GroupCodes(self._read(group, codes=True)))
        return codes[row][:, start:stop].astype(np.int32)

    def ids(self) -> Iterator[str]:
        """Yield the ids of all rows in order; of each file, only these are read."""
        for path in self.paths:
            with _parquet(path) as parquet:
                table = parquet.read(columns=["id"], use_threads=False)
            yield from table.column("id").to_pylist()

    def crops(self, num_frames: int, **settings: Any) -> token_crops.TokenCrops:
        """Return crops of one length, in random order; see `token_crops.TokenCrops`."""
        return token_crops.TokenCrops(self, num_frames, **settings)

    def _place(self, index: int) -> tuple[int, int]:
        """Return the row group of a row, and its place there."""
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"row: got {index}, must be -{count} to {count - 1}")
        index = int(index) % count
        group = int(np.searchsorted(self.group_starts, index, side="right")) - 1
        return group, index - int(self.group_starts[group])

    def _read(self, group: int, *, codes: bool) -> pa.Table:
        """Read the codes of a row group, or its other columns."""
        file, own = self._groups[group]
        with _parquet(self.paths[file]) as parquet:
            names = [name for name in parquet.schema_arrow.names if (name == "codes") == codes]
            return parquet.read_row_group(own, columns=names, use_threads=False)

    def _check_same(self, path: str, info: schema.DatasetInfo) -> None:
        first = self.info
        for name in ("fingerprint", "num_codebooks"):
            here, there = getattr(info, name), getattr(first, name)
            if here != there:
                raise ValueError(
                    f"{file_paths.shown(path)}: {name} {str(here)[:16]} of {info.checkpoint}, but "
                    f"{file_paths.shown(self.paths[0])} has {str(there)[:16]} of "
                    f"{first.checkpoint}: codes of one data set must be of one checkpoint and "
                    "bandwidth"
                )


class _GroupCodes:
    """The codes of a row group, by row: views, int16 [K, F]."""

    def __init__(self, table: pa.Table):
        column = table.column("codes").combine_chunks()
        lists = column.values
        self._values = lists.values.to_numpy()
        self._starts = lists.offsets.to_numpy()
        self._rows = column.offsets.to_numpy()

    def __getitem__(self, row: int) -> np.ndarray:
        first, last = self._rows[row], self._rows[row + 1]
        values = self._values[self._starts[first] : self._starts[last]]
        return values.reshape(last - first, -1)


def find(path: str | os.PathLike[str]) -> list[str]:
    """Find the Parquet files of a data set.

    Args:
      path: a folder, the OUT of `run.py tokenize` or any other; a file; a glob; or a URL of these
        (s3://, gs://, hf://, ... by fsspec, an optional package).

    Raises:
      ValueError: if there are none.
    """
    name = os.fspath(path)
    if urls.is_url(name):
        return _find_remote(name)
    data = os.path.join(name, _DATA)
    found = file_paths.find(data if os.path.isdir(data) else name, {SUFFIX})
    if not found.files:
        if not os.path.exists(name) and not glob.has_magic(name):
            raise ValueError(f"{file_paths.shown(name)}: no such file or folder")
        reason = found.unreadable[0] if found.unreadable else f"found no {SUFFIX} files"
        raise ValueError(f"{file_paths.shown(name)}: {reason}")
    return found.files


def _find_remote(url: str) -> list[str]:
    base, files, _ = urls.find(url)
    names = [name for name, _ in files if name.lower().endswith(SUFFIX)]
    own = [name for name in names if name.startswith(f"{_DATA}/")]
    if not names:
        raise ValueError(f"{url}: found no {SUFFIX} files")
    return [urls.join(base, name) for name in own or names]


@contextlib.contextmanager
def _parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Open a file; what fails there is a ValueError."""
    with file_errors.as_value_error(path, pa.ArrowException), contextlib.ExitStack() as stack:
        source = stack.enter_context(urls.open_file(path)) if urls.is_url(path) else path
        yield stack.enter_context(pq.ParquetFile(source))


def _outline(path: str) -> tuple[schema.DatasetInfo, list[int], np.ndarray]:
    """Return the metadata of a file, the sizes of its row groups, and the frames of its rows."""
    with _parquet(path) as parquet:
        info = schema.DatasetInfo.from_metadata(
            parquet.schema_arrow.metadata, file_paths.shown(path)
        )
        counts = range(parquet.metadata.num_row_groups)
        sizes = [parquet.metadata.row_group(group).num_rows for group in counts]
        table = parquet.read(columns=["num_frames"], use_threads=False)
        return info, sizes, table.column("num_frames").to_numpy().astype(np.int32)
