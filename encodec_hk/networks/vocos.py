"""Vocos, a decoder of spectra (arXiv 2306.00814, Section 3), as `vocos` 0.1.0 computes it.

    latents -> convolution, norm -> ConvNeXt blocks -> norm, magnitude and phase -> inverse STFT

All layers but the last have the frame rate. Convolutions pad with zeros at their own level: what
lies outside a row is zero to each of them. The norms have a scale and an offset for each of some
bandwidths.

Layers map (x, rows, state) as those of `seanet` do. A convolution that is not causal looks
`config.VOCOS_KERNEL // 2` frames ahead, and the output of a stream lags by as many. The last layer
is in `fourier_head`.

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

from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import fourier_head
from encodec_hk.networks import layer_norm
from encodec_hk.networks import padding

State = Any
FourierLayer: TypeAlias = "Embedding | ConvNeXt | fourier_head.FourierHead"

_INIT = hk.initializers.TruncatedNormal(0.02)


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
        norm = layer_norm.AdaptiveNorm(num_norms=self.num_norms, name="norm")
        return norm(x, self.norm), rows, state


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
        y = layer_norm.AdaptiveNorm(num_norms=self.num_norms, name="norm")(y, self.norm)
        y = hk.Linear(self.intermediate, w_init=_INIT, name="linear_0")(y)
        y = jax.nn.gelu(y, approximate=False)
        y = hk.Linear(channels, w_init=_INIT, name="linear_1")(y)
        gamma = hk.get_parameter("gamma", (channels,), x.dtype, hk.initializers.Constant(self.gain))
        if lag := rows_after.lag - rows.lag:
            x, state["delay"] = block_rows.delay(x, rows, before["delay"], lag)
        return x + gamma * y, rows_after, state


class Vocos(hk.Module):
    """Latents to audio, hop samples for each.

    Attributes:
      dim, intermediate: channels, and those within a block.
      num_layers: blocks.
      kernel_size: of all convolutions.
      hop, n_fft: as in `fourier_head.FourierHead`.
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
            fourier_head.FourierHead(hop=self.hop, n_fft=self.n_fft, name="head"),
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
