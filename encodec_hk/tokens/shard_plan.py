"""The plan of a data set: which items are in which shard, on disk.

OUT/.tokenize/plan.json holds the settings and a hash of all items; plan-000.parquet the items, a
row group for each shard. `--extend` adds plan-001.parquet, with shards for new items. All files are
functions of the input and the settings, so processes that plan at once write the same bytes.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from encodec_hk.system import file_errors
from encodec_hk.tokens import item_table
from encodec_hk.tokens import schema

FOLDER = ".tokenize"
_FORMAT_VERSION = 1
_SHOWN = 3  # IDs in a message


class ShardPlan:
    """A plan, read from its files as shards are asked for.

    Attributes:
      folder: OUT/.tokenize.
      settings: what the codes depend on, beside the items.
      num_shards: in all.
      num_items: in all.
      seconds: expected duration of all items.
      kept: types of the kept fields, by name.
    """

    def __init__(self, output: str | pathlib.Path):
        """Read the plan of a data set; raises ValueError if there is none or it is damaged."""
        self.folder = pathlib.Path(output) / FOLDER
        path = self.folder / "plan.json"
        if not path.exists():
            raise ValueError(f"{output}: holds no data set that `run.py tokenize` has begun")
        with file_errors.as_value_error(path, ValueError, KeyError):
            content = json.loads(path.read_text())
            if content["format_version"] != _FORMAT_VERSION:
                raise ValueError(f"format_version {content['format_version']}")
            self.settings: dict[str, Any] = content["settings"]
            self._digest: str = content["digest"]
            self._parts: list[dict[str, Any]] = content["parts"]
            self.num_shards = sum(part["shards"] for part in self._parts)
            self.num_items = sum(part["items"] for part in self._parts)
            self.seconds = sum(part["seconds"] for part in self._parts)
            self.kept = item_table.kept_types(pq.read_schema(self._file(0)))

    def hash_of(self, shard: int) -> str:
        """Return the hash of the settings and of the items that a shard was planned with."""
        part, _ = self._place(shard)
        found: str = self._parts[part]["hash"]
        return found

    def items(self, shard: int) -> list[item_table.AudioItem]:
        """Return the items of a shard, sorted by ID."""
        part, group = self._place(shard)
        with file_errors.as_value_error(self._file(part), pa.ArrowInvalid):
            # A row group alone is read, whatever the size of the plan.
            table = pq.ParquetFile(self._file(part)).read_row_group(group)
        return item_table.items_of(table)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError if the plan was made with other settings."""
        for name in sorted(self.settings.keys() | settings.keys()):
            before, now = self.settings.get(name), settings.get(name)
            if before != now:
                raise ValueError(
                    f"{name}: got {_shown(now)}, {self.folder.parent} was begun with "
                    f"{_shown(before)}; name another OUT"
                )

    def has(self, table: pa.Table) -> bool:
        """Return whether the plan is of exactly these items."""
        return item_table.digest(table, {}) == self._digest

    def table(self) -> pa.Table:
        """Return all items."""
        tables = [pq.read_table(self._file(part)) for part in range(len(self._parts))]
        return pa.concat_tables(tables)

    def _place(self, shard: int) -> tuple[int, int]:
        """Return the part of a shard, and its number there."""
        for part, content in enumerate(self._parts):
            if shard < content["shards"]:
                return part, shard
            shard -= content["shards"]
        raise IndexError(shard)

    def _file(self, part: int) -> pathlib.Path:
        return _part_path(self.folder, part)

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """The parts, as plan.json holds them."""
        return self._parts


def prepare(
    output: str | pathlib.Path,
    table: pa.Table,
    settings: Mapping[str, Any],
    *,
    shard_hours: float,
    extend: bool = False,
) -> ShardPlan:
    """Return the plan of a data set, which is made unless there is one.

    Args:
      output: OUT.
      table: the items that were found.
      settings: what the codes depend on, beside the items.
      shard_hours: expected duration of the items of a shard.
      extend: add shards for items that are new.

    Raises:
      ValueError: if there is a plan of other settings or items, OUT holds something else, or a file
        cannot be read or written.
    """
    folder = pathlib.Path(output) / FOLDER
    settings = {**settings, "shard_hours": shard_hours}
    if not (folder / "plan.json").exists():
        _check_empty(pathlib.Path(output))
        _write(folder, [], table, table, settings)
        return ShardPlan(output)
    plan = ShardPlan(output)
    plan.check(settings)
    if plan.has(table):
        return plan
    missing, differing, new = item_table.changed(plan.table(), table)
    for ids, what in ((missing, "gone"), (differing, "changed")):
        if ids:
            raise ValueError(
                f"IN: {len(ids)} items of {output} are {what} ({_some(ids)}); name another OUT"
            )
    if not new.num_rows:
        raise ValueError(f"IN: kept fields are not those that {output} was begun with")
    if not extend:
        raise ValueError(
            f"IN: {new.num_rows} items are not in {output} ({_some(new['id'].to_pylist())}); "
            "--extend adds them"
        )
    first = pq.read_schema(_part_path(folder, 0))
    try:
        new = new.cast(first)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise ValueError(
            f"--keep: values of new items do not fit {output} ({file_errors.reason(error)})"
        ) from error
    _write(folder, plan.parts, new, table, settings)
    return ShardPlan(output)


def _write(
    folder: pathlib.Path,
    parts: Sequence[Mapping[str, Any]],
    new: pa.Table,
    table: pa.Table,
    settings: Mapping[str, Any],
) -> None:
    """Write a part for new items, then the plan of all parts."""
    groups = _divide(new["seconds"].to_pylist(), settings["shard_hours"] * 3600)
    part = {
        "hash": item_table.digest(new, settings),
        "items": new.num_rows,
        "shards": len(groups),
        "seconds": round(float(sum(new["seconds"].to_pylist())), 3),
    }
    plan = {
        "format_version": _FORMAT_VERSION,
        "settings": dict(settings),
        "digest": item_table.digest(table, {}),
        "parts": [*parts, part],
    }
    with file_errors.as_value_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (
            schema.synced_file(_part_path(folder, len(parts))) as file,
            pq.ParquetWriter(file, new.schema, compression="zstd") as writer,
        ):
            for start, stop in groups:
                writer.write_table(new.slice(start, stop - start), row_group_size=stop - start)
        schema.write_text(folder / "plan.json", json.dumps(plan, indent=1) + "\n")


def _divide(seconds: Sequence[float], limit: float) -> list[tuple[int, int]]:
    """Divide items into ranges of about `limit` seconds each, at least an item."""
    groups, start, total = [], 0, 0.0
    for index, own in enumerate(seconds):
        if index > start and total + own > limit:
            groups.append((start, index))
            start, total = index, 0.0
        total += own
    if start < len(seconds):
        groups.append((start, len(seconds)))
    return groups


def _part_path(folder: pathlib.Path, part: int) -> pathlib.Path:
    return folder / f"plan-{part:03}.parquet"


def _check_empty(output: pathlib.Path) -> None:
    """Raise ValueError if OUT holds files of something else, or cannot be a folder."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file, must be a folder")
    if any((output / "data").glob("*.parquet")):
        raise ValueError(f"{output}: holds Parquet files of another data set, name another OUT")


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (", ..." if len(ids) > _SHOWN else "")


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
