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


def overlap_add(segments: Sequence[np.ndarray], stride: int) -> np.ndarray:
    """Joins segments [N, C], one every `stride` samples -> [T, C] float32.

    Weights rise and fall linearly over the first segment's length, and are divided by their sum; a
    shorter segment takes the start of that triangle. T is the end of the segment that ends last.
    For some lengths that is the last but one (at 48 kHz, 47520 k + r samples with k >= 1 and
    161 <= r <= 320), where Meta's decoder fails.
    """
    time = np.linspace(0.0, 1.0, len(segments[0]) + 2, dtype=np.float32)[1:-1, None]
    weight = np.float32(0.5) - np.abs(time - np.float32(0.5))
    ends = [stride * index + len(segment) for index, segment in enumerate(segments)]
    total = np.zeros((max(ends), segments[0].shape[1]), np.float32)
    weights = np.zeros((max(ends), 1), np.float32)
    for segment, end in zip(segments, ends, strict=True):
        part = slice(end - len(segment), end)
        total[part] += weight[: len(segment)] * segment
        weights[part] += weight[: len(segment)]
    return total / weights
