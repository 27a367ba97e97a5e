"""Shards of a plan to Parquet files of codes.

The items of a shard run longest first, and those of the next shard follow as places become free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import pyarrow as pa

import encodec_hk
from encodec_hk.system import file_errors
from encodec_hk.system import machine
from encodec_hk.tokens import device_loop
from encodec_hk.tokens import item_table
from encodec_hk.tokens import reader_pool
from encodec_hk.tokens import row_cuts
from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_files
from encodec_hk.tokens import shard_plan
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import shard_writer
from encodec_hk.tokens import sound_sources
from encodec_hk.tokens import work_log

_MOST_READERS = 32


class Tokenizer:
    """Encodes shards of a plan."""

    def __init__(
        self,
        codec: encodec_hk.Codec,
        plan: shard_plan.ShardPlan,
        files: shard_files.ShardFiles,
        arrow_schema: Callable[[int], pa.Schema],
        *,
        num_codebooks: int,
        read_settings: sound_sources.ReadSettings,
        row_seconds: float = 0.0,
        limit: shard_work.ErrorLimit,
        num_readers: int = 0,
        retry_errors: bool = False,
    ):
        """Prepare.

        Args:
          codec: the codec.
          plan: the plan.
          files: where shards go.
          arrow_schema: returns the schema of a shard's file.
          num_codebooks: K.
          read_settings: how items are read.
          row_seconds: see `row_cuts.RowMaker`.
          limit: of errors in a shard.
          num_readers: processes that read; 0 reads in this one.
          retry_errors: run the failed items of shards that are done.
        """
        self._codec, self._plan, self._files = codec, plan, files
        self._arrow_schema = arrow_schema
        self._num_codebooks = num_codebooks
        self._read_settings = read_settings
        self._limit = limit
        self._num_readers = num_readers
        self._retry_errors = retry_errors
        self._rows = row_cuts.RowMaker(
            codec.framing, codec.sample_rate, row_seconds, read_settings.policy
        )

    def work(self, shard: int) -> shard_work.ShardWork | None:
        """Return the work that a shard needs, None if it is done.

        Raises:
          ValueError: if a file of the plan, or of the shard, is damaged.
        """
        plan_hash = self._plan.hash_of(shard)
        receipt = self._files.receipt(shard, plan_hash)
        if receipt is not None and not (receipt.errors and self._retry_errors):
            return None
        found = self._plan.items(shard)
        if receipt is None:
            return shard_work.ShardWork(shard, plan_hash, found, self._limit)
        failed = {error.id for error in self._files.errors(shard)}
        rows = self._files.rows(shard, found)
        done = {index: own for index, own in enumerate(rows) if own}
        skipped = [
            index for index, item in enumerate(found) if item.id not in failed and index not in done
        ]
        return shard_work.ShardWork(shard, plan_hash, found, self._limit, done, skipped)

    def run(
        self,
        shards: Iterable[int],
        settle: Callable[[shard_writer.ShardResult], None],
        report: Callable[[device_loop.Progress], None] = lambda progress: None,
    ) -> None:
        """Encode shards, and write each as it is complete.

        Args:
          shards: their numbers, drawn as they are needed; those that are done are passed over.
          settle: called with the result of each that was not.
          report: called with the progress, several times a second.

        Raises:
          ValueError: if a file of the plan is damaged, or shared memory is short.
        """
        slots = device_loop.Slots.wanted(self._codec)
        if self._num_readers:
            block = slots.size // device_loop.BLOCKS_OF_SLOT
            size = reader_pool.slot_size(slots.number, slots.size, min(block, 2**16))
            slots = slots._replace(size=size)
        with (
            reader_pool.opened(self._read_settings, *slots, self._num_readers) as readers,
            self._work_log() as log,
            shard_writer.ShardWriter(self._files, self._arrow_schema, settle) as writer,
        ):
            self._loop(readers, writer, slots, log, report).run(self._feed(shards, writer))

    def encode(
        self, planned: Sequence[item_table.AudioItem]
    ) -> list[Sequence[schema.TokenRow] | str]:
        """Encode items, and return the rows of each, or why there are none.

        Raises:
          ValueError: if the system fails.
        """
        work = shard_work.ShardWork(0, "", planned, shard_work.ErrorLimit("100%"))
        slots = device_loop.Slots.wanted(self._codec)
        with reader_pool.opened(self._read_settings, *slots, 0) as readers:
            nothing = device_loop.NoWriter(), slots, work_log.NoWorkLog(), lambda progress: None
            loop = self._loop(readers, *nothing)
            loop.run((work, index) for index in work.waiting)
        if work.failure is not None:
            raise ValueError(work.failure)
        return [work.errors.get(index, rows) for index, rows in enumerate(work.rows)]

    def _loop(
        self,
        readers: reader_pool.Readers,
        writer: shard_writer.ShardWriter | device_loop.NoWriter,
        slots: device_loop.Slots,
        log: work_log.NoWorkLog,
        report: Callable[[device_loop.Progress], None],
    ) -> device_loop.DeviceLoop:
        return device_loop.DeviceLoop(
            self._codec,
            readers,
            writer,
            self._rows,
            num_codebooks=self._num_codebooks,
            slots=slots,
            is_split=self._read_settings.policy == "split",
            log=log,
            report=report,
        )

    def _work_log(self) -> work_log.WorkLog:
        def is_needed(shard: int) -> bool:
            if self._retry_errors or shard >= self._plan.num_shards:
                return False  # what was set aside is tried again
            return self._files.receipt(shard, self._plan.hash_of(shard)) is None

        with file_errors.as_value_error(self._plan.folder):
            return work_log.WorkLog(self._plan.folder / "work", is_needed)

    def _feed(
        self, shards: Iterable[int], writer: shard_writer.ShardWriter
    ) -> Iterator[tuple[shard_work.ShardWork, int]]:
        """Yield the items to run."""
        for shard in shards:
            work = self.work(shard)
            if work is None:
                continue
            if work.is_complete:
                writer.put(work)
            for index in work.waiting:
                if work.failure is not None:
                    break
                yield work, index


def default_readers(cores: int | None = None) -> int:
    """Return how many processes should read.

    Args:
      cores: for the device and its readers; None for all of this process.
    """
    cores = machine.num_cores() if cores is None else cores
    if jax.default_backend() == "cpu":  # which needs the cores itself; reading is little beside it
        return max(1, cores // 4)
    return max(1, min(cores - 1, _MOST_READERS))
