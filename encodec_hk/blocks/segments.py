"""Segments of variants that are not causal: cutting, normalisation, overlap-add.

The 48 kHz model codes segments of 1 s that start every 0.99 s, each divided by its own volume, and
joins what it decodes with linear fades (Section 3.1 of arXiv 2210.13438).

Shapes: T samples, C audio channels, S segments, N samples of a segment. All in numpy, on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Framing(NamedTuple):
    """How a variant cuts an item into rows that are coded each on its own, its segments.

    A signal as long as a segment has two, since the next starts before its end: as Meta's encoder
    cuts. Where nothing is cut, length and stride exceed any signal.

    Attributes:
      length: samples of a segment.
      stride: samples from the start of a segment to the start of the next.
      hop: samples of a frame.
    """

    length: int
    stride: int
    hop: int

    def cut(self, item: np.ndarray) -> list[np.ndarray]:
        """The segments of an item [T, C]."""
        starts = range(0, len(item), self.stride)
        return [item[start : start + self.length] for start in starts]

    def frames(self, num_samples: int) -> list[int]:
        """Frames of each segment of an item of num_samples samples."""
        starts = range(0, num_samples, self.stride)
        return [-(-min(self.length, num_samples - start) // self.hop) for start in starts]

    def is_full(self, num_frames: int) -> bool:
        """Whether the first segment of an item of at least num_frames frames has its full length.

        Else an item of so many frames may be one that ends within its first segment.
        """
        shorter = (-(-self.length // self.hop) - 1) * self.hop
        return num_frames > sum(self.frames(shorter))

    def longest(self, num_frames: int) -> int:
        """Samples of the longest item that has num_frames frames in all; 0 where none has.

        For codes that come without a length.
        """
        low, high = 0, num_frames * self.hop  # frames never fall, and hold at most a hop each
        while low < high:
            middle = (low + high + 1) // 2
            fits = sum(self.frames(middle)) <= num_frames
            low, high = (middle, high) if fits else (low, middle - 1)
        return low if sum(self.frames(low)) == num_frames else 0


def normalize(segment: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Divides a segment [N, C] by its scale, 1e-8 plus the RMS of the mean of its channels."""
    mono = segment.mean(axis=1, dtype=np.float64)  # its square overflows in float32
    scale = np.float32(1e-8 + np.sqrt(np.mean(np.square(mono))))
    return segment / scale, scale


class OverlapAdd:
    """Joins segments [N, C], one every `stride` samples, as they come -> float32 [T, C].

    Weights rise and fall linearly over the first segment's length, and are divided by their sum; a
    shorter segment takes the start of that triangle. T is the end of the segment that ends last.
    For some lengths that is the last but one (at 48 kHz, 47520 k + r samples with k >= 1 and
    161 <= r <= 320), where Meta's decoder fails.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._weight = np.zeros((0, 1), np.float32)  # of the first segment
        self._total = self._weights = self._weight  # from the start of the last segment on

    def push(self, segment: np.ndarray) -> np.ndarray:
        """Adds the next segment; gives what came before its start and was not given yet."""
        if not len(self._weight):
            time = np.linspace(0.0, 1.0, len(segment) + 2, dtype=np.float32)[1:-1, None]
            self._weight = np.float32(0.5) - np.abs(time - np.float32(0.5))
            self._total = np.zeros((0, segment.shape[1]), np.float32)
            done = self._total
        else:
            done = self._total[: self._stride] / self._weights[: self._stride]
            self._total, self._weights = self._total[self._stride :], self._weights[self._stride :]
        weight = self._weight[: len(segment)]
        self._total = _add(self._total, weight * segment)
        self._weights = _add(self._weights, weight)
        return done

    def finish(self) -> np.ndarray:
        """The samples from the start of the last segment on."""
        return self._total / self._weights


def _add(total: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The sum of two arrays that start together, as long as the longer one."""
    longer = np.zeros((max(len(total), len(values)), values.shape[1]), np.float32)
    longer[: len(total)] = total
    longer[: len(values)] += values
    return longer


def overlap_add(segments: Sequence[np.ndarray], stride: int) -> np.ndarray:
    """Joins segments [N, C] -> float32 [T, C]; see `OverlapAdd`."""
    joined = OverlapAdd(stride)
    return np.concatenate([*map(joined.push, segments), joined.finish()])
