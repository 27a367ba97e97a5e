"""The last layer of a decoder of spectra: spectra from channels, and the inverse STFT.

A value of a spectrum is made in one of two ways:

- "polar", as Vocos does: the logarithm of its magnitude, and its phase.
- "complex": the logarithm of a gain, and a complex number. No phase has to be found, which would
  jump from frame to frame, so it learns waveforms sooner.

The windows overlap:

    frame 0   |--------|--------|--------|--------|          n_fft = 4 hops
    frame 1            |--------|--------|--------|--------|
    audio                  |------ 0 -----|------ 1 -----|   from (n_fft - hop) / 2 on

so the output lags by (n_fft - hop) / 2 samples.

Shapes: B rows, F frames of a block, C channels, T = F * hop samples.
"""

from __future__ import annotations

import functools

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.networks import block_rows
from encodec_hk.networks import convnext
from encodec_hk.networks import layer_norm

_LARGEST = 100.0  # magnitude or gain
_TINY = 1e-9  # of a squared window: less lies outside the audio


class FourierHead(hk.Module):
    """The last layer: a norm, a product, values of spectra, and the inverse STFT.

    Attributes:
      values: "polar" or "complex".
      hop: samples of a frame.
      n_fft: samples of a window, a multiple of the hop.
    """

    def __init__(self, *, values: str, hop: int, n_fft: int, name: str | None = None):
        super().__init__(name=name)
        self.is_polar = values == "polar"
        self.hop = hop
        self.n_fft = n_fft
        self.trim = (n_fft - hop) // 2  # samples that are cut off at both ends of a row

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Map x [B, F, C].

        Returns:
          Audio [B, T, 1], where the rows lie in it, and the windows [B, n_fft / hop - 1, n_fft]
          that the next block adds to.
        """
        scale = hk.get_parameter("scale", x.shape[-1:], x.dtype, jnp.ones)
        offset = hk.get_parameter("offset", x.shape[-1:], x.dtype, jnp.zeros)
        x = layer_norm.normalized(x) * scale + offset
        parts = 2 if self.is_polar else 3
        x = hk.Linear(parts * (self.n_fft // 2 + 1), w_init=convnext.INIT, name="linear")(x)
        level, *waves = jnp.split(x.astype(jnp.float32), parts, axis=-1)
        if self.is_polar:
            waves = [jnp.cos(waves[0]), jnp.sin(waves[0])]
        gain = jnp.minimum(jnp.exp(level), _LARGEST)
        spectrum = jax.lax.complex(gain * waves[0], gain * waves[1])
        # A product with a matrix takes a CPU six times as long, and rounds more.
        windows = jnp.fft.irfft(spectrum, self.n_fft) * _hann(self.n_fft)
        y, state = self._overlap_add(windows, rows, state)
        # What is not cut off is a lag.
        rows = rows.upsampled(self.hop, 0 if rows.is_whole else self.trim)
        return y.astype(x.dtype)[..., None], rows, state

    def _overlap_add(
        self, windows: jax.Array, rows: block_rows.Rows, state: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Add windows [B, F, n_fft], one every hop, over their squares -> [B, T] and the state."""
        batch, frames, _ = windows.shape
        overlap = self.n_fft // self.hop
        before = overlap - 1
        if state is None:
            state = jnp.zeros((batch, before, self.n_fft), windows.dtype)
        if not rows.is_full:  # zeros lie before a row and after it
            state = jnp.where(rows.start[:, None, None] >= 0, 0.0, state)
            windows = jnp.where(rows.mask(frames), windows, 0.0)
        windows = jnp.concatenate([state, windows], axis=1)
        state = block_rows.time_slice(windows, rows.stop, before)
        after = -(-self.trim // self.hop) if rows.is_whole else 0
        windows = jnp.pad(windows, ((0, 0), (0, after), (0, 0)))
        # [B, F, hop] for each part of a window.
        parts = windows.reshape(batch, -1, overlap, self.hop)
        squares = np.square(_hann(self.n_fft)).reshape(overlap, self.hop)
        steps = jnp.arange(-before, frames + after)
        inside = (steps >= rows.start[:, None]) & (steps < rows.end[:, None])
        weights = inside[..., None].astype(windows.dtype)
        total = weight = jnp.zeros((), windows.dtype)
        for part in range(overlap):
            shifted = slice(before - part, before - part + frames + after)
            total += parts[:, shifted, part]
            weight += weights[:, shifted] * squares[part]
        y = (total / jnp.where(weight > _TINY, weight, 1.0)).reshape(batch, -1)
        if rows.is_whole:
            y = y[:, self.trim : self.trim + frames * self.hop]
        chex.assert_shape(y, (batch, frames * self.hop))
        return y, state


@functools.cache
def _hann(size: int) -> np.ndarray:
    """Return the periodic Hann window, float32 [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
