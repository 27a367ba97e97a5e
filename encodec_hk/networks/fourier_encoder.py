"""An encoder of spectra: the mirror image of a Vocos decoder.

    audio -> STFT -> levels and compressed waves, norm -> ConvNeXt blocks -> norm -> latents

All layers have the frame rate, so training hears more audio in a given time than with SEANet, whose
first layers have the sample rate (docs/training.md has figures). The blocks are those of
`convnext`; that a codec may encode spectra with them is from APCodec (arXiv 2402.10533).

A frame's window ends with the frame where the encoder is causal, and is around it otherwise:

    causal       |--------|--------|--------| frame  |          n_fft = 4 hops
    otherwise        |----|--------| frame  |--------|---|

Shapes: B rows, T samples of a block, F = T / hop frames, C channels, D latent channels.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.networks import block_rows
from encodec_hk.networks import convnext
from encodec_hk.networks import layer_norm
from encodec_hk.networks import padding

State = Any
FourierLayer: TypeAlias = "Spectra | convnext.ConvNeXt | Projection"

POWER_FLOOR = 1e-7
"""Added to every power. White noise of RMS r, at full scale 1, has a mean power of r ** 2."""
COMPRESSION, WAVE_SCALE = 0.5, 2.0
"""Magnitudes of the compressed waves are magnitudes to this power, times this scale."""
LEVEL_SCALE, LEVEL_OFFSET = 0.125, 0.7
"""Make logarithms of powers about as large as the compressed waves."""


class Spectra(hk.Module):
    """The first layer: audio to spectra, what the network sees of them, a product and a norm.

    It sees the level, log(power), of each frequency below half the sample rate, and the wave,
    real and imaginary part, of those below an eighth: phases above are beyond what codes hold, and
    would hide the others. Waves are compressed, so that weak ones count too.

    Attributes:
      dim: C.
      hop: samples of a frame.
      n_fft: samples of a window, a multiple of the hop.
      causal: whether the window ends with the frame.
    """

    def __init__(self, *, dim: int, hop: int, n_fft: int, causal: bool, name: str | None = None):
        super().__init__(name=name)
        self.dim = dim
        self.hop = hop
        self.n_fft = n_fft
        self.causal = causal
        self.right = 0 if causal else (n_fft - hop) // 2

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: jax.Array | None
    ) -> tuple[jax.Array, block_rows.Rows, jax.Array]:
        """Map audio x [B, T, 1] -> [B, F, C], where the rows lie in it, and the next state."""
        chex.assert_axis_dimension(x, 2, 1)
        batch, steps, _ = x.shape
        frames = steps // self.hop
        padded, state, lag = padding.pad_block(
            x,
            rows,
            state,
            left=self.n_fft - self.hop - self.right,
            right=self.right,
            stride=self.hop,
            mode="constant",
        )
        hops = padded.reshape(batch, -1, self.hop)
        parts = [hops[:, part : part + frames] for part in range(self.n_fft // self.hop)]
        windows = jnp.concatenate(parts, axis=-1).astype(jnp.float32)
        spectra = jnp.fft.rfft(windows * window(self.n_fft, self.hop, self.causal))
        y = hk.Linear(self.dim, w_init=convnext.INIT, name="linear")(_seen(spectra).astype(x.dtype))
        norm = layer_norm.AdaptiveNorm(num_norms=1, name="norm")
        return norm(y, 0), rows.downsampled(self.hop, lag), state


class Projection(hk.Module):
    """The last layer: a norm, and a product to the latents.

    Attributes:
      latent_dim: D.
    """

    def __init__(self, *, latent_dim: int, name: str | None = None):
        super().__init__(name=name)
        self.latent_dim = latent_dim

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: State
    ) -> tuple[jax.Array, block_rows.Rows, State]:
        """Map x [B, F, C] -> [B, F, D], where the rows lie in it, and the next state, none."""
        del state
        x = layer_norm.AdaptiveNorm(num_norms=1, name="norm")(x, 0)
        return hk.Linear(self.latent_dim, name="linear")(x), rows, None


class FourierEncoder(hk.Module):
    """Audio to latents, one for every hop samples.

    Attributes:
      dim, intermediate: channels, and those within a block.
      num_layers: blocks.
      kernel_size: of their convolutions.
      hop, n_fft, causal: as in `Spectra`; `causal` is of the convolutions too.
      latent_dim: D.
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
        causal: bool,
        latent_dim: int,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.dim = dim
        self.intermediate = intermediate
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        self.hop = hop
        self.n_fft = n_fft
        self.causal = causal
        self.latent_dim = latent_dim

    @hk.name_like("__call__")
    def layers(self) -> list[FourierLayer]:
        """Return the layers, from the audio to the latents."""
        blocks = convnext.blocks(
            self.num_layers,
            intermediate=self.intermediate,
            kernel_size=self.kernel_size,
            causal=self.causal,
            norm=0,
            num_norms=1,
        )
        spectra = Spectra(
            dim=self.dim, hop=self.hop, n_fft=self.n_fft, causal=self.causal, name="spectra"
        )
        return [spectra, *blocks, Projection(latent_dim=self.latent_dim, name="latents")]

    def __call__(
        self, x: jax.Array, rows: block_rows.Rows, state: dict[str, State] | None = None
    ) -> tuple[jax.Array, block_rows.Rows, dict[str, State]]:
        """Map audio [B, T, 1] -> latents [B, F, D], where the rows lie in it, and the state."""
        chex.assert_rank(x, 3)
        return block_rows.in_order(self.layers(), x, rows, state)


def _seen(spectra: jax.Array) -> jax.Array:
    """Return the levels and the compressed waves of spectra [B, F, n_fft / 2 + 1]."""
    count = spectra.shape[-1] - 1
    real, imaginary = jnp.real(spectra)[..., :count], jnp.imag(spectra)[..., :count]
    level = jnp.log(jnp.square(real) + jnp.square(imaginary) + POWER_FLOOR)
    gain = WAVE_SCALE * jnp.exp((COMPRESSION - 1) / 2 * level[..., : count // 4])
    waves = (part[..., : count // 4] * gain for part in (real, imaginary))
    return jnp.concatenate([LEVEL_SCALE * level + LEVEL_OFFSET, *waves], axis=-1)


@functools.cache
def window(n_fft: int, hop: int, causal: bool) -> np.ndarray:
    """Return a window of energy 1, float32 [n_fft].

    It is half of a Hann window that rises, and half of one that falls: that of a causal encoder
    falls over the newest frame alone.
    """
    fall = hop if causal else n_fft // 2

    def half(samples: int) -> np.ndarray:
        return 0.5 - 0.5 * np.cos(np.pi * (np.arange(samples) + 0.5) / samples)

    values = np.concatenate([half(n_fft - fall), half(fall)[::-1]])
    return (values / np.linalg.norm(values)).astype(np.float32)
