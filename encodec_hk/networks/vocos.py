"""Vocos, a decoder of spectra (arXiv 2306.00814, Section 3), as `vocos` 0.1.0 computes it.

    latents -> convolution, norm -> ConvNeXt blocks -> norm, magnitude and phase -> inverse STFT

All layers but the last have the frame rate. Convolutions pad with zeros at their own level: what
lies outside a row is zero to each of them. The norms have a scale and an offset for each of some
bandwidths.

Layers map (x, rows, state) as those of `seanet` do. A convolution that is not causal looks
`config.VOCOS_KERNEL // 2` frames ahead, and the output of a stream lags by as many. The windows of
the inverse STFT overlap:

    frame 0   |--------|--------|--------|--------|          n_fft = 4 hops
    frame 1            |--------|--------|--------|--------|
    audio                  |------ 0 -----|------ 1 -----|   from (n_fft - hop) / 2 on

so its output lags by (n_fft - hop) / 2 samples.

Shapes: B rows, F frames of a block, D latent channels, C channels, T = F * hop samples.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import padding

State = Any
FourierLayer: TypeAlias = "Embedding | ConvNeXt | FourierHead"

_EPSILON = 1e-6  # of the norms
_LARGEST = 100.0  # magnitude of a spectrum
_TINY = 1e-9  # of a squared window: less lies outside the audio
_INIT = hk.initializers.TruncatedNormal(0.02)


class AdaptiveNorm(hk.Module):
    """A layer norm over the channels, with a scale and an offset for each of several bandwidths.

    Attributes:
      num_norms: bandwidths.
    """

    def __init__(self, *, num_norms: int, name: str | None = None):
        super().__init__(name=name)
        self.num_norms = num_norms

    def __call__(self, x: jax.Array, norm: int | jax.Array) -> jax.Array:
        """Normalise x [B, F, C] with the parameters of one of the bandwidths."""
        shape = (self.num_norms, x.shape[-1])
        scale = hk.get_parameter("scale", shape, x.dtype, jnp.ones)
        offset = hk.get_parameter("offset", shape, x.dtype, jnp.zeros)
        # Of numpy's arrays a traced number cannot choose.
        scale, offset = jnp.asarray(scale)[norm], jnp.asarray(offset)[norm]
        if scale.ndim == 2:  # a norm for each row
            scale, offset = scale[:, None], offset[:, None]
        return _normalized(x) * scale + offset


class DepthwiseConv(hk.Module):
    """A convolution of each channel by itself, padded with zeros.

    It is a sum over the taps: XLA's convolution takes a CPU many times longer for single channels.

    Attributes:
      kernel_size: steps (odd).
      causal: whether all padding is on the left.
    """

    def __init__(self, *, kernel_size: int, causal: bool, name: str | None = None):
        super().__init__(name=name)
        self.kernel_size = kernel_size
        self.right = 0 if causal else kernel_size // 2

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Convolve x [B, F, C] -> [B, F, C], where the rows lie in it, and the next state."""
        _, frames, channels = x.shape
        w = hk.get_parameter("w", (self.kernel_size, channels), x.dtype, _INIT)
        b = hk.get_parameter("b", (channels,), x.dtype, jnp.zeros)
        padded, state, lag = padding.pad_block(
            x,
            rows,
            state,
            left=self.kernel_size - 1 - self.right,
            right=self.right,
            stride=1,
            mode="constant",
        )
        taps = (padded[:, tap : tap + frames] * w[tap] for tap in range(self.kernel_size))
        return functools.reduce(operator.add, taps) + b, rows.downsampled(1, lag), state


class Embedding(hk.Module):
    """The first layer: a convolution from the latents to the decoder's channels, and a norm.

    Attributes:
      dim: C.
      kernel_size: of the convolution.
      norm, num_norms: which norm to use, of how many.
      settings: of the convolution.
    """

    def __init__(
        self,
        *,
        dim: int,
        kernel_size: int,
        norm: int | jax.Array,
        num_norms: int,
        settings: convolution.ConvSettings,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.dim = dim
        self.kernel_size = kernel_size
        self.norm = norm
        self.num_norms = num_norms
        self.settings = settings

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map x [B, F, D] -> [B, F, C], where the rows lie in it, and the next state."""
        conv = convolution.Conv(
            channels=self.dim,
            kernel_size=self.kernel_size,
            activate=False,
            settings=self.settings,
            name="conv",
        )
        x, rows, state = conv(x, rows, state)
        return AdaptiveNorm(num_norms=self.num_norms, name="norm")(x, self.norm), rows, state


class ConvNeXt(hk.Module):
    """A block: depthwise convolution, norm, two products with GELU between, plus the shortcut.

    Attributes:
      intermediate: channels between the two products.
      gain: of the branch when its parameters are fresh.
      kernel_size, causal: of the convolution.
      norm, num_norms: which norm to use, of how many.
    """

    def __init__(
        self,
        *,
        intermediate: int,
        gain: float,
        kernel_size: int,
        causal: bool,
        norm: int | jax.Array,
        num_norms: int,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.intermediate = intermediate
        self.gain = gain
        self.kernel_size = kernel_size
        self.causal = causal
        self.norm = norm
        self.num_norms = num_norms

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map x [B, F, C] -> [B, F, C], where the rows lie in it, and the next state."""
        channels = x.shape[-1]
        before = {"depthwise": None, "delay": None} if state is None else state
        depthwise = DepthwiseConv(
            kernel_size=self.kernel_size, causal=self.causal, name="depthwise"
        )
        y, rows_after, context = depthwise(x, rows, before["depthwise"])
        state = {"depthwise": context}
        y = AdaptiveNorm(num_norms=self.num_norms, name="norm")(y, self.norm)
        y = hk.Linear(self.intermediate, w_init=_INIT, name="linear_0")(y)
        y = jax.nn.gelu(y, approximate=False)
        y = hk.Linear(channels, w_init=_INIT, name="linear_1")(y)
        gamma = hk.get_parameter("gamma", (channels,), x.dtype, hk.initializers.Constant(self.gain))
        if lag := rows_after.lag - rows.lag:
            x, state["delay"] = block_rows.delay(x, rows, before["delay"], lag)
        return x + gamma * y, rows_after, state


class FourierHead(hk.Module):
    """The last layer: a norm, a product to magnitudes and phases, and the inverse STFT.

    Attributes:
      hop: samples of a frame.
      n_fft: samples of a window, a multiple of the hop.
    """

    def __init__(self, *, hop: int, n_fft: int, name: str | None = None):
        super().__init__(name=name)
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
        x = _normalized(x) * scale + offset
        x = hk.Linear(self.n_fft + 2, w_init=_INIT, name="linear")(x)
        magnitude, phase = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        magnitude = jnp.minimum(jnp.exp(magnitude), _LARGEST)
        spectrum = jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase))
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


class Vocos(hk.Module):
    """Latents to audio, hop samples for each.

    Attributes:
      dim, intermediate: channels, and those within a block.
      num_layers: blocks.
      kernel_size: of all convolutions.
      hop, n_fft: as in `FourierHead`.
      norms: for 1, 2, ... codebooks, which norm their codes take, numbered from 0.
      num_norms: how many norms there are.
      settings: of the convolutions.
    """

    def __init__(
        self,
        *,
        dim: int,
        intermediate: int,
        num_layers: int,
        kernel_size: int,
        hop: int,
        n_fft: int,
        norms: Sequence[int],
        num_norms: int,
        settings: convolution.ConvSettings,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.dim = dim
        self.intermediate = intermediate
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        self.hop = hop
        self.n_fft = n_fft
        self.norms = tuple(norms)
        self.num_norms = num_norms
        self.settings = settings

    @hk.name_like("__call__")
    def layers(self, num_codebooks: int | jax.Array | None = None) -> list[FourierLayer]:
        """Return the layers, from the latents to the audio; `num_codebooks` as in a call."""
        count = len(self.norms) if num_codebooks is None else num_codebooks
        # Not an integer where it is traced, or a dimension without a number, as in exports.
        is_known = isinstance(count, int)
        norm = self.norms[count - 1] if is_known else jnp.array(self.norms)[jnp.asarray(count) - 1]
        common: dict[str, Any] = {
            **{"kernel_size": self.kernel_size, "norm": norm, "num_norms": self.num_norms}
        }
        blocks = [
            ConvNeXt(
                intermediate=self.intermediate,
                gain=1 / self.num_layers,
                causal=self.settings.causal,
                name=f"block_{index}",
                **common,
            )
            for index in range(self.num_layers)
        ]
        return [
            Embedding(dim=self.dim, settings=self.settings, name="embed", **common),
            *blocks,
            FourierHead(hop=self.hop, n_fft=self.n_fft, name="head"),
        ]

    def __call__(
        self,
        x: jax.Array,
        rows: block_rows.Rows,
        state: dict[str, State] | None = None,
        *,
        num_codebooks: int | jax.Array | None = None,
    ) -> tuple[jax.Array, block_rows.Rows, dict[str, State]]:
        """Map latents [B, F, D] -> audio [B, T, 1], where the rows lie in it, and the next state.

        Args:
          x: the latents.
          rows: where the rows lie in it.
          state: what the layers keep from block to block; None if every row starts in this one.
          num_codebooks: of the latents, which chooses the norms, of all rows or of each [B]; it may
            be traced. None for all.
        """
        chex.assert_rank(x, 3)
        next_state = {}
        for layer in self.layers(num_codebooks):
            before = None if state is None else state[layer.name]
            x, rows, next_state[layer.name] = layer(x, rows, before)
        return x, rows, next_state


def _normalized(x: jax.Array) -> jax.Array:
    """Return x [B, F, C] with mean 0 and variance 1 over its channels."""
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + _EPSILON)


@functools.cache
def _hann(size: int) -> np.ndarray:
    """Return the periodic Hann window, float32 [size]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
