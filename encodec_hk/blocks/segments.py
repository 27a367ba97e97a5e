"""Normalisation and overlap-add of segments.

The 48 kHz model encodes segments of 1 s that start every 0.99 s, each divided by its own scale, and
joins the decoded segments with linear fades (Section 3.1 of arXiv 2210.13438). `Framing` says where
they lie.

Shapes: T samples, C channels, N samples of a segment. All in numpy, on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np


def rms_scale(audio: Any, xp: ModuleType = np) -> Any:
    """Return the scale [...] of audio [..., T, C]: 1e-8 plus the RMS of the mean of its channels.

    Args:
      audio: an array of `xp`.
      xp: numpy, or jax.numpy in training.
    """
    mono = xp.mean(audio, axis=-1)
    return 1e-8 + xp.sqrt(xp.mean(xp.square(mono), axis=-1))


def normalize(segment: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Divide a segment [N, C] by its `rms_scale`; return the result and the scale."""
    scale = np.float32(rms_scale(segment.astype(np.float64)))  # squares may overflow in float32
    return segment / scale, scale


class OverlapAdd:
    """Joins segments [N, C], one every `stride` samples, as they come.

    Weights rise and fall linearly over the length of the first segment and are divided by their
    sum; a shorter segment has the start of that triangle. The result ends where the segment that
    ends last does. For some lengths that is the last segment but one (at 48 kHz, 47520 k + r
    samples with k >= 1 and 161 <= r <= 320); Meta's decoder fails there.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._weight = np.zeros((0, 1), np.float32)  # of the first segment
        self._total = self._weights = self._weight  # from the start of the last segment on

    def push(self, segment: np.ndarray) -> np.ndarray:
        """Add the next segment; return the samples before its start that were not returned yet."""
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
        """Return the samples from the start of the last segment on."""
        return self._total / self._weights


def _add(total: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sum of two arrays that start together, as long as the longer one."""
    longer = np.zeros((max(len(total), len(values)), values.shape[1]), np.float32)
    longer[: len(total)] = total
    longer[: len(values)] += values
    return longer


def overlap_add(segments: Sequence[np.ndarray], stride: int) -> np.ndarray:
    """Join segments [N, C] to float32 [T, C]; see `OverlapAdd`."""
    joined = OverlapAdd(stride)
    return np.concatenate([*map(joined.push, segments), joined.finish()])
