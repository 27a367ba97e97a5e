"""Spectrograms as small PNG images, on one scale for all renditions of a file.

Shapes: T samples, C channels, N columns of pixels, M rows of pixels.
"""

from __future__ import annotations

import io

import numpy as np

from encodec_hk.sound import spectra
from encodec_hk.system import extras

_ROWS = 112
_COLUMNS = (64, 640)
_SECONDS = 0.01  # of a column, unless that is too many or too few columns
_WINDOW = 0.04  # seconds
_FRAMES = 8  # the most frames of a column: a long file is sampled
_LEVELS = 64  # colours: steps of 1.25 dB, and half the file size of 256

# From black over violet and orange to pale yellow: lightness grows evenly, so it reads the same in
# grey and to the colour blind.
_COLOURS = "000005 1b1145 4e1678 802780 b33879 e25267 f98762 fdc286 fbfbc4"


def decibels(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the power of samples [T, C] in mel bands, float32 dB [M, N], low bands first.

    Power is the mean over channels. Columns are spread evenly over the signal, so signals of one
    length have one time axis.
    """
    steps = len(samples)
    columns = int(np.clip(np.ceil(steps / sample_rate / _SECONDS), *_COLUMNS))
    frames = int(np.clip(np.ceil(steps / sample_rate / _SECONDS / columns), 1, _FRAMES))
    window = 2 * max(1, round(_WINDOW * sample_rate / 2))
    size = 4 << (window - 1).bit_length()  # zero-padded, so that no band is empty
    bands = spectra.mel_filters(sample_rate, size, _ROWS)
    bands = (bands / np.maximum(bands.sum(axis=0), 1e-9)).astype(np.float32)
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    shape *= 2 / np.sum(shape)  # a sine of full scale has 0 dB

    padded = np.pad(np.asarray(samples, np.float32), ((window // 2, window // 2), (0, 0)))
    starts = ((np.arange(columns * frames) + 0.5) * steps / (columns * frames)).astype(np.int64)
    power = np.zeros((columns, _ROWS), np.float32)
    block = 64  # columns: bounds the memory
    for first in range(0, columns, block):
        some = starts[first * frames : (first + block) * frames]
        for channel in range(padded.shape[1]):
            heard = padded[some[:, None] + np.arange(window), channel] * shape
            spectrum = np.fft.rfft(heard, size)
            energy = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ bands
            power[first : first + block] += energy.reshape(-1, frames, _ROWS).mean(axis=1)
    return 10 * np.log10(np.maximum(power.T / padded.shape[1], 1e-12))


def png(picture: np.ndarray, top: float) -> bytes:
    """Return a PNG of `decibels`, low bands at the bottom; `top` dB is brightest."""
    image = extras.require("PIL.Image", "evaluate")
    drawn = image.fromarray(spectra.levels(picture, top, _LEVELS))
    stops = np.frombuffer(bytes.fromhex(_COLOURS), np.uint8).reshape(-1, 3)
    at = np.linspace(0, len(stops) - 1, _LEVELS)
    palette = [np.interp(at, np.arange(len(stops)), channel) for channel in stops.T]
    drawn.putpalette(np.rint(np.stack(palette, axis=1)).astype(np.uint8).tobytes())
    file = io.BytesIO()
    drawn.save(file, "png", optimize=True)
    return file.getvalue()


def gradient() -> str:
    """Return the colours from dark to bright, as a CSS background."""
    return f"linear-gradient(to right, {', '.join(f'#{colour}' for colour in _COLOURS.split())})"


def ticks(sample_rate: int) -> list[tuple[str, float]]:
    """Return the labels of the frequency axis, each with its height from 0 (bottom) to 1."""
    top = np.log1p(sample_rate / 2 / 700)
    kilohertz = (0.5, 1, 2, 4, 8, 16)
    heights = [(f"{k:g} kHz", float(np.log1p(k * 1000 / 700) / top)) for k in kilohertz]
    return [(label, at) for label, at in heights if at < 0.97]
