"""A thread that writes shards as they are complete."""

from __future__ import annotations

import concurrent.futures
import errno
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import pyarrow as pa

from encodec_hk.system import file_errors
from encodec_hk.tokens import shard_files
from encodec_hk.tokens import shard_work

_TRIES = 3
_PAUSE = 2.0  # seconds before the second try, twice that before the third
_WAITING = 2  # shards that are encoded, and wait to be written


class ShardResult(NamedTuple):
    """The end of a shard.

    Attributes:
      shard: its number.
      receipt: what it holds; None if it failed.
      errors: of items.
      failure: why it failed, or None.
    """

    shard: int
    receipt: shard_files.Receipt | None
    errors: Sequence[shard_files.ItemError]
    failure: str | None = None


class ShardWriter:
    """Writes shards in a thread."""

    def __init__(
        self,
        files: shard_files.ShardFiles,
        arrow_schema: Callable[[int], pa.Schema],
        settle: Callable[[ShardResult], None],
    ):
        self._files, self._arrow_schema, self._settle = files, arrow_schema, settle
        self._executor = concurrent.futures.ThreadPoolExecutor(1)
        self._futures: list[concurrent.futures.Future[ShardResult]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.settle(0)
        finally:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def put(self, work: shard_work.ShardWork) -> None:
        """Write a shard that is complete, or note that it has failed."""
        self._futures.append(self._executor.submit(self._write, work))

    def settle(self, limit: int = _WAITING) -> None:
        """Settle what is written; wait until at most `limit` shards wait."""
        while self._futures and (len(self._futures) > limit or self._futures[0].done()):
            self._settle(self._futures.pop(0).result())

    def _write(self, work: shard_work.ShardWork) -> ShardResult:
        errors = work.item_errors()
        if work.failure is None:
            for attempt in range(_TRIES):
                try:
                    receipt = self._files.write(
                        work.shard,
                        work.plan_hash,
                        work.rows,
                        work.skipped,
                        errors,
                        self._arrow_schema(work.shard),
                    )
                    return ShardResult(work.shard, receipt, errors)
                except OSError as error:
                    work.failure = f"{error.filename or 'write'}: {file_errors.reason(error)}"
                    if attempt < _TRIES - 1 and error.errno != errno.EROFS:
                        time.sleep(_PAUSE * (attempt + 1))
        self._files.write_failure(work.shard, work.failure or "", errors)
        return ShardResult(work.shard, None, errors, work.failure)
