"""Processes that read audio into shared memory, or the same in this process.

Every item in work has a slot, a buffer of a few seconds. A request fills it with the next samples
of the item; the reply says how many. So memory is bounded, and nothing waits for a queue:

    request(slot, item)   ->   reader process: opens, decodes, mixes, resamples   ->   reply
    request(slot)         ->   the next samples of the same item                  ->   reply
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from multiprocessing import connection
from multiprocessing import shared_memory
from typing import Any, Protocol

import numpy as np

from encodec_hk.system import child_processes
from encodec_hk.tokens import item_table
from encodec_hk.tokens import reader_slots
from encodec_hk.tokens import sound_sources

_FILES = 1000  # whose readers are known, of those with excerpts


class Readers(Protocol):
    """What reads items; see the module.

    Attributes:
      wait_share: share of the time that readers waited for requests.
      num_processes: that read.
    """

    num_processes: int

    @property
    def wait_share(self) -> float:
        """Share of the time that readers waited for requests."""

    def request(self, slot: int, item: item_table.AudioItem | None = None) -> None:
        """Ask for the next samples of a slot, or for the first of an item in it."""

    def replies(self, timeout: float) -> list[reader_slots.Reply]:
        """Return the replies that are there; wait for one at most `timeout` seconds."""

    def samples(self, reply: reader_slots.Reply) -> np.ndarray:
        """Return the samples of a reply, float32 [length, width], until the slot's next request."""

    def drop(self, slot: int) -> None:
        """End the item of a slot that has no open request."""

    def close(self) -> None:
        """End."""


class InlineReaders:
    """Reads in this process, when replies are asked for."""

    num_processes = 0
    wait_share = 0.0

    def __init__(self, settings: sound_sources.ReadSettings, slots: int, size: int):
        """Begin; see `ReaderPool`."""
        self._buffer = np.zeros((slots, size), np.float32)
        self._slots = reader_slots.ReaderSlots(settings, self._buffer)
        self._requests: collections.deque[tuple[int, item_table.AudioItem | None]] = (
            collections.deque()
        )

    def request(self, slot: int, item: item_table.AudioItem | None = None) -> None:
        """See `Readers`."""
        self._requests.append((slot, item))

    def replies(self, timeout: float) -> list[reader_slots.Reply]:
        """See `Readers`."""
        requests, self._requests = self._requests, collections.deque()
        return [self._slots.fill(*request) for request in requests]

    def samples(self, reply: reader_slots.Reply) -> np.ndarray:
        """See `Readers`."""
        return _samples(self._buffer, reply)

    def drop(self, slot: int) -> None:
        """See `Readers`."""
        self._slots.drop(slot)

    def close(self) -> None:
        """Close what is open."""
        self._slots.close()


class ReaderPool:
    """Reads in spawned processes: JAX's threads do not survive a fork.

    If a process dies, the items that it was reading have DIED, and another takes its place.
    """

    def __init__(
        self, settings: sound_sources.ReadSettings, slots: int, size: int, num_processes: int
    ):
        """Start the processes.

        Args:
          settings: how to read.
          slots: items in work.
          size: float32 values of a slot.
          num_processes: at least 1.
        """
        self.num_processes = num_processes
        self._settings = settings
        self._shape = slots, size
        self._memory = shared_memory.SharedMemory(create=True, size=4 * slots * size)
        self._buffer: np.ndarray = np.ndarray(self._shape, np.float32, self._memory.buf)
        self._readers = [self._start() for _ in range(num_processes)]
        self._of_slot: dict[int, _Reader] = {}
        self._of_file: dict[bytes, int] = {}  # numbers of readers, by path
        self._start_time = time.monotonic()

    @property
    def wait_share(self) -> float:
        """Share of the time that readers waited for requests."""
        elapsed = (time.monotonic() - self._start_time) * self.num_processes
        return min(sum(reader.waited for reader in self._readers) / max(elapsed, 1e-9), 1.0)

    def request(self, slot: int, item: item_table.AudioItem | None = None) -> None:
        """See `Readers`. One process reads a row group of a Parquet file, or a file's excerpts."""
        if item is not None:
            reader = self._readers[self._choose(item)]
            self._of_slot[slot] = reader
            reader.slots.add(slot)
        reader = self._of_slot[slot]
        with contextlib.suppress(OSError):  # it died: `replies` finds out
            reader.pipe.send((slot, item))

    def replies(self, timeout: float) -> list[reader_slots.Reply]:
        """See `Readers`."""
        pipes = {reader.pipe: reader for reader in self._readers}
        found = []
        for pipe in connection.wait(list(pipes), timeout):
            reader = pipes[pipe]  # type: ignore[index]
            try:
                while True:
                    reply, reader.waited = reader.pipe.recv()
                    if reply.is_last or reply.failure:
                        self._forget(reply.slot)
                    found.append(reply)
                    if not reader.pipe.poll():
                        break
            except (EOFError, OSError):
                found += self._replace(reader)
        return found

    def samples(self, reply: reader_slots.Reply) -> np.ndarray:
        """See `Readers`."""
        return _samples(self._buffer, reply)

    def drop(self, slot: int) -> None:
        """See `Readers`."""
        reader = self._of_slot.get(slot)
        if reader is not None:
            self._forget(slot)
            with contextlib.suppress(OSError):
                reader.pipe.send((slot, None, "drop"))

    def close(self) -> None:
        """Kill the processes and free the memory."""
        for reader in self._readers:
            reader.process.kill()
            reader.process.join()
            reader.pipe.close()
        self._readers.clear()
        del self._buffer
        with contextlib.suppress(BufferError):  # a view of samples may still be alive
            self._memory.close()
        self._memory.unlink()

    def _choose(self, item: item_table.AudioItem) -> int:
        """Return the number of the process to read an item."""
        if item.group >= 0:
            return item.group % len(self._readers)
        if item.duration is not None and item.path in self._of_file:
            return self._of_file[item.path]
        found = min(range(len(self._readers)), key=lambda at: len(self._readers[at].slots))
        if item.duration is not None:
            while len(self._of_file) >= _FILES:
                del self._of_file[next(iter(self._of_file))]
            self._of_file[item.path] = found
        return found

    def _forget(self, slot: int) -> None:
        reader = self._of_slot.pop(slot, None)
        if reader is not None:
            reader.slots.discard(slot)

    def _start(self) -> _Reader:
        context = multiprocessing.get_context("spawn")
        own, other = context.Pipe()
        arguments = (other, self._settings, self._memory.name, self._shape)
        process = context.Process(target=_read, args=arguments, daemon=True)
        with child_processes.settings():
            process.start()
        other.close()
        return _Reader(process, own)

    def _replace(self, reader: _Reader) -> list[reader_slots.Reply]:
        """Start another process for one that died; return replies for the items in its slots."""
        reader.process.join()
        code = reader.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        self._readers[self._readers.index(reader)] = self._start()
        slots = sorted(reader.slots)
        for slot in slots:
            self._of_slot.pop(slot, None)
        reader.pipe.close()
        message = f"the process that read it died ({how})"
        return [
            reader_slots.Reply(slot, failure=reader_slots.DIED, message=message) for slot in slots
        ]


class _Reader:
    """A process and what it has to do."""

    def __init__(self, process: Any, pipe: connection.Connection):
        self.process, self.pipe = process, pipe
        self.slots: set[int] = set()  # of the items that it reads
        self.waited = 0.0  # seconds


def _read(
    pipe: connection.Connection,
    settings: sound_sources.ReadSettings,
    memory: str,
    shape: tuple[int, int],
) -> None:
    """Answer requests until the other end of the pipe is closed."""
    with open(os.devnull, "wb") as nowhere:  # libmpg123 prints what it repairs
        os.dup2(nowhere.fileno(), 2)
    shared = shared_memory.SharedMemory(memory)
    buffer: np.ndarray = np.ndarray(shape, np.float32, shared.buf)
    slots = reader_slots.ReaderSlots(settings, buffer)
    waited = 0.0
    while True:
        start = time.monotonic()
        try:
            slot, item, *drop = pipe.recv()
        except EOFError:
            break
        waited += time.monotonic() - start
        if drop:
            slots.drop(slot)
            continue
        try:
            pipe.send((slots.fill(slot, item), waited))
        except OSError:
            break
    os._exit(0)  # without a destructor of a view into the memory


def slot_size(slots: int, wanted: int, least: int) -> int:
    """Return the float32 values of a slot, fewer than `wanted` where shared memory is short.

    Raises:
      ValueError: if there is not enough for `least`.
    """
    free = _free_shared_memory()
    size = min(wanted, free // 2 // 4 // slots)
    if size < least:
        raise ValueError(
            f"shared memory: {free / 2**20:.0f} MB are free in /dev/shm, "
            f"{8 * least * slots / 2**20:.0f} are needed; use --readers=0, fewer places "
            "(--config.inference.batch_size), or more memory (docker run --shm-size)"
        )
    return size


def _free_shared_memory() -> int:
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:
        return 2**40  # no such folder: the system has another way


def _samples(buffer: np.ndarray, reply: reader_slots.Reply) -> np.ndarray:
    return buffer[reply.slot, : reply.length * reply.width].reshape(reply.length, reply.width)


@contextlib.contextmanager
def opened(
    settings: sound_sources.ReadSettings, slots: int, size: int, num_processes: int
) -> Iterator[Readers]:
    """Open readers for a context: `num_processes` processes, or this one for 0."""
    readers: Readers
    if num_processes:
        readers = ReaderPool(settings, slots, size, num_processes)
    else:
        readers = InlineReaders(settings, slots, size)
    try:
        yield readers
    finally:
        readers.close()
