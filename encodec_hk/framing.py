"""How a signal is divided into segments and frames. Arithmetic alone.

0        stride   length
segment 0      |==================|
segment 1               |==================|
segment 2                        |=======|        ends with the signal
"""

from __future__ import annotations

import sys
from typing import NamedTuple


class Framing(NamedTuple):
    """How a variant divides a signal into segments, each coded on its own, and these into frames.

    A signal exactly as long as one segment has two, because the second starts before the first
    ends: Meta's encoder cuts like this. A variant without segments has one segment of any length.

    Attributes:
      length: samples of a segment.
      stride: samples from the start of a segment to the start of the next.
      hop: samples of a frame.
    """

    length: int
    stride: int
    hop: int

    @classmethod
    def undivided(cls, hop: int) -> Framing:
        """Return the framing of a variant without segments."""
        return cls(sys.maxsize, sys.maxsize, hop)

    @property
    def has_segments(self) -> bool:
        """Whether signals are cut into segments."""
        return self.length < sys.maxsize

    @property
    def segment_frames(self) -> int:
        """Frames of a segment of full length."""
        return -(-self.length // self.hop)

    def num_segments(self, num_samples: int) -> int:
        """Return the number of segments of a signal of `num_samples` samples."""
        return -(-num_samples // self.stride)

    def num_full(self, num_samples: int) -> int:
        """Return the number of segments of full length; those after them are shorter."""
        return max(0, (num_samples - self.length) // self.stride + 1)

    def frames_of(self, segment: int, num_samples: int) -> int:
        """Return the frames of one segment of a signal of `num_samples` samples."""
        return max(0, -(-min(self.length, num_samples - segment * self.stride) // self.hop))

    def frames(self, num_samples: int) -> list[int]:
        """Return the frames of every segment of a signal of `num_samples` samples."""
        return [
            self.frames_of(index, num_samples) for index in range(self.num_segments(num_samples))
        ]

    def num_frames(self, num_samples: int) -> int:
        """Return the frames of all segments together, without listing them."""
        full = self.num_full(num_samples)
        shorter = range(full, self.num_segments(num_samples))
        return full * self.segment_frames + sum(self.frames_of(i, num_samples) for i in shorter)

    def is_full(self, num_frames: int) -> bool:
        """Return whether a signal of at least `num_frames` frames has a full first segment.

        A signal of fewer frames may end within its first segment.
        """
        return num_frames > self.num_frames((self.segment_frames - 1) * self.hop)

    def longest(self, num_frames: int) -> int:
        """Return the samples of the longest signal of `num_frames` frames; 0 if there is none."""
        low, high = 0, num_frames * self.hop  # frames never fall with length, each a hop at most
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.num_frames(middle) <= num_frames
            low, high = (middle, high) if fits else (low, middle - 1)
        return low if self.num_frames(low) == num_frames else 0
