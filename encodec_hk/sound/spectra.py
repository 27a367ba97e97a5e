"""Filters on the mel scale, and spectrograms as images."""

from __future__ import annotations

import numpy as np

RANGE = 80.0  # dB from the brightest level down to the darkest


def mel_filters(sample_rate: int, window_length: int, num_mels: int) -> np.ndarray:
    """Return triangular filters on the HTK mel scale, float64 [window_length / 2 + 1, num_mels].

    The filters span 0 Hz to half the sample rate; each has a peak of 1, as torchaudio's have by
    default. A filter that lies between two bins of the window is all zeros.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
    bins = np.linspace(0, sample_rate / 2, window_length // 2 + 1)[:, None]
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - low) / (peak - low)
    falling = (high - bins) / (high - peak)
    return np.maximum(0, np.minimum(rising, falling))


def levels(decibels: np.ndarray, top: float, num_levels: int = 256) -> np.ndarray:
    """Return a spectrogram as brightness, uint8 [rows, columns], low frequencies at the bottom.

    `decibels` are [rows, columns], low frequencies first. `top` dB become the brightest level,
    `num_levels - 1` (255 at most), and `RANGE` below it level 0.
    """
    shares = np.clip((decibels[::-1] - top) / RANGE + 1, 0, 1)
    return (shares * (num_levels - 1)).astype(np.uint8)
