"""Differentiable spectrograms.

Shapes: B items, T samples, C audio channels, N frames of a spectrogram, W samples of a window.
"""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np


def stft(audio: jax.Array, window_length: int) -> jax.Array:
    """Return the normalised short-time Fourier transform of every channel.

    Periodic Hann windows start every quarter of a window. There is no padding; samples after the
    last whole window are ignored. The result is divided by the root of the window's energy, as in
    torchaudio's `Spectrogram(normalized=True, center=False)`.

    Args:
      audio: [B, T, C], T at least `window_length`.
      window_length: W, a multiple of 4.

    Returns:
      complex64 [B, C, N, W / 2 + 1], with N = (T - W) // (W / 4) + 1.

    Raises:
      ValueError: if window_length is not allowed.
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
