"""Spectrograms as images."""

from __future__ import annotations

import numpy as np

RANGE = 80.0  # dB from the brightest level down to the darkest


def levels(decibels: np.ndarray, top: float, num_levels: int = 256) -> np.ndarray:
    """Return a spectrogram as brightness, uint8 [rows, columns], low frequencies at the bottom.

    Args:
      decibels: [rows, columns], low frequencies first.
      top: the decibels of the brightest level, `num_levels - 1`; `RANGE` below it is level 0.
      num_levels: number of levels, at most 256.
    """
    shares = np.clip((decibels[::-1] - top) / RANGE + 1, 0, 1)
    return (shares * (num_levels - 1)).astype(np.uint8)
