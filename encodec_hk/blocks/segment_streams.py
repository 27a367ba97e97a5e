"""Streams of variants that are cut into segments: each segment is a row, whole in its block.

Shapes: N samples or F frames of a segment, C channels, K codebooks.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from encodec_hk.blocks import scheduler
from encodec_hk.blocks import segments


class Codes(NamedTuple):
    """Codes that follow each other; of a variant that is cut into segments, those of one.

    Attributes:
      codes: int32 [K, F].
      scale: the segment's; None where the variant does not normalise.
    """

    codes: np.ndarray
    scale: np.float32 | None = None


class _Rows:
    """A block with a segment in each place, and the steps that wait for theirs."""

    def __init__(self, step: scheduler.Step, size: int, batch: int, like: np.ndarray) -> None:
        self._step = step
        self._size = size
        self._like = like
        self._waiting = [scheduler.Queue() for _ in range(batch)]

    def put(self, place: int, steps: np.ndarray) -> None:
        """Adds steps [n, ...] to the row in a place."""
        self._waiting[place].put(steps)

    def keep(self, places: Sequence[int]) -> None:
        """Keeps these places alone, in this order."""
        self._waiting = [self._waiting[place] for place in places]

    def drop(self, place: int) -> None:
        """Drops the row in a place, which is as new then."""
        self._waiting[place] = scheduler.Queue()

    def warm_up(self) -> None:
        """Compiles the block, so that no later call does."""
        self._run({})

    def _run(self, rows: dict[int, np.ndarray]) -> np.ndarray:
        """Runs whole rows, each in its place."""
        batch = len(self._waiting)
        block = np.zeros((batch, self._size, *self._like.shape[1:]), self._like.dtype)
        num_valid = np.zeros(batch, np.int32)
        for place, row in rows.items():
            block[place, : len(row)] = row
            num_valid[place] = len(row)
        _, outputs = self._step(None, block, num_valid, np.ones(batch, bool))
        return np.asarray(outputs)

    def _look(self, place: int, size: int) -> np.ndarray:
        return np.concatenate([self._like, *self._waiting[place].look(size)])


class Encoder(_Rows):
    """Audio of several streams to the codes of their segments."""

    def __init__(
        self,
        step: scheduler.Step,
        framing: segments.Framing,
        batch: int,
        channels: int,
        normalize: bool,
    ) -> None:
        like = np.zeros((0, channels), np.float32)
        frames = -(-framing.length // framing.hop)
        super().__init__(step, frames * framing.hop, batch, like)
        self._framing = framing
        self._normalize = normalize

    def advance(self, ends: Sequence[bool]) -> list[list[Codes]]:
        """Runs all segments that are there, of a stream that ends the last ones too."""
        outputs: list[list[Codes]] = [[] for _ in ends]
        while True:
            rows, scales = {}, {}
            for place, queue in enumerate(self._waiting):
                if len(queue) >= (1 if ends[place] else self._framing.length):
                    rows[place] = self._look(place, self._framing.length)
                    queue.drop(self._framing.stride)
                    if self._normalize:
                        rows[place], scales[place] = segments.normalize(rows[place])
            if not rows:
                return outputs
            codes = self._run(rows)
            for place, row in rows.items():
                own = codes[place, : -(-len(row) // self._framing.hop)].T
                outputs[place].append(Codes(own.copy(), scales.get(place)))


class Decoder(_Rows):
    """Codes of several streams to their audio, the segments joined by overlap-add."""

    def __init__(
        self, step: scheduler.Step, framing: segments.Framing, batch: int, like: np.ndarray
    ) -> None:
        self._frames = -(-framing.length // framing.hop)  # of a full segment
        super().__init__(step, self._frames, batch, like)
        self._framing = framing
        self._scales: list[collections.deque[np.float32]] = [
            collections.deque() for _ in range(batch)
        ]
        self._joins = [segments.OverlapAdd(framing.stride) for _ in range(batch)]
        self._done = [0] * batch  # segments of each row

    def put_scales(self, place: int, scales: np.ndarray) -> None:
        """Adds the scales of the next segments."""
        self._scales[place].extend(scales)

    def keep(self, places: Sequence[int]) -> None:
        """Keeps these places alone, in this order."""
        super().keep(places)
        self._scales = [self._scales[place] for place in places]
        self._joins = [self._joins[place] for place in places]
        self._done = [self._done[place] for place in places]

    def drop(self, place: int) -> None:
        """Drops the row in a place, which is as new then."""
        super().drop(place)
        self._scales[place].clear()
        self._joins[place] = segments.OverlapAdd(self._framing.stride)
        self._done[place] = 0

    def advance(self, lengths: Sequence[int | None]) -> list[list[np.ndarray]]:
        """Runs all segments that are there.

        Args:
          lengths: of each stream its samples in all if it ends, else None.

        Returns:
          Of each stream, its new samples up to where the next segment may begin; of one that ends,
          the rest.
        """
        outputs: list[list[np.ndarray]] = [[] for _ in lengths]
        sizes = [
            None if length is None else self._framing.frames(length)[done:]
            for length, done in zip(lengths, self._done, strict=True)
        ]
        while True:
            rows = {}
            for place, queue in enumerate(self._waiting):
                own = sizes[place]
                size = 0
                if own is None:
                    size = self._frames if self._framing.is_full(len(queue)) else 0
                elif own:
                    size = own.pop(0)
                if size:
                    rows[place] = self._look(place, size)
                    queue.drop(size)
                    self._done[place] += 1
            if not rows:
                break
            audio = self._run(rows)
            for place, row in rows.items():
                samples = audio[place, : len(row) * self._framing.hop]
                scales = self._scales[place]
                if scales:
                    samples = samples * scales.popleft()
                outputs[place].append(self._joins[place].push(samples))
        for place, length in enumerate(lengths):
            if length is not None:
                if self._done[place]:
                    outputs[place].append(self._joins[place].finish())
                self.drop(place)
        return outputs
