"""Sounds of the page: 16 bit FLAC, and the low-pass anchor of the listening test.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile

ANCHOR_HERTZ = 3500.0  # the low-quality anchor of ITU-R BS.1534-3, Section 5.1
_STOP_HERTZ = 4000.0
_STOP_DECIBELS = 60.0  # BS.1534 asks for 25 here, 50 at 4.5 kHz, and a passband ripple of 0.1 dB


def flac(samples: np.ndarray, sample_rate: int) -> bytes:
    """Return a FLAC file of float samples [T, C], clipped and rounded to 16 bits."""
    steps = np.clip(np.rint(np.asarray(samples, np.float64) * 2**15), -(2**15), 2**15 - 1)
    file = io.BytesIO()
    soundfile.write(file, steps.astype(np.int16), sample_rate, subtype="PCM_16", format="FLAC")
    return file.getvalue()


def anchor(samples: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """Return samples [T, C] low-passed at 3.5 kHz, without delay.

    Returns None if the sample rate is too low for the filter to remove anything.
    """
    if sample_rate <= 2 * _STOP_HERTZ:
        return None
    taps = _low_pass(sample_rate)
    steps, middle = len(samples), len(taps) // 2
    size = 1 << (steps + len(taps) - 2).bit_length()
    spectrum = np.fft.rfft(samples, size, axis=0) * np.fft.rfft(taps, size)[:, None]
    filtered = np.fft.irfft(spectrum, size, axis=0)[middle : middle + steps]
    return filtered.astype(np.float32)


def _low_pass(sample_rate: int) -> np.ndarray:
    """Return a Kaiser-windowed sinc of odd length, with its cutoff between pass and stop band."""
    width = 2 * np.pi * (_STOP_HERTZ - ANCHOR_HERTZ) / sample_rate
    half = int(np.ceil((_STOP_DECIBELS - 7.95) / (2.285 * width) / 2))
    cutoff = (ANCHOR_HERTZ + _STOP_HERTZ) / sample_rate  # of half the rate
    taps = cutoff * np.sinc(cutoff * np.arange(-half, half + 1))
    taps *= np.kaiser(2 * half + 1, 0.1102 * (_STOP_DECIBELS - 8.7))
    return taps / np.sum(taps)
