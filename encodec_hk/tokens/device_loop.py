"""The loop that keeps the device busy: readers fill slots, a scheduler runs blocks, rows come out.

    readers -> slots -> encoders, in the places of one scheduler -> rows -> writer

An item keeps its slot until its rows are made. All blocks have one shape, so the bytes of rows do
not depend on what else is in work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import encodec_hk
from encodec_hk.sound import resampling
from encodec_hk.system import interruption
from encodec_hk.tokens import reader_pool
from encodec_hk.tokens import reader_slots
from encodec_hk.tokens import row_cuts
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import shard_writer
from encodec_hk.tokens import signal_encoder
from encodec_hk.tokens import work_log

BLOCKS_OF_SLOT = 8
_WAIT = 0.5  # seconds, at most, between two looks for an interruption
_LEAST_WAIT = 0.005  # seconds that places which have audio wait for the others
_SUSPECT = 2  # deaths of processes after which an item is tried alone, and then set aside
_MUCH = 0.1  # share of the time that the device may wait


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


def places_of(codec: encodec_hk.Codec) -> int:
    """Return the places of every block: the same for any number of items, so the same bytes."""
    return codec.batch_size * codec.num_devices


class Slots(NamedTuple):
    """The slots of readers.

    Attributes:
      number: items in work: twice the places, so that the next items are ready when places are.
      size: float32 values of each.
    """

    number: int
    size: int

    @classmethod
    def wanted(cls, codec: encodec_hk.Codec) -> Slots:
        """Return the slots that a codec makes good use of."""
        block = codec.block_frames * codec.hop_length * codec.channels
        return cls(2 * places_of(codec), BLOCKS_OF_SLOT * block)


class DeviceLoop:
    """Hands audio from readers to the device, and codes from there to a writer."""

    def __init__(
        self,
        codec: encodec_hk.Codec,
        readers: reader_pool.Readers,
        writer: shard_writer.ShardWriter | NoWriter,
        make_rows: row_cuts.RowMaker,
        *,
        num_codebooks: int,
        slots: Slots,
        is_split: bool,
        log: work_log.NoWorkLog,
        report: Callable[[Progress], None],
    ):
        """Prepare.

        Args:
          codec: the codec.
          readers: what reads items into slots.
          writer: takes the shards that are complete.
          make_rows: makes rows of codes.
          num_codebooks: K.
          slots: those of the readers.
          is_split: whether each channel of a source is a signal of its own.
          log: of what is in work.
          report: called with the progress after each block.
        """
        self._codec, self._num_codebooks = codec, num_codebooks
        self._readers, self._writer, self._rows = readers, writer, make_rows
        self._free = list(range(slots.number))
        self._places = places_of(codec)
        self._slot_size = slots.size
        self._is_split = is_split
        self._log = log
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
            self._writer.settle()
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
                if self._set_apart(work, index):
                    continue
            if work.failure is not None:
                continue
            slot = self._free.pop()
            self._active[slot] = _Active(work, index)
            self._log.begin(work.shard, work.items[index].id, is_alone=self._is_alone())
            self._readers.request(slot, work.items[index])
            self._requested.add(slot)

    def _set_apart(self, work: shard_work.ShardWork, index: int) -> bool:
        """Return whether an item does not begin now, as processes were killed while it ran."""
        deaths, alone = self._log.deaths(work.shard, work.items[index].id)
        if deaths < _SUSPECT or work.failure is not None:
            return False
        self._deaths[work.shard, index] = _SUSPECT
        if alone < _SUSPECT:
            self._suspects.append((work, index))
            return True
        work.put_error(index, f"{alone} processes died while it was alone in work")
        self._num_errors += 1
        self._put_if_ended(work)
        return True

    def _is_alone(self) -> bool:
        """Return whether the item in work is a suspect."""
        if not self._deaths:
            return False
        keys = [(active.work.shard, active.index) for active in self._active.values()]
        return any(self._deaths.get(key, 0) >= _SUSPECT for key in keys)

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

    def _push(self, slot: int, active: _Active, reply: reader_slots.Reply) -> None:
        """Hand the samples of a reply to the item's encoders."""
        codec = self._codec
        if active.reply is None:
            active.reply = reply
            count = reply.width if self._is_split else 1
            active.signals = [
                signal_encoder.SignalEncoder(codec, self._runner) for _ in range(count)
            ]
        samples = self._readers.samples(reply)
        for column, signal in enumerate(active.signals):
            own = samples[:, column : column + 1] if self._is_split else samples
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

    def _fail(self, slot: int, active: _Active, reply: reader_slots.Reply) -> None:
        """Settle an item without all its samples."""
        work, index = active.work, active.index
        for signal in active.signals:
            signal.drop()
        if reply.failure == reader_slots.DIED:
            count = self._deaths[work.shard, index] = self._deaths.get((work.shard, index), 0) + 1
            if count <= _SUSPECT:
                # Once may be bad luck; what was there twice is tried alone.
                (self._again if count < _SUSPECT else self._suspects).append((work, index))
                self._forget(slot)
                return
        if reply.failure == reader_slots.SKIPPED:
            work.skip()
        elif reply.failure == reader_slots.SYSTEM:
            work.failure = reply.message
        else:
            work.put_error(index, reply.message or "cannot be read")
            self._num_errors += 1
        self._end(slot, active)

    def _end(self, slot: int, active: _Active) -> None:
        """Free the slot of an item that has ended; write its shard if it was the last."""
        self._expected += active.work.items[active.index].seconds
        self._forget(slot)
        self._put_if_ended(active.work)

    def _put_if_ended(self, work: shard_work.ShardWork) -> None:
        if work.failure is not None or work.is_complete:
            self._writer.put(work)

    def _forget(self, slot: int) -> _Active:
        """Free a slot, and return what was in it."""
        active = self._active.pop(slot)
        self._log.end(active.work.shard, active.work.items[active.index].id)
        self._free.append(slot)
        return active

    def _drop(self, slot: int) -> None:
        """End an item of a shard that has failed."""
        for signal in self._forget(slot).signals:
            signal.drop()
        self._readers.drop(slot)

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
            missing_readers=needed - readers if device > _MUCH else 0,
        )


class _Active:
    """An item in work, in a slot."""

    def __init__(self, work: shard_work.ShardWork, index: int):
        self.work, self.index = work, index
        self.reply: reader_slots.Reply | None = None  # the first
        self.signals: list[signal_encoder.SignalEncoder] = []
        self.is_read = False


class NoWriter:
    """Writes nothing."""

    def put(self, work: shard_work.ShardWork) -> None:
        """Do nothing."""

    def settle(self) -> None:
        """Do nothing."""
