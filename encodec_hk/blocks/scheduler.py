"""Rows of any length through blocks of fixed shape.

A block has a fixed number of places. A row takes a free place when it is ready to run, keeps it
from block to block, and frees it when all its outputs are computed; the next row begins there:

    block      0    1    2    3    4
    place 0    a    a    a    d    d
    place 1    b    c    c    c    c        d waits until a is done

So neither memory nor the number of compiled programs grows with the number or length of rows.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from encodec_hk.blocks import step_queue
from encodec_hk.blocks.program import Program


class Row:
    """A row in a scheduler: put steps in, take outputs out. `Scheduler.open` makes it.

    Attributes:
      has_ended: whether `end` or `drop` was called.
    """

    def __init__(self, program: Program):
        self._program = program
        self._waiting = step_queue.StepQueue(program.steps_axis)
        self._num_given = 0  # steps that were dispatched
        self._num_made = 0  # outputs of the dispatched blocks, including those of the lag
        self._num_running = 0  # dispatched blocks whose outputs were not fetched
        self._outputs: list[np.ndarray] = []
        self._is_dropped = False
        self._is_out = False  # all blocks of the row were dispatched
        self.has_ended = False

    def put(self, steps: np.ndarray) -> None:
        """Add steps, [n, C] or [K, n], to the end of the row. They must not change afterwards."""
        self._waiting.put(steps)

    def end(self) -> None:
        """End the row with the steps added so far."""
        self.has_ended = True

    def drop(self) -> None:
        """End the row where it is and discard its outputs."""
        self._waiting.drop(len(self._waiting))
        self._outputs.clear()
        self._is_dropped = self.has_ended = True

    def take(self) -> list[np.ndarray]:
        """Return the outputs that were fetched since the last call, as consecutive arrays."""
        outputs, self._outputs = self._outputs, []
        return outputs

    @property
    def is_done(self) -> bool:
        """Whether the row has ended and every output was fetched."""
        is_empty = self.has_ended and not self._num_given and not len(self._waiting)
        return is_empty or (self._is_out and not self._num_running)

    @property
    def _num_outputs(self) -> int:
        """Outputs of the row if it ends with the steps added so far, including those of the lag."""
        steps = self._num_given + len(self._waiting)
        return self._program.lag + self._program.num_outputs(steps)

    def _num_ready(self, smallest: int) -> int:
        """Steps that can run now, in blocks of at least `smallest` units."""
        count, program = len(self._waiting), self._program
        if self.has_ended:
            return count
        if program.fresh_state is None:
            return 0
        units = count // program.unit
        needed = smallest if self._num_given else max(program.first, smallest)
        return units * program.unit if units >= needed else 0


class _Slice(NamedTuple):
    """The outputs of one row in a block, `start` to `stop` in its place."""

    row: Row
    place: int
    start: int
    stop: int


class Scheduler:
    """Runs rows through a program.

    Attributes:
      program: what runs.
    """

    def __init__(self, program: Program, *, places: int, sizes: Sequence[int]):
        """Begin with free places.

        Args:
          program: what runs.
          places: rows of a block.
          sizes: units of a block, in rising order, the largest at least `program.first`. A row that
            goes on waits until it has as much as the smallest.
        """
        self.program = program
        self._sizes = tuple(sizes)
        self._places: list[Row | None] = [None] * places
        self._queue: collections.deque[Row] = collections.deque()  # rows without a place
        self._state = self._fresh_state()
        self._running: collections.deque[tuple[Any, list[_Slice]]] = collections.deque()
        self._like = np.zeros(0)  # a piece of a row, for the shape and type of blocks

    def open(self) -> Row:
        """Return a new row, which takes a place as soon as one is free and it has enough steps."""
        row = Row(self.program)
        self._queue.append(row)
        return row

    def advance(self, *, wait: bool = False, at_most: int | None = None) -> None:
        """Run every block that can run.

        The outputs of the last block are fetched by the next call, so that the device computes
        while the caller prepares more; a call that finds nothing to run fetches them too.

        Args:
          wait: fetch the outputs of the last block at once.
          at_most: the number of blocks to run; None for all.
        """
        num_run = 0
        while num_run != at_most and self._dispatch():
            num_run += 1
            if len(self._running) > 1:
                self._fetch()
        while self._running and (wait or not num_run):
            self._fetch()

    @property
    def num_ready(self) -> int:
        """The rows that the next block would run."""
        self._seat()
        smallest = self._sizes[0]
        rows = [row for row in self._places if row is not None]
        return sum(row.has_ended or row._num_ready(smallest) > 0 for row in rows)

    @property
    def is_running(self) -> bool:
        """Whether there are blocks whose outputs were not fetched."""
        return bool(self._running)

    def shrink(self, places: int) -> None:
        """Keep only this many places, at least as many as there are rows in places."""
        index = sorted(range(len(self._places)), key=lambda at: self._places[at] is None)[:places]
        self._state = jax.tree.map(lambda leaf: _rows_of(leaf, np.array(index)), self._state)
        self._places = [self._places[at] for at in index]

    def warm_up(self, like: np.ndarray) -> None:
        """Compile blocks of all sizes, which takes seconds, so that no later call does.

        Args:
          like: a piece of a row, of any number of steps.
        """
        none = np.zeros(len(self._places), np.int32)
        for size in self._sizes:
            block = self.program.empty_block(len(none), size, like)
            jax.block_until_ready(self.program.step(self._fresh_state(), block, none, none > 0))

    def _fresh_state(self) -> Any:
        make = self.program.fresh_state
        return None if make is None else make(len(self._places))

    def _seat(self) -> None:
        """Give free places to the rows that are ready, in the order in which they were opened."""
        free = [place for place, row in enumerate(self._places) if row is None]
        not_ready = []
        while free and self._queue:
            row = self._queue.popleft()
            if row._num_ready(self._sizes[0]):
                self._places[free.pop(0)] = row
            elif not row.is_done:
                not_ready.append(row)
        self._queue.extendleft(reversed(not_ready))

    def _dispatch(self) -> bool:
        """Start the next block; return whether there was one."""
        self._seat()
        program, rows = self.program, self._places
        ready = [0 if row is None else row._num_ready(self._sizes[0]) for row in rows]
        ending = [row for row in rows if row is not None and row.has_ended]
        if not any(ready) and not ending:
            return False
        wanted = [-(-count // program.unit) for count in ready]
        wanted += [-(-(row._num_outputs - row._num_made) // program.gain) for row in ending]
        begins = any(
            row and count and not row._num_given for row, count in zip(rows, ready, strict=True)
        )
        size = self._size(max(wanted), program.first if begins else 1)
        totals = [0 if row is None else row._num_outputs for row in rows]
        block, num_valid = self._fill(size, ready)
        is_last = np.zeros(len(rows), bool)
        slices = []
        for place, row in enumerate(rows):
            if row is None:
                continue
            at, total = int(num_valid[place]), totals[place]
            is_last[place] = row.has_ended and not len(row._waiting)
            # A row that has ended goes on with padding until all its outputs are made.
            made = size * program.gain if is_last[place] else program.num_outputs(at)
            start = max(program.lag - row._num_made, 0)
            stop = min(made, total - row._num_made)
            row._num_given += at
            row._num_made += made
            if start < stop:
                row._num_running += 1
                slices.append(_Slice(row, place, start, stop))
            if is_last[place] and row._num_made >= total:
                row._is_out = True
                self._places[place] = None
        self._state, outputs = program.step(self._state, block, num_valid, is_last)
        self._running.append((outputs, slices))
        return True

    def _fill(self, size: int, ready: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Take the steps of the next block; return the block and the valid steps of each row."""
        axis = self.program.steps_axis
        pieces = [
            [] if row is None else row._waiting.take(min(count, size * self.program.unit))
            for row, count in zip(self._places, ready, strict=True)
        ]
        self._like = next((own[0] for own in pieces if own), self._like)
        block = self.program.empty_block(len(pieces), size, self._like)
        self._like = step_queue.cut(self._like, axis, 0, 0).copy()  # a view would keep the piece
        num_valid = np.zeros(len(pieces), np.int32)
        for place, own in enumerate(pieces):
            for piece in own:
                start = int(num_valid[place])
                num_valid[place] += piece.shape[axis]
                step_queue.cut(block[place], axis, start, int(num_valid[place]))[...] = piece
        return block, num_valid

    def _size(self, wanted: int, least: int) -> int:
        """Units of the next block: the next size up if half of it is used, else the next down."""
        larger = [size for size in self._sizes if size >= max(wanted, least)]
        smaller = [size for size in self._sizes if least <= size <= wanted]
        if larger and (larger[0] <= 2 * wanted or not smaller):
            return larger[0]
        return smaller[-1]

    def _fetch(self) -> None:
        """Wait for the oldest block and hand its outputs to their rows."""
        outputs, slices = self._running.popleft()
        values = np.asarray(outputs)
        for row, place, start, stop in slices:
            row._num_running -= 1
            if not row._is_dropped:
                own = step_queue.cut(values[place], self.program.outputs_axis, start, stop)
                row._outputs.append(own.copy())  # a view would keep the whole block


def places_for(num_rows: int, limit: int, num_devices: int = 1) -> int:
    """Return the places of a block for `num_rows` rows: a power of two, so that few are compiled.

    Args:
      num_rows: rows that run at the same time or take turns.
      limit: places on one device, at most.
      num_devices: devices that share a block. Two rows and more have as many places on each; a
        single row is not spread with padding.
    """
    if num_rows == 1:
        return 1
    each = -(-num_rows // num_devices)
    return num_devices * max(1, min(limit, 1 << (each - 1).bit_length()))


def bucket(length: int, unit: int) -> int:
    """Return the least of 1, 2, 3, 4, 6, 8, 12, 16, ... units that holds `length` steps."""
    units = -(-length // unit)
    power = 1 << (units - 1).bit_length()
    return unit * (power * 3 // 4 if power >= 4 and units <= power * 3 // 4 else power)


def _rows_of(leaf: jax.Array | np.ndarray, index: np.ndarray) -> jax.Array | np.ndarray:
    """Return rows of a state's leaf, on its device: a program is compiled for either."""
    rows = np.asarray(leaf)[index]
    if isinstance(leaf, jax.Array) and leaf.committed and len(leaf.devices()) == 1:
        return jax.device_put(rows, leaf.sharding)
    return rows
