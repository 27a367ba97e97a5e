"""Differentiable spectrograms.

Shapes: B items, T samples, C audio channels, N frames of a spectrogram, W samples of a window.
"""

from __future__ import annotations

import functools
import operator

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
    return jnp.fft.rfft(_windows(audio, window_length))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def power(audio: jax.Array, window_length: int) -> jax.Array:
    """Return |stft(audio)|^2, float32 [B, C, N, W / 2 + 1]; see `stft`.

    The gradient is one inverse transform of the frames. JAX would take a complex transform, and one
    product for each of the real and the imaginary part.
    """
    return _power_forward(audio, window_length)[0]


def _power_forward(
    audio: jax.Array, window_length: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    z = stft(audio, window_length)
    return jnp.square(z.real) + jnp.square(z.imag), (z, audio)


def _power_backward(
    window_length: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array]:
    z, audio = saved
    # irfft counts every bin twice, for its negative frequency too, but the first and the last.
    factors = np.full(window_length // 2 + 1, window_length, np.float32)
    factors[[0, -1]] *= 2
    frames = jnp.fft.irfft(z * (gradient * factors), window_length) * _window(window_length)
    batch, channels, count, _ = frames.shape
    hop = window_length // 4
    total = functools.reduce(
        operator.add,
        [
            jnp.pad(frames[..., i * hop : (i + 1) * hop], ((0, 0), (0, 0), (i, 3 - i), (0, 0)))
            for i in range(4)
        ],
    )
    total = total.reshape(batch, channels, (count + 3) * hop)
    rest = audio.shape[1] - total.shape[2]  # samples after the last whole window
    return (jnp.swapaxes(jnp.pad(total, ((0, 0), (0, 0), (0, rest))), 1, 2),)


power.defvjp(_power_forward, _power_backward)


def _windows(audio: jax.Array, window_length: int) -> jax.Array:
    """Return the windowed frames [B, C, N, W]."""
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
    return windows * _window(window_length)


@functools.cache
def _window(window_length: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)
    return (window / np.sqrt(np.sum(window**2))).astype(np.float32)
