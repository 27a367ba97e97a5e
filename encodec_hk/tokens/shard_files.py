"""The files of shards: rows, receipts and errors.

    OUT/data/train-00003.parquet            rows, sorted by ID
    OUT/.tokenize/receipts/00003.json       rows and bytes of it: done if file and receipt agree
    OUT/.tokenize/errors/00003.jsonl        a line for each item without rows that should have some
    OUT/.tokenize/failed/00003.json         why the last try failed; gone when one succeeds

The receipt comes last. Each file is complete or absent, and the same whoever writes it: processes
may work on one shard at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from encodec_hk.system import file_errors
from encodec_hk.tokens import item_table
from encodec_hk.tokens import row_cuts
from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_plan


class ItemError(NamedTuple):
    """Why an item has no rows."""

    id: str
    source: str
    error: str


class Receipt(NamedTuple):
    """What a shard that is done holds.

    Attributes:
      plan: hash of the plan's part that the shard belongs to.
      rows, bytes: of the file; both 0 if there is none.
      items: of the plan.
      skipped: items shorter or longer than the settings allow.
      errors: items that failed.
      sources: items with rows.
      frames: of the rows together.
      seconds: of the rows together.
    """

    plan: str
    rows: int
    bytes: int
    items: int
    skipped: int
    errors: int
    sources: int
    frames: int
    seconds: float


class ShardFiles:
    """The files of a data set's shards."""

    def __init__(self, output: str | pathlib.Path):
        self._data = pathlib.Path(output) / "data"
        self._state = pathlib.Path(output) / shard_plan.FOLDER

    def data_path(self, shard: int) -> pathlib.Path:
        """Return the path of a shard's rows."""
        return self._data / f"train-{shard:05}.parquet"

    def receipt(self, shard: int, plan_hash: str) -> Receipt | None:
        """Return the receipt of a shard that is done, else None."""
        try:
            found = Receipt(**json.loads(self._path("receipts", shard).read_text()))
            size = self.data_path(shard).stat().st_size if found.rows else 0
        except (OSError, ValueError, TypeError):
            return None
        return found if (found.plan, found.bytes) == (plan_hash, size) else None

    def errors(self, shard: int) -> list[ItemError]:
        """Return the errors of the last try of a shard."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            lines = self._path("errors", shard).read_text().splitlines()
            return [ItemError(**json.loads(line)) for line in lines]
        return []

    def failure(self, shard: int) -> str | None:
        """Return why the last try of a shard failed, None if it did not."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            reason: str = json.loads(self._path("failed", shard).read_text())["reason"]
            return reason
        return None

    def write(
        self,
        shard: int,
        plan_hash: str,
        rows: Sequence[Sequence[schema.TokenRow]],
        skipped: int,
        errors: Sequence[ItemError],
        arrow_schema: pa.Schema,
    ) -> Receipt:
        """Write a shard: its rows, item by item, its errors, and its receipt.

        Raises:
          OSError: if a file cannot be written.
        """
        flat = itertools.chain.from_iterable(rows)
        count, size = schema.write_file(
            self.data_path(shard), _tables(flat, arrow_schema), arrow_schema
        )
        self._write_errors(shard, errors)
        every = list(itertools.chain.from_iterable(rows))
        receipt = Receipt(
            plan=plan_hash,
            rows=count,
            bytes=size,
            items=len(rows),
            skipped=skipped,
            errors=len(errors),
            sources=sum(map(bool, rows)),
            frames=sum(row.num_frames for row in every),
            seconds=round(sum(row.duration for row in every), 3),
        )
        self._write_text("receipts", shard, json.dumps(receipt._asdict()) + "\n")
        self._path("failed", shard).unlink(missing_ok=True)
        return receipt

    def write_failure(self, shard: int, reason: str, errors: Sequence[ItemError]) -> None:
        """Note that a shard failed, as far as the disk allows."""
        with contextlib.suppress(OSError):
            self._write_text("failed", shard, json.dumps({"reason": reason}) + "\n")
            self._write_errors(shard, errors)

    def rows(
        self, shard: int, items: Sequence[item_table.AudioItem]
    ) -> list[list[schema.TokenRow]]:
        """Read the rows of a shard that is done, item by item.

        Raises:
          ValueError: if the file is damaged.
        """
        path = self.data_path(shard)
        found: list[list[schema.TokenRow]] = [[] for _ in items]
        if not path.exists():
            return found
        at = 0
        with file_errors.as_value_error(path, pa.ArrowInvalid):
            for row in _rows_of(pq.ParquetFile(path)):
                while at < len(items) and not row_cuts.of_item(row.id, items[at].id):
                    at += 1
                if at == len(items):
                    raise ValueError(f"{path}: row {row.id!r} is not of the plan")
                found[at].append(row)
        return found

    def _write_errors(self, shard: int, errors: Sequence[ItemError]) -> None:
        if errors:
            lines = [json.dumps(error._asdict()) + "\n" for error in errors]
            self._write_text("errors", shard, "".join(lines))
        else:
            self._path("errors", shard).unlink(missing_ok=True)

    def _write_text(self, kind: str, shard: int, text: str) -> None:
        path = self._path(kind, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        schema.write_text(path, text)

    def _path(self, kind: str, shard: int) -> pathlib.Path:
        suffix = "jsonl" if kind == "errors" else "json"
        return self._state / kind / f"{shard:05}.{suffix}"


def _tables(rows: Iterator[schema.TokenRow], arrow_schema: pa.Schema) -> Iterator[pa.Table]:
    while chunk := list(itertools.islice(rows, schema.ROWS_OF_GROUP)):
        yield schema.make_table(chunk, arrow_schema)


def _rows_of(parquet: pq.ParquetFile) -> Iterator[schema.TokenRow]:
    plain = [name for name in schema.COLUMNS if name not in ("codes", "scales")]
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group)
        codes = table["codes"].combine_chunks()
        others: list[dict[str, Any]] = table.drop_columns(["codes"]).to_pylist()
        for index, values in enumerate(others):
            own = {name: values.pop(name) for name in plain}
            scales = values.pop("scales", None)
            yield schema.TokenRow(
                **own, codes=schema.codes_of(codes, index), scales=scales, kept=values
            )
