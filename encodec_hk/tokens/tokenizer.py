"""Items to codes: readers, one device, a writer.

    readers -> slots -> encoders, in the places of one scheduler -> rows -> writer thread

The items of a shard run longest first, and those of the next shard follow as places become free.
All blocks have one shape. A row's codes do not depend on the place, the other rows, or how samples
arrive; so neither do the bytes of a shard.
"""

from __future__ import annotations

import concurrent.futures
import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
import pyarrow as pa

import encodec_hk
from encodec_hk.blocks import items
from encodec_hk.blocks import scheduler
from encodec_hk.sound import resampling
from encodec_hk.system import file_errors
from encodec_hk.system import interruption
from encodec_hk.system import machine
from encodec_hk.tokens import item_table
from encodec_hk.tokens import reader_pool
from encodec_hk.tokens import row_cuts
from encodec_hk.tokens import schema
from encodec_hk.tokens import shard_files
from encodec_hk.tokens import shard_plan
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import sound_sources

_BLOCKS_OF_SLOT = 8
_WRITE_TRIES = 3
_WRITE_PAUSE = 2.0  # seconds before the second try, twice that before the third
_WAIT = 0.5  # seconds, at most, between two looks for an interruption
_LEAST_WAIT = 0.005  # seconds that places which have audio wait for the others
_MOST_READERS = 32
_WAITING_SHARDS = 2  # that are encoded, and wait to be written


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


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
      seconds: of audio that were encoded.
      expected: of these, what the plan expected.
      elapsed: seconds since the first program was compiled.
      errors: items that failed.
      device_waited: share of the time that the device waited for audio.
      audio_waited: share of the time that readers waited for the device.
      missing_readers: readers to add so that the device would not wait.
    """

    seconds: float
    expected: float
    elapsed: float
    errors: int
    device_waited: float
    audio_waited: float
    missing_readers: int


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
        settle: Callable[[ShardResult], None],
        report: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Encode shards, and write each as it is complete.

        Args:
          shards: their numbers, drawn as they are needed; those that are done are passed over.
          settle: called with the result of each that was not.
          report: called with the progress, several times a second.

        Raises:
          ValueError: if a file of the plan is damaged, or shared memory is short.
        """
        slots, size = self._slots()
        if self._num_readers:
            block = size // _BLOCKS_OF_SLOT
            size = reader_pool.slot_size(slots, size, min(block, 2**16))
        with (
            reader_pool.opened(self._read_settings, slots, size, self._num_readers) as readers,
            _Writer(self._files, self._arrow_schema, settle) as writer,
        ):
            loop = _Loop(self, readers, writer, slots, size, report)
            loop.run(self._feed(shards, writer))

    def encode(
        self, planned: Sequence[item_table.AudioItem]
    ) -> list[Sequence[schema.TokenRow] | str]:
        """Encode items, and return the rows of each, or why there are none.

        Raises:
          ValueError: if the system fails.
        """
        work = shard_work.ShardWork(0, "", planned, shard_work.ErrorLimit("100%"))
        slots, size = self._slots()
        with reader_pool.opened(self._read_settings, slots, size, 0) as readers:
            loop = _Loop(self, readers, _NoWriter(), slots, size, lambda progress: None)
            loop.run((work, index) for index in work.waiting)
        if work.failure is not None:
            raise ValueError(work.failure)
        return [work.errors.get(index, rows) for index, rows in enumerate(work.rows)]

    def _slots(self) -> tuple[int, int]:
        """Return the number of slots, and the float32 values of each."""
        codec = self._codec
        block = codec.block_frames * codec.hop_length * codec.channels
        return 2 * places_of(codec), _BLOCKS_OF_SLOT * block

    def _feed(
        self, shards: Iterable[int], writer: _Writer
    ) -> Iterator[tuple[shard_work.ShardWork, int]]:
        """Yield the items to run."""
        for shard in shards:
            writer.settle(_WAITING_SHARDS)
            work = self.work(shard)
            if work is None:
                continue
            if work.is_complete:
                writer.put(work)
            for index in work.waiting:
                if work.failure is not None:
                    break
                yield work, index

    @property
    def is_split(self) -> bool:
        """Whether each channel of a source is a signal of its own."""
        return self._read_settings.policy == "split"

    def encoder_parts(self) -> tuple[encodec_hk.Codec, int, row_cuts.RowMaker]:
        """Return the codec, the number of codebooks, and what makes rows."""
        return self._codec, self._num_codebooks, self._rows


def default_readers(cores: int | None = None) -> int:
    """Return how many processes should read.

    Args:
      cores: for the device and its readers; None for all of this process.
    """
    cores = machine.num_cores() if cores is None else cores
    if jax.default_backend() == "cpu":  # which needs the cores itself; reading is little beside it
        return max(1, cores // 4)
    return max(1, min(cores - 1, _MOST_READERS))


def places_of(codec: encodec_hk.Codec) -> int:
    """Return the places of every block: the same for any number of items, so the same bytes."""
    return codec.batch_size * codec.num_devices


class _Loop:
    """The device's loop."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        readers: reader_pool.Readers,
        writer: _Writer | _NoWriter,
        slots: int,
        slot_size: int,
        report: Callable[[Progress], None],
    ):
        self._tokenizer = tokenizer
        self._codec, self._num_codebooks, self._rows = tokenizer.encoder_parts()
        self._readers, self._writer = readers, writer
        self._free = list(range(slots))
        self._places = places_of(self._codec)
        self._slot_size = slot_size
        self._report = report
        self._runner = self._codec.runner(
            self._codec.encoder_program(self._num_codebooks), self._places
        )
        self._active: dict[int, _Active] = {}  # by slot
        self._requested: set[int] = set()  # slots
        self._deaths: dict[tuple[int, int], int] = {}  # by shard and index of an item
        self._again: list[tuple[shard_work.ShardWork, int]] = []  # items to begin anew
        self._suspects: list[tuple[shard_work.ShardWork, int]] = []  # items to try alone
        self._start = time.monotonic()
        self._device_waited = 0.0
        self._block_seconds = 0.0
        self._seconds = self._expected = 0.0
        self._num_errors = 0

    def run(self, feed: Iterator[tuple[shard_work.ShardWork, int]]) -> None:
        """Encode items to their ends."""
        is_warm = False
        while True:
            interruption.check()
            self._begin(feed)
            if not self._active:
                break
            if not is_warm:
                # Compile while the readers read.
                if not self._codec.takes_whole_items:
                    self._runner.warm_up(np.zeros((0, self._codec.channels), np.float32))
                is_warm, self._start = True, time.monotonic()
            self._receive(0.0)
            if self._must_wait():
                self._runner.advance(at_most=0, wait=True)  # meanwhile the device computes
                self._collect()
                self._await()
            start = time.monotonic()
            self._runner.advance(at_most=1, wait=not self._requested and not self._runner.num_ready)
            self._block_seconds += 0.1 * (time.monotonic() - start - self._block_seconds)
            self._collect()
            self._report(self._progress())

    def _begin(self, feed: Iterator[tuple[shard_work.ShardWork, int]]) -> None:
        """Begin items while slots are free."""
        while self._free and not self._is_alone():
            if self._suspects:
                if self._active:
                    return  # a suspect is tried alone, when the others have ended
                work, index = self._suspects.pop()
            elif self._again:
                work, index = self._again.pop()
            else:
                found = next(feed, None)
                if found is None:
                    return
                work, index = found
            if work.failure is not None:
                continue
            slot = self._free.pop()
            self._active[slot] = _Active(work, index)
            self._readers.request(slot, work.items[index])
            self._requested.add(slot)

    def _is_alone(self) -> bool:
        """Return whether the item in work is a suspect."""
        keys = [(active.work.shard, active.index) for active in self._active.values()]
        return bool(self._deaths) and any(self._deaths.get(key, 0) > 1 for key in keys)

    def _must_wait(self) -> bool:
        """Return whether the next block should wait for audio that is being read."""
        return bool(self._requested) and self._runner.num_ready < self._places

    def _await(self) -> None:
        """Wait until every place has audio; if some have, not longer than a block takes."""
        most = max(self._block_seconds, _LEAST_WAIT)
        start = time.monotonic()
        while self._must_wait():
            interruption.check()
            waited = time.monotonic() - start
            has_some = self._runner.num_ready > 0
            if has_some and waited > most:
                break
            self._receive(most if has_some else _WAIT)
        self._device_waited += time.monotonic() - start

    def _receive(self, timeout: float) -> None:
        for reply in self._readers.replies(timeout):
            slot = reply.slot
            self._requested.discard(slot)
            active = self._active.get(slot)
            if active is None:
                continue
            if active.work.failure is not None:
                self._drop(slot)
            elif reply.failure is not None:
                self._fail(slot, active, reply)
            else:
                self._push(slot, active, reply)

    def _push(self, slot: int, active: _Active, reply: reader_pool.Reply) -> None:
        """Hand the samples of a reply to the item's encoders."""
        codec = self._codec
        if active.reply is None:
            active.reply = reply
            count = reply.width if self._tokenizer.is_split else 1
            active.signals = [_SignalInWork(codec, self._runner) for _ in range(count)]
        samples = self._readers.samples(reply)
        for column, signal in enumerate(active.signals):
            own = samples[:, column : column + 1] if self._tokenizer.is_split else samples
            own = resampling.mix(own, codec.channels)
            signal.push(np.array(own, np.float32))  # a copy: the slot is filled again
            if reply.is_last:
                signal.end(codec, self._num_codebooks)
        active.is_read = reply.is_last
        self._request(slot, active)

    def _request(self, slot: int, active: _Active) -> None:
        """Ask for more audio of an item that has little left."""
        if active.is_read or slot in self._requested or active.reply is None:
            return
        least = self._slot_size // active.reply.width
        if max(signal.num_waiting for signal in active.signals) <= least:
            self._readers.request(slot)
            self._requested.add(slot)

    def _collect(self) -> None:
        """Take codes from the encoders; finish the items that are complete."""
        for slot, active in list(self._active.items()):
            if active.work.failure is not None:
                if slot not in self._requested:
                    self._drop(slot)
                continue
            for signal in active.signals:
                signal.collect()
            if active.is_read and all(signal.is_done for signal in active.signals):
                self._finish(slot, active)
            else:
                self._request(slot, active)

    def _finish(self, slot: int, active: _Active) -> None:
        work, reply = active.work, active.reply
        assert reply is not None
        item = work.items[active.index]
        signals = [signal.result() for signal in active.signals]
        rows = self._rows.rows(item, reply.source_rate, reply.source_channels, signals)
        work.put(active.index, rows)
        self._seconds += sum(row.duration for row in rows)
        self._end(slot, active)

    def _fail(self, slot: int, active: _Active, reply: reader_pool.Reply) -> None:
        """Settle an item without all its samples."""
        work, index = active.work, active.index
        for signal in active.signals:
            signal.drop()
        if reply.failure == reader_pool.DIED:
            count = self._deaths[work.shard, index] = self._deaths.get((work.shard, index), 0) + 1
            if count <= 2:
                # Once may be bad luck; what was there twice is tried alone.
                (self._again if count == 1 else self._suspects).append((work, index))
                del self._active[slot]
                self._free.append(slot)
                return
        if reply.failure == reader_pool.SKIPPED:
            work.skip()
        elif reply.failure == reader_pool.SYSTEM:
            work.failure = reply.message
        else:
            work.put_error(index, reply.message or "cannot be read")
            self._num_errors += 1
        self._end(slot, active)

    def _end(self, slot: int, active: _Active) -> None:
        """Free the slot of an item that has ended; write its shard if it was the last."""
        self._expected += active.work.items[active.index].seconds
        del self._active[slot]
        self._free.append(slot)
        work = active.work
        if work.failure is not None or work.is_complete:
            self._writer.put(work)

    def _drop(self, slot: int) -> None:
        """End an item of a shard that has failed."""
        active = self._active.pop(slot)
        for signal in active.signals:
            signal.drop()
        self._readers.drop(slot)
        self._free.append(slot)

    def _progress(self) -> Progress:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        device = self._device_waited / elapsed
        readers = max(self._readers.num_processes, 1)
        needed = int(np.ceil(readers / max(1 - device, 0.01)))
        return Progress(
            seconds=self._seconds,
            expected=self._expected,
            elapsed=elapsed,
            errors=self._num_errors,
            device_waited=device,
            audio_waited=self._readers.wait_share,
            missing_readers=needed - readers if device > 0.1 else 0,
        )


class _Active:
    """An item in work, in a slot."""

    def __init__(self, work: shard_work.ShardWork, index: int):
        self.work, self.index = work, index
        self.reply: reader_pool.Reply | None = None  # the first
        self.signals: list[_SignalInWork] = []
        self.is_read = False


class _SignalInWork:
    """A signal on its way through the encoder.

    Attributes:
      is_done: whether all its codes were taken.
    """

    def __init__(self, codec: encodec_hk.Codec, runner: scheduler.Scheduler):
        framing = codec.framing
        self._samples_of_frame: float = framing.hop
        if framing.has_segments:  # which overlap
            self._samples_of_frame = framing.stride / framing.segment_frames
        self._count = self._frames = 0
        self._parts: list[items.Codes] = []
        self._encoder: items.ItemEncoder | None = None
        self._pieces: list[np.ndarray] = []
        if not codec.takes_whole_items:
            self._encoder = items.ItemEncoder(runner, framing, codec.model_config.normalize)
        self.is_done = False

    @property
    def num_waiting(self) -> float:
        """Samples that were pushed, and whose codes were not taken."""
        return 0 if self._encoder is None else self._count - self._frames * self._samples_of_frame

    def push(self, samples: np.ndarray) -> None:
        """Add samples, float32 [n, C]."""
        self._count += len(samples)
        if self._encoder is None:
            self._pieces.append(samples)
        else:
            self._encoder.push(samples)

    def end(self, codec: encodec_hk.Codec, num_codebooks: int) -> None:
        """End the signal. A model that takes whole items encodes it here."""
        if self._encoder is not None:
            self._encoder.end()
            return
        audio = np.concatenate(self._pieces)
        self._pieces.clear()
        encoded = codec.encode([audio], num_codebooks=num_codebooks)
        scales = None if encoded.scales is None else encoded.scales[0]
        self._parts, self.is_done = [items.Codes(encoded.codes[0], scales)], True

    def collect(self) -> None:
        """Take the codes that are ready."""
        if self._encoder is None or self.is_done:
            return
        parts = self._encoder.take()
        self._frames += sum(part.codes.shape[1] for part in parts)
        self._parts += [part._replace(codes=part.codes.astype(np.int16)) for part in parts]
        self.is_done = self._encoder.is_done

    def result(self) -> row_cuts.Signal:
        """Return the codes."""
        codes = np.concatenate([part.codes for part in self._parts], axis=1)
        scales = [part.scales for part in self._parts if part.scales is not None]
        return row_cuts.Signal(codes, np.concatenate(scales) if scales else None, self._count)

    def drop(self) -> None:
        """Discard the signal."""
        if self._encoder is not None:
            self._encoder.drop()


class _NoWriter:
    """Writes nothing."""

    def put(self, work: shard_work.ShardWork) -> None:
        """Do nothing."""


class _Writer:
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

    def __enter__(self) -> _Writer:
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

    def settle(self, limit: int) -> None:
        """Settle what is written; wait until at most `limit` shards wait."""
        while self._futures and (len(self._futures) > limit or self._futures[0].done()):
            self._settle(self._futures.pop(0).result())

    def _write(self, work: shard_work.ShardWork) -> ShardResult:
        errors = work.item_errors()
        if work.failure is None:
            for attempt in range(_WRITE_TRIES):
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
                    if attempt < _WRITE_TRIES - 1 and error.errno != errno.EROFS:
                        time.sleep(_WRITE_PAUSE * (attempt + 1))
        self._files.write_failure(work.shard, work.failure or "", errors)
        return ShardResult(work.shard, None, errors, work.failure)
