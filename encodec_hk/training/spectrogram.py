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


@functools.cache
def _window(window_length: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    return (window / np.sqrt(np.sum(window**2))).astype(np.float32)
