"""The codec's networks as one Haiku module, made as a model config says.

Shapes: B rows, T samples of a block (a multiple of the hop), C audio channels, F = T / hop frames,
K codebooks in use, D latent channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from encodec_hk import config
from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import fourier_encoder
from encodec_hk.networks import kernels
from encodec_hk.networks import quantizer
from encodec_hk.networks import seanet
from encodec_hk.networks import vocos

State = Any
"""A pytree of arrays with a leading axis of B rows; None: every row is whole in its block."""
Carried = tuple[State, jax.Array]
Ends = jax.Array | None
"""num_valid, int32 [B], or is_last, bool [B]; None: every row fills its block."""


class EnCodec(hk.Module):
    """Encoder, quantiser and decoder over a block of rows.

    Attributes:
      encoder, decoder, quantizer: the networks.
      channels: C.
      hop: samples of a frame.
      takes_whole_rows: whether every row is whole in its block, as the norm demands.
    """

    def __init__(
        self,
        *,
        encoder: seanet.Encoder | fourier_encoder.FourierEncoder,
        decoder: seanet.Decoder | vocos.Vocos,
        quantizer: quantizer.ResidualVectorQuantizer,
        channels: int,
        hop: int,
        takes_whole_rows: bool,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.channels = channels
        self.hop = hop
        self.takes_whole_rows = takes_whole_rows

    def embed(self, state: State, audio: jax.Array, num_valid: Ends, is_last: Ends) -> Carried:
        """Map audio [B, T, C] to latents [B, F, D]."""
        chex.assert_axis_dimension(audio, 2, self.channels)
        chex.assert_is_divisible(audio.shape[1], self.hop)
        return _carry(self.encoder, state, audio, num_valid, is_last, self.hop)

    def encode(
        self,
        state: State,
        audio: jax.Array,
        num_valid: Ends,
        is_last: Ends,
        *,
        num_codebooks: int,
        energies: jax.Array | None = None,
    ) -> Carried:
        """Map audio [B, T, C] to codes [B, K, F]."""
        state, latents = self.embed(state, audio, num_valid, is_last)
        return state, self.quantizer.encode(latents, num_codebooks, energies)

    def synthesize(
        self,
        state: State,
        latents: jax.Array,
        num_valid: Ends,
        is_last: Ends,
        *,
        num_codebooks: int | jax.Array | None = None,
    ) -> Carried:
        """Map latents [B, F, D] to audio [B, T, C]."""
        decoder: Callable[..., Any] = self.decoder
        if isinstance(decoder, vocos.Vocos):
            decoder = functools.partial(decoder, num_codebooks=num_codebooks)
        return _carry(decoder, state, latents, num_valid, is_last, 1)

    def decode(self, state: State, codes: jax.Array, num_valid: Ends, is_last: Ends) -> Carried:
        """Map codes [B, K, F] to audio [B, T, C]."""
        latents, count = self.quantizer.decode(codes), codes.shape[1]
        return self.synthesize(state, latents, num_valid, is_last, num_codebooks=count)

    def layers(self, network: str) -> Sequence[Any]:
        """Return the layers of "encoder" or "decoder", in order."""
        return {"encoder": self.encoder, "decoder": self.decoder}[network].layers()

    def run_layer(self, x: jax.Array, start: jax.Array, *, network: str, index: int) -> jax.Array:
        """Run one layer of a network on x [B, T, C], rows that began at `start` and go on."""
        far, stop = jnp.full_like(start, block_rows.FAR), jnp.full_like(start, x.shape[1])
        rows = block_rows.Rows(start, far, stop, is_whole=self.takes_whole_rows)
        y, _, _ = self.layers(network)[index](x, rows, None)
        return y

    def run_all(self) -> None:
        """Run every network once, on silence, so that all parameters are made."""
        audio = jnp.zeros((1, self.hop, self.channels), jnp.float32)
        _, codes = self.encode(None, audio, None, None, num_codebooks=1)
        self.decode(None, codes, None, None)


def make(model_config: ml_collections.ConfigDict, convolve: kernels.Convolution) -> EnCodec:
    """Make the modules of a model config; within a transform."""
    names = (
        *("ratios", "num_filters", "kernel_size", "last_kernel_size", "num_residual_layers"),
        *("residual_kernel_size", "dilation_base", "compress", "shortcut", "num_lstm_layers"),
    )
    shared: dict[str, Any] = {name: model_config[name] for name in names}
    shared["conv"] = convolution.ConvSettings(
        causal=model_config.causal,
        norm=model_config.norm,
        pad_mode=model_config.pad_mode,
        convolve=convolve,
    )
    decoder: seanet.Decoder | vocos.Vocos
    if config.has_vocos(model_config):
        decoder = _vocos(model_config, convolve)
    else:
        decoder = seanet.Decoder(channels=model_config.channels, name="decoder", **shared)
    encoder: seanet.Encoder | fourier_encoder.FourierEncoder
    if config.has_fourier(model_config):
        encoder = _fourier_encoder(model_config)
    else:
        encoder = seanet.Encoder(latent_dim=model_config.latent_dim, name="encoder", **shared)
    return EnCodec(
        # Made here and not by EnCodec, so that their parameters have no prefix.
        encoder=encoder,
        decoder=decoder,
        quantizer=quantizer.ResidualVectorQuantizer(
            num_codebooks=model_config.num_codebooks,
            codebook_size=model_config.codebook_size,
            latent_dim=model_config.latent_dim,
            name="quantizer",
        ),
        channels=model_config.channels,
        hop=config.hop_length(model_config),
        takes_whole_rows=model_config.norm == "time_group_norm",
        name="encodec",
    )


def _fourier_encoder(model_config: ml_collections.ConfigDict) -> fourier_encoder.FourierEncoder:
    fields = model_config.fourier
    return fourier_encoder.FourierEncoder(
        dim=fields.dim,
        intermediate=fields.intermediate,
        num_layers=fields.num_layers,
        kernel_size=config.CONVNEXT_KERNEL,
        hop=config.hop_length(model_config),
        n_fft=fields.n_fft,
        causal=model_config.causal,
        latent_dim=model_config.latent_dim,
        name="encoder",
    )


def _vocos(model_config: ml_collections.ConfigDict, convolve: kernels.Convolution) -> vocos.Vocos:
    fields = model_config.vocos
    return vocos.Vocos(
        dim=fields.dim,
        intermediate=fields.intermediate,
        num_layers=fields.num_layers,
        kernel_size=config.CONVNEXT_KERNEL,
        head=fields.head,
        hop=config.hop_length(model_config),
        n_fft=fields.n_fft,
        norms=config.vocos_norms(model_config),
        num_norms=len(fields.bandwidths),
        settings=convolution.ConvSettings(
            causal=fields.causal, norm="none", pad_mode="constant", convolve=convolve
        ),
        name="decoder",
    )


def _carry(
    network: Callable[..., tuple[jax.Array, block_rows.Rows, State]],
    state: State,
    x: jax.Array,
    num_valid: Ends,
    is_last: Ends,
    hop: int,
) -> Carried:
    """Call a network on a block of x [B, T, C], `hop` steps a frame, and keep track of its rows."""
    batch, size, _ = x.shape
    if num_valid is None:
        y, _, _ = network(x, block_rows.Rows.full(batch, size))
        return None, y
    chex.assert_shape([num_valid, is_last], (batch,))
    if state is None:
        begin, stop = jnp.zeros_like(num_valid), jnp.full_like(num_valid, size)
        y, _, _ = network(x, block_rows.Rows(begin, num_valid, stop, is_whole=True))
        return None, y
    start, end = state["start"], state["end"]
    has_begun = (start < 0) | (num_valid > 0)
    end = jnp.where((end == block_rows.FAR) & is_last & has_begun, num_valid, end)
    # A row that has ended goes on with padding until all that lags behind is out.
    stop = jnp.where(end == block_rows.FAR, num_valid, size)
    y, rows, layers = network(x, block_rows.Rows(start, end, stop), state["layers"])
    is_out = rows.end <= rows.stop
    farthest = block_rows.FAR // 2 // hop * hop  # far enough, and whole hops away
    state = {
        "start": jnp.where(is_out, 0, jnp.maximum(start - stop, -farthest)),
        "end": jnp.where(is_out | (end == block_rows.FAR), block_rows.FAR, end - stop),
        "layers": layers,
    }
    return state, y
