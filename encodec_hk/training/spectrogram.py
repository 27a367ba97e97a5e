"""Spectrograms that gradients go through.

Shapes: B rows, T samples, C audio channels, N frames of a spectrogram, W samples of a window.
"""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np


def stft(audio: jax.Array, window_length: int) -> jax.Array:
    """The normalised short-time Fourier transform of every channel.

    Hann windows (periodic), a quarter of a window apart, with no padding at the ends, divided by
    the root of the window's energy: what torchaudio's `Spectrogram` of `normalized=True` and
    `center=False` gives. Samples after the last whole window are left out.

    Args:
      audio: [B, T, C], T at least `window_length`.
      window_length: W, a multiple of 4.

    Returns:
      complex64 [B, C, N, W / 2 + 1], with N = (T - W) // (W / 4) + 1.
    """
    chex.assert_rank(audio, 3)
    batch, steps, channels = audio.shape
    if window_length % 4 or steps < window_length:
        raise ValueError(
            f"window_length: got {window_length} for {steps} samples, must be a multiple of 4 and "
            "no longer than the audio"
        )
    hop = window_length // 4
    frames = steps // hop - 3
    quarters = jnp.swapaxes(audio, 1, 2)[..., : (frames + 3) * hop]
    quarters = quarters.reshape(batch, channels, frames + 3, hop)
    windows = jnp.concatenate([quarters[:, :, i : i + frames] for i in range(4)], axis=-1)
    return jnp.fft.rfft(windows * _window(window_length))


def mel_filters(sample_rate: int, window_length: int, num_mels: int) -> np.ndarray:
    """Triangular filters on the HTK mel scale, float32 [W / 2 + 1, num_mels].

    Filters go from 0 Hz to half the sample rate and have a peak of 1, as torchaudio's default.
    Where there are more filters than bins, some have no bin, and are zero.
    """
    return _mel_filters(sample_rate, window_length, num_mels).copy()


@functools.cache
def _mel_filters(sample_rate: int, window_length: int, num_mels: int) -> np.ndarray:
    def mel(hertz: np.ndarray) -> np.ndarray:
        return 2595 * np.log10(1 + hertz / 700)

    bins = np.linspace(0, sample_rate / 2, window_length // 2 + 1)
    edges = 700 * (10 ** (np.linspace(0, mel(np.array(sample_rate / 2)), num_mels + 2) / 2595) - 1)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (peak - low)
    falling = (high - bins[:, None]) / (high - peak)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


@functools.cache
def _window(window_length: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    return (window / np.sqrt(np.sum(window**2))).astype(np.float32)
