"""Vocos, a decoder of spectra (arXiv 2306.00814, Section 3), as `vocos` 0.1.0 computes it.

    latents -> convolution, norm -> ConvNeXt blocks -> norm, magnitude and phase -> inverse STFT

All layers but the last have the frame rate. The norms have a scale and an offset for each of some
bandwidths. The blocks are those of `convnext`, the last layer is in `fourier_head`.

Shapes: B rows, F frames of a block, D latent channels, C channels, T = F * hop samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import chex
import haiku as hk
import jax
import jax.numpy as jnp

from encodec_hk.networks import block_rows
from encodec_hk.networks import convnext
from encodec_hk.networks import convolution
from encodec_hk.networks import fourier_head
from encodec_hk.networks import layer_norm

State = Any
FourierLayer: TypeAlias = "Embedding | convnext.ConvNeXt | fourier_head.FourierHead"


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


class Vocos(hk.Module):
    """Latents to audio, hop samples for each.

    Attributes:
      dim, intermediate: channels, and those within a block.
      num_layers: blocks.
      kernel_size: of all convolutions.
      head: "polar" or "complex", how values of spectra are made.
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
        head: str,
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
        self.head = head
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
        blocks = convnext.blocks(
            self.num_layers,
            intermediate=self.intermediate,
            causal=self.settings.causal,
            **common,
        )
        return [
            Embedding(dim=self.dim, settings=self.settings, name="embed", **common),
            *blocks,
            fourier_head.FourierHead(values=self.head, hop=self.hop, n_fft=self.n_fft, name="head"),
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
        return block_rows.in_order(self.layers(num_codebooks), x, rows, state)
