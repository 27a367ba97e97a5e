"""Items on their way through a codec: cut into segments if the variant has them, and joined again.

Everything that encodes or decodes, whole arrays, live streams and files, does it with these two.

Shapes: n samples, F frames, C channels, K codebooks, S segments.
"""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np

from encodec_hk.blocks import scheduler
from encodec_hk.blocks import segments
from encodec_hk.blocks import step_queue
from encodec_hk.framing import Framing


class Codes(NamedTuple):
    """Consecutive codes of one item.

    Attributes:
      codes: int32 [K, F].
      scales: float32 [S], of the segments in them; None if the variant does not normalise.
    """

    codes: np.ndarray
    scales: np.ndarray | None = None


class ItemEncoder:
    """Encodes one item, audio to codes."""

    def __init__(self, runner: scheduler.Scheduler, framing: Framing, normalize: bool):
        """Begin an item.

        Args:
          runner: runs the rows, of other items too.
          framing: of the variant.
          normalize: whether each segment is divided by its scale.
        """
        self._runner = runner
        self._framing = framing
        self._normalize = normalize
        self._waiting = step_queue.StepQueue()  # samples of the next segments
        self._rows: collections.deque[tuple[scheduler.Row, np.ndarray | None]] = collections.deque()
        self._has_ended = False

    def push(self, samples: np.ndarray) -> None:
        """Add samples, float32 [n, C]. They must not change afterwards."""
        if self._framing.has_segments:
            self._waiting.put(samples)
            while len(self._waiting) >= self._framing.length:
                self._begin_segment()
        elif len(samples):
            if not self._rows:
                self._rows.append((self._runner.open(), None))
            self._rows[0][0].put(samples)

    def end(self) -> None:
        """End the item with the samples added so far."""
        while len(self._waiting):
            self._begin_segment()
        for row, _ in self._rows:
            row.end()
        self._has_ended = True

    def drop(self) -> None:
        """End the item where it is and discard its codes."""
        for row, _ in self._rows:
            row.drop()
        self._rows.clear()
        self._has_ended = True

    def take(self) -> list[Codes]:
        """Return the codes that are ready, in order; each segment is an entry of its own."""
        found = []
        while self._rows:
            row, scale = self._rows[0]
            found += [Codes(codes, scale) for codes in row.take()]
            if not row.is_done:
                break
            self._rows.popleft()
        return found

    @property
    def is_done(self) -> bool:
        """Whether the item has ended and all its codes were taken."""
        return self._has_ended and not self._rows

    def _begin_segment(self) -> None:
        segment = np.concatenate(self._waiting.look(self._framing.length))
        self._waiting.drop(self._framing.stride)
        scale = None
        if self._normalize:
            segment, own = segments.normalize(segment)
            scale = np.array([own])
        row = self._runner.open()
        row.put(segment)
        row.end()
        self._rows.append((row, scale))


class ItemDecoder:
    """Decodes one item, codes to audio.

    Attributes:
      num_frames: frames that were pushed.
    """

    def __init__(
        self,
        runner: scheduler.Scheduler,
        framing: Framing,
        channels: int,
        *,
        hold_back: bool = True,
    ):
        """Begin an item.

        Args:
          runner: runs the rows, of other items too.
          framing: of the variant.
          channels: C.
          hold_back: keep the last hop - 1 samples, which may not belong to the item, until more
            codes come or the item ends. Segments overlap by more than that in any case.
        """
        self.num_frames = 0
        self._runner = runner
        self._framing = framing
        self._num_held = framing.hop - 1 if hold_back and not framing.has_segments else 0
        self._waiting = step_queue.StepQueue(axis=1)  # codes of the next segments
        self._scales: collections.deque[np.float32] = collections.deque()
        self._rows: collections.deque[tuple[scheduler.Row, np.float32 | None]] = collections.deque()
        self._num_segments = 0
        self._overlap = segments.OverlapAdd(framing.stride) if framing.has_segments else None
        self._held = np.zeros((0, channels), np.float32)
        self._num_given = 0
        self._length: int | None = None  # samples of the item, known at its end

    def push(self, codes: np.ndarray, scales: np.ndarray | None = None) -> None:
        """Add codes, int32 [K, F], which must not change afterwards.

        Args:
          codes: the next codes.
          scales: float32 [S], of the next segments without one. A segment decoded before it has a
            scale has the scale 1.
        """
        self.num_frames += codes.shape[1]
        if scales is not None:
            self._scales.extend(scales)
        if self._framing.has_segments:
            self._waiting.put(codes)
            while self._framing.is_full(len(self._waiting)):
                self._begin_segment(self._framing.segment_frames)
        elif codes.shape[1]:
            if not self._rows:
                self._rows.append((self._runner.open(), None))
            self._rows[0][0].put(codes)

    def length_of_end(self, num_samples: int | None, name: str) -> int:
        """Return the samples of the item if it ends now.

        Args:
          num_samples: what the caller says; None for as many as the frames hold.
          name: of `num_samples` in messages.

        Raises:
          ValueError: so many samples have another number of frames, or more were given already.
        """
        frames = self.num_frames
        if num_samples is None:
            num_samples = self._framing.longest(frames)
        own = self._framing.num_frames(num_samples)
        if own != frames:
            raise ValueError(f"{name}: got {num_samples}, which have {own} frames, not {frames}")
        if num_samples < self._num_given:
            raise ValueError(
                f"{name}: got {num_samples}, but {self._num_given} came out already; a stream with "
                "hold_back=True can end so"
            )
        return num_samples

    def end(self, num_samples: int) -> None:
        """End the item, which has `num_samples` samples; see `length_of_end`."""
        self._length = num_samples
        if self._framing.has_segments:
            for frames in self._framing.frames(num_samples)[self._num_segments :]:
                self._begin_segment(frames)
        for row, _ in self._rows:
            row.end()

    def drop(self) -> None:
        """End the item where it is and discard its audio."""
        for row, _ in self._rows:
            row.drop()
        self._rows.clear()
        self._length, self._overlap, self._held = self._num_given, None, self._held[:0]

    def take(self) -> np.ndarray:
        """Return the samples that are ready, float32 [n, C]."""
        parts = [self._held]
        while self._rows:
            row, scale = self._rows[0]
            for samples in row.take():
                if scale is not None:
                    samples = samples * scale
                parts.append(samples if self._overlap is None else self._overlap.push(samples))
            if not row.is_done:
                break
            self._rows.popleft()
        if self.is_done and self._overlap is not None and self._num_segments:
            parts.append(self._overlap.finish())
            self._overlap = None
        samples = np.concatenate(parts)
        if self._length is not None and not self._rows:
            ready, self._held = self._length - self._num_given, samples[:0]
        else:
            ready = max(len(samples) - self._num_held, 0)
            self._held = samples[ready:]
        self._num_given += ready
        return samples[:ready]

    @property
    def is_done(self) -> bool:
        """Whether the item has ended and all its samples were taken."""
        return self._length is not None and not self._rows

    def _begin_segment(self, frames: int) -> None:
        row = self._runner.open()
        row.put(np.concatenate(self._waiting.take(frames), axis=1))
        row.end()
        self._rows.append((row, self._scales.popleft() if self._scales else None))
        self._num_segments += 1
