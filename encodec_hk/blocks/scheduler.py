"""Rows of any lengths through a computation on blocks of fixed shapes.

`run` takes rows that are there: they take turns in the places of a block, when one ends, the next
takes its place. `Stream` takes rows as they come. So neither the memory nor the number of compiled
programs grows with the rows' number or lengths.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

Step = Callable[[Any, np.ndarray, np.ndarray, np.ndarray], tuple[Any, jax.Array | np.ndarray]]


def run(
    step: Step, state: Any, rows: Sequence[np.ndarray], *, size: int, batch: int, lag: int = 0
) -> list[np.ndarray]:
    """Runs rows through blocks, the longest first so that few places stay empty at the end.

    Args:
      step: (state, block [batch, size, ...], num_valid int32 [batch], is_last bool [batch]) ->
        (state, outputs [batch, M, ...]), where n valid steps give ceil(n * M / size) outputs.
      state: of `batch` rows that have not begun.
      rows: arrays [n, ...] of any n >= 1, equal in all else.
      size: steps of a block.
      batch: rows of a block.
      lag: outputs that come before a row's first; its last come in blocks after its end, which
        have no valid steps.

    Returns:
      The outputs of each row, numpy arrays [ceil(n * M / size), ...].
    """
    waiting = collections.deque(sorted(range(len(rows)), key=lambda index: -len(rows[index])))
    places: list[tuple[int, int] | None] = [None] * batch  # a row, and its steps before this block
    parts: list[list[np.ndarray]] = [[] for _ in rows]
    pending: collections.deque[tuple[jax.Array | np.ndarray, list[tuple[int, int, int]]]] = (
        collections.deque()
    )

    def collect() -> None:
        outputs, taken = pending.popleft()
        values = np.asarray(outputs)
        for place, index, _ in taken:
            parts[index].append(values[place].copy())  # and not the whole block

    def outputs_of(row: np.ndarray, per_block: int) -> int:
        return -(-len(row) * per_block // size)

    while True:
        for place in range(batch):
            if places[place] is None and waiting:
                places[place] = (waiting.popleft(), 0)
        if not any(places):
            break
        block = np.zeros((batch, size, *rows[0].shape[1:]), rows[0].dtype)
        num_valid = np.zeros(batch, np.int32)
        is_last = np.zeros(batch, bool)
        taken = []
        for place, current in enumerate(places):
            if current is None:
                continue
            index, start = current
            chunk = rows[index][start : start + size]
            block[place, : len(chunk)] = chunk
            num_valid[place] = len(chunk)
            is_last[place] = start + size >= len(rows[index])
            taken.append((place, index, start + size))
        state, outputs = step(state, block, num_valid, is_last)
        per_block = outputs.shape[1]
        for place, index, end in taken:
            is_out = end * per_block // size >= outputs_of(rows[index], per_block) + lag
            places[place] = None if is_out else (index, end)
        pending.append((outputs, taken))
        if len(pending) > 1:  # the next block computes while this one is taken apart
            collect()
    while pending:
        collect()
    return [
        np.concatenate(part)[lag : lag + outputs_of(row, per_block)]
        for row, part in zip(rows, parts, strict=True)
    ]


def places(num_rows: int, limit: int, num_devices: int = 1) -> int:
    """Rows of a block for num_rows rows: a power of two, so that few shapes are compiled.

    Args:
      num_rows: how many there are, or take turns.
      limit: rows of a block on one device, at most.
      num_devices: which share a block. Two rows and more have as many places on each of them; one
        alone is not spread with padding.
    """
    if num_rows == 1:
        return 1
    each = -(-num_rows // num_devices)
    return num_devices * max(1, min(limit, 1 << (each - 1).bit_length()))


def bucket(length: int, unit: int) -> int:
    """The least of 1, 2, 3, 4, 6, 8, 12, 16, ... units that holds `length` steps."""
    units = -(-length // unit)
    power = 1 << (units - 1).bit_length()
    return unit * (power * 3 // 4 if power >= 4 and units <= power * 3 // 4 else power)


class Queue:
    """Steps [n, ...] that wait, put in and taken in pieces of any size."""

    def __init__(self) -> None:
        self._parts: collections.deque[np.ndarray] = collections.deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, steps: np.ndarray) -> None:
        """Adds steps [n, ...], n >= 0; keeps the array itself."""
        if len(steps):
            self._parts.append(steps)
            self._size += len(steps)

    def look(self, size: int) -> list[np.ndarray]:
        """The first `size` steps, or all there are, as arrays that follow each other."""
        found, missing = [], size
        for part in self._parts:
            if missing <= 0:
                break
            found.append(part[:missing])
            missing -= len(found[-1])
        return found

    def drop(self, size: int) -> None:
        """Removes the first `size` steps, or all there are."""
        size = min(size, self._size)
        self._size -= size
        while size:
            part = self._parts.popleft()
            if len(part) > size:
                self._parts.appendleft(part[size:])
            size -= min(size, len(part))


class Stream:
    """Rows that come piece by piece, each at a pace of its own, through blocks with a state.

    A row begins with the first steps that are put in its place, and ends where `advance` is told
    so; then its place is as new.

    Attributes:
      batch: places.
    """

    def __init__(
        self,
        step: Step,
        state: Any,
        *,
        batch: int,
        sizes: Sequence[int],
        first: int,
        unit: int,
        gain: int,
        lag: int,
        like: np.ndarray,
    ):
        """Begins with empty places.

        Args:
          step: as of `run`; a row that goes on gets whole units, which give `gain` outputs each.
          state: of `batch` rows that have not begun.
          batch: rows of a block.
          sizes: units of the blocks, in rising order, the largest at least `first`. A row that
            goes on waits until it has what the smallest takes.
          first: units that the first block of a row needs, if the row goes on.
          unit: steps of a unit.
          gain: outputs of a unit.
          lag: as of `run`.
          like: an array [0, ...] of the type and shape of steps.
        """
        self.batch = batch
        self._step = step
        self._state = state
        self._sizes = tuple(sizes)
        self._first = first
        self._unit, self._gain, self._lag = unit, gain, lag
        self._like = like
        self._waiting = [Queue() for _ in range(batch)]
        self._given = np.zeros(batch, np.int64)  # steps of the row that have gone through
        self._made = np.zeros(batch, np.int64)  # outputs that came out, those of the lag too

    def put(self, place: int, steps: np.ndarray) -> None:
        """Adds steps [n, ...] to the row in a place."""
        self._waiting[place].put(steps)

    def advance(self, ends: Sequence[bool]) -> list[list[np.ndarray]]:
        """Runs all that can go through.

        Args:
          ends: of each place, whether its row ends with what was put there.

        Returns:
          Of each place, its row's new outputs as arrays [m, ...] that follow each other.
        """
        outputs: list[list[np.ndarray]] = [[] for _ in range(self.batch)]
        open_ends = [bool(end) and self._is_there(place) for place, end in enumerate(ends)]
        while True:
            ready = [self._ready(place, open_ends[place]) for place in range(self.batch)]
            wanted = max(-(-count // self._unit) for count in ready)
            late = [
                -(-(self._lag + self._length(place) - self._made[place]) // self._gain)
                for place in range(self.batch)
                if open_ends[place]
            ]
            wanted = max([wanted, *late])
            if not any(ready) and not any(open_ends):
                return outputs
            begins = any(count and not self._given[place] for place, count in enumerate(ready))
            size = self._size(wanted, self._first if begins else 1)
            self._block(size, ready, open_ends, outputs)

    def keep(self, places: Sequence[int]) -> None:
        """Keeps these places alone, in this order; what is in the others is dropped."""
        index = np.asarray(places)
        self._state = jax.tree.map(lambda leaf: _rows(leaf, index), self._state)
        self._waiting = [self._waiting[place] for place in places]
        self._given, self._made = self._given[index], self._made[index]
        self.batch = len(places)

    def warm_up(self) -> None:
        """Compiles for all sizes of blocks, so that no later call does."""
        none = np.zeros(self.batch, np.int32)
        for size in self._sizes:
            block = np.zeros(
                (self.batch, size * self._unit, *self._like.shape[1:]), self._like.dtype
            )
            jax.block_until_ready(self._step(self._state, block, none, none > 0))

    def _is_there(self, place: int) -> bool:
        return bool(self._given[place]) or len(self._waiting[place]) > 0

    def _length(self, place: int) -> int:
        """Outputs of the row in a place, if it ends with what was put there."""
        steps = self._given[place] + len(self._waiting[place])
        return -(-int(steps) // self._unit) * self._gain

    def _ready(self, place: int, ends: bool) -> int:
        """Steps that can go through."""
        count = len(self._waiting[place])
        if ends:
            return count
        whole = count // self._unit
        needed = self._sizes[0] if self._given[place] else max(self._first, self._sizes[0])
        return whole * self._unit if whole >= needed else 0

    def _size(self, wanted: int, least: int) -> int:
        """Units of the next block: the next size up if half of it is used, else the next down."""
        larger = [size for size in self._sizes if size >= max(wanted, least)]
        smaller = [size for size in self._sizes if least <= size <= wanted]
        if larger and (larger[0] <= 2 * wanted or not smaller):
            return larger[0]
        return smaller[-1]

    def _block(
        self,
        size: int,
        ready: Sequence[int],
        ends: list[bool],
        outputs: list[list[np.ndarray]],
    ) -> None:
        """Runs one block; takes back the ends of the rows that are out."""
        steps = size * self._unit
        block = np.zeros((self.batch, steps, *self._like.shape[1:]), self._like.dtype)
        num_valid = np.zeros(self.batch, np.int32)
        is_last = np.zeros(self.batch, bool)
        lengths = [self._length(place) for place in range(self.batch)]
        for place, count in enumerate(ready):
            queue = self._waiting[place]
            count = min(count, steps)
            at = 0
            for part in queue.look(count):
                block[place, at : at + len(part)] = part
                at += len(part)
            queue.drop(count)
            num_valid[place] = count
            is_last[place] = ends[place] and not len(queue)
        self._state, results = self._step(self._state, block, num_valid, is_last)
        values = np.asarray(results)
        for place in range(self.batch):
            count = int(num_valid[place])
            self._given[place] += count
            # A row that has ended goes on with padding until it is out.
            made = values.shape[1] if is_last[place] else -(-count // self._unit) * self._gain
            before = int(self._made[place])
            self._made[place] += made
            low = max(self._lag - before, 0)
            high = min(made, self._lag + lengths[place] - before)
            if low < high:
                outputs[place].append(values[place, low:high].copy())  # and not the whole block
            if is_last[place] and self._made[place] >= self._lag + lengths[place]:
                ends[place] = False
                self._given[place] = self._made[place] = 0


def _rows(leaf: jax.Array | np.ndarray, index: np.ndarray) -> jax.Array | np.ndarray:
    """Rows of a state's leaf, bound to a device if it is: a program is compiled for either."""
    rows = np.asarray(leaf)[index]
    if isinstance(leaf, jax.Array) and leaf.committed and len(leaf.devices()) == 1:
        return jax.device_put(rows, leaf.sharding)
    return rows
