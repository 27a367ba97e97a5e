"""The codec's networks as pure functions of parameters and a carried state.

One block computation serves every use: whole files, batches, streams, and training.

    state, codes = model.encode_block(params, state, audio, num_valid, is_last, num_codebooks=8)
    state, audio = model.decode_block(params, state, codes, num_valid, is_last)

A block is B independent rows; `num_valid` counts the steps that belong to each, `is_last` says
whether the row ends with them. With state None, every row starts and ends in the block; with
num_valid and is_last None too, every row fills it, as crops do in training: fewer operations, and
fast gradients. With a state, at first that of `encoder_state`, rows go on from block to block:

- A row that goes on fills whole hops, and its first block holds at least
  `reach.minimum_first_blocks` of them.
- Networks that are not causal look ahead, so their output lags by `reach.lags`: that many frames
  (samples, of the decoder) come out before a row's first, and its last come out in blocks after
  its end, with num_valid 0. So does the output of `vocos`, causal or not.
- When all of a row is out, its place is as new, and can take another row.

Variants normalised over time (`time_group_norm`) take whole rows only.

Shapes: B rows, T samples of a block (a multiple of the hop), C audio channels, F = T / hop frames,
K codebooks in use, D latent channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.networks import block_rows
from encodec_hk.networks import convolution
from encodec_hk.networks import fourier_encoder
from encodec_hk.networks import kernels
from encodec_hk.networks import quantizer
from encodec_hk.networks import seanet
from encodec_hk.networks import vocos

Params = Mapping[str, Mapping[str, Any]]
State = Any
"""A pytree of arrays with a leading axis of B rows; None: every row is whole in its block."""
Carried = tuple[State, jax.Array]
Ends = jax.Array | None
"""num_valid, int32 [B], or is_last, bool [B]; None: every row fills its block."""


class Model(NamedTuple):
    """Pure functions of one variant's networks.

    Attributes:
      init: (rng key) -> params, drawn at random.
      param_shapes: () -> the shapes and types of the params, without making any.
      encode_block: (params, state, audio [B, T, C], num_valid [B] samples, is_last [B], *,
        num_codebooks, energies) -> (state, codes int32 [B, K, F]); a row has
        ceil(num_valid / hop) frames. Energies are optional, see `quantizer.encode`.
      decode_block: (params, state, codes [B, K, F], num_valid [B] frames, is_last [B]) ->
        (state, audio [B, T, C]); a row has num_valid * hop samples.
      embed_block: like encode_block, to the latents [B, F, D] before quantisation.
      synthesize_block: like decode_block, from latents [B, F, D] instead of codes; num_codebooks,
        an integer that may be traced, says of how many where the decoder asks (None: of all).
      layer_names: (network) -> the names of the layers of "encoder" or "decoder", in order.
      layer_block: (params, x [B, T, C], start int32 [B], *, network, index) -> the output of one of
        those layers, [B, T', C'], for rows that began at `start` and go on; to measure it alone.
      encoder_state, decoder_state: (B) -> the state of B rows that have not begun; None if the
        variant takes whole rows only.
    """

    init: Callable[[jax.Array], Params]
    param_shapes: Callable[[], Params]
    encode_block: Callable[..., Carried]
    decode_block: Callable[..., Carried]
    embed_block: Callable[..., Carried]
    synthesize_block: Callable[..., Carried]
    layer_names: Callable[[str], tuple[str, ...]]
    layer_block: Callable[..., jax.Array]
    encoder_state: Callable[[int], State]
    decoder_state: Callable[[int], State]


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


def has_encoder(params: Params) -> bool:
    """Return whether there are parameters of an encoder; a decoder may come without."""
    return any(module.startswith("encoder/") for module in params)


def build(
    model_config: ml_collections.ConfigDict,
    precision: str = "float32",
    *,
    platform: str | None = None,
) -> Model:
    """Build the networks that a model config describes (`config.model` of `configs/`).

    Equal arguments give the same functions, so that what is compiled for one serves all.

    Args:
      model_config: a model config; later changes of it change nothing here.
      precision: of products and convolutions, a name that `jax.default_matmul_precision` takes. A
        CPU has "float32" only. On a GPU "tensorfloat32" is several times faster, and its codes are
        not those of the reference. The quantiser's products stay float32.
      platform: whose kernels to take, "cpu" or "gpu"; those of a CPU run everywhere. None for the
        default back end.

    Raises:
      ValueError: a value of the config is wrong.
    """
    return _build(config.to_json(model_config), precision, platform or jax.default_backend())


@functools.lru_cache(maxsize=64)
def _build(config_json: str, precision: str, platform: str) -> Model:
    model_config = config.from_json(config_json)
    make = functools.partial(_networks, model_config, kernels.convolution(platform, precision))

    def functions() -> tuple[Callable[..., Any], tuple[Callable[..., Any], ...]]:
        codec = make()
        applied = (codec.encode, codec.decode, codec.embed, codec.synthesize, codec.run_layer)
        return codec.run_all, applied

    init, applied = hk.without_apply_rng(hk.multi_transform(functions))
    encode, decode, embed, synthesize, run_layer = (_in_precision(f, precision) for f in applied)

    @functools.cache
    def param_shapes() -> Params:
        def zeros() -> None:
            with hk.custom_creator(_zeros):  # drawing what is thrown away would take long
                make().run_all()

        return jax.eval_shape(hk.transform(zeros).init, jax.random.key(0))

    @functools.cache
    def layer_names(network: str) -> tuple[str, ...]:
        names: list[str] = []
        hk.transform(lambda: names.extend(layer.name for layer in make().layers(network))).init(
            None
        )
        return tuple(names)

    takes_whole_rows = model_config.norm == "time_group_norm"
    hop = config.hop_length(model_config)

    @functools.cache
    def encoder_state_shapes() -> State:
        audio = jax.ShapeDtypeStruct((1, hop, model_config.channels), jnp.float32)
        return None if takes_whole_rows else _state_shapes(param_shapes(), embed, audio)

    @functools.cache
    def decoder_state_shapes() -> State:
        codes = jax.ShapeDtypeStruct((1, 1, 1), jnp.int32)
        return None if takes_whole_rows else _state_shapes(param_shapes(), decode, codes)

    return Model(
        init=init,
        param_shapes=param_shapes,
        encode_block=encode,
        decode_block=decode,
        embed_block=embed,
        synthesize_block=synthesize,
        layer_names=layer_names,
        layer_block=run_layer,
        encoder_state=lambda batch: fresh(encoder_state_shapes(), batch),
        decoder_state=lambda batch: fresh(decoder_state_shapes(), batch),
    )


def _networks(model_config: ml_collections.ConfigDict, convolve: kernels.Convolution) -> EnCodec:
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


def _in_precision(function: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """Return the function with its products and convolutions traced in a precision."""

    def in_precision(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return in_precision


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


def _zeros(_: Any, shape: Sequence[int], dtype: Any, *__: Any) -> jax.Array:
    """Make a parameter of zeros; for `hk.custom_creator`."""
    return jnp.zeros(shape, dtype)


def _state_shapes(params: Params, block: Callable[..., Carried], x: jax.ShapeDtypeStruct) -> State:
    """Return the shapes of the state of one row: those after a block of x."""
    count = jax.ShapeDtypeStruct((1,), jnp.int32)
    begin = {"start": count, "end": count, "layers": None}
    is_last = jax.ShapeDtypeStruct((1,), bool)
    return jax.eval_shape(block, params, begin, x, count, is_last)[0]


def fresh(shapes: State, batch: int) -> State:
    """Return the state of rows that have not begun, given the shapes of one row's."""
    if shapes is None:
        return None
    zeros = jax.tree.map(lambda leaf: np.zeros((batch, *leaf.shape[1:]), leaf.dtype), shapes)
    return {**zeros, "end": np.full_like(zeros["end"], block_rows.FAR)}
