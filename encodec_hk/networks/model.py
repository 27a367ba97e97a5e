"""The codec's networks as pure functions of parameters and a carried state.

One block computation serves every use: whole files, batches, streams, and training.

    state, codes = model.encode_block(params, state, audio, num_valid, is_last, num_codebooks=8)
    state, audio = model.decode_block(params, state, codes, num_valid, is_last)

A block is B independent rows; `num_valid` says how much of each belongs to it, `is_last` whether it
ends there. With state None, every row starts and ends in the block; with num_valid and is_last None
too, every row fills it, as crops do in training: fewer steps, and fast gradients. With a state,
that of `encoder_state` at first, rows go on from block to block:

- A row that goes on fills whole hops, and its first block holds at least
  `config.minimum_first_block` of them.
- Networks that are not causal look ahead, so what comes out lags by `config.lags`: that many frames
  (samples, of the decoder) come out before a row's first, and its last come out in blocks after
  its end, with num_valid 0.
- When all of a row is out, its place is as new, and can take another row.

Variants normalised over time (`time_group_norm`) take whole rows alone.

Shapes: B rows, T samples of a block (a multiple of the hop), C audio channels, F = T / hop frames,
K codebooks in use, D latent channels.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk import config as config_lib
from encodec_hk.blocks import traces
from encodec_hk.networks import block_rows
from encodec_hk.networks import quantizer
from encodec_hk.networks import seanet

Params = Mapping[str, Mapping[str, Any]]
State = Any
"""A pytree of arrays with a leading axis of B rows; None: every row is whole in its block."""

_traces: pathlib.Path | None = None  # the folder of `keep_traces`


class Model(NamedTuple):
    """Pure functions of one variant's networks.

    Attributes:
      init: (rng key) -> params, drawn at random.
      param_shapes: () -> the shapes and types of the params, of which none is made.
      encode_block: (params, state, audio [B, T, C], num_valid [B] samples, is_last [B], *,
        num_codebooks, energies) -> (state, codes int32 [B, K, F]); a row has
        ceil(num_valid / hop) frames. Energies are optional, see `quantizer.encode`.
      decode_block: (params, state, codes [B, K, F], num_valid [B] frames, is_last [B]) ->
        (state, audio [B, T, C]); a row has num_valid * hop samples.
      embed_block: like encode_block, to the latents [B, F, D] before quantisation.
      synthesize_block: like decode_block, from latents [B, F, D] in place of codes.
      layers: of "encoder" and "decoder", the names of their layers in order.
      layer_block: (params, x [B, T, C], start int32 [B], *, network, layer) -> what one of those
        makes of a block, [B, T', C'], of rows that began at `start` and go on; to measure it alone.
      encoder_state, decoder_state: (B) -> the state of B rows that have not begun; None where the
        variant takes whole rows alone.
    """

    init: Callable[[jax.Array], Params]
    param_shapes: Callable[[], Params]
    encode_block: Callable[..., tuple[State, jax.Array]]
    decode_block: Callable[..., tuple[State, jax.Array]]
    embed_block: Callable[..., tuple[State, jax.Array]]
    synthesize_block: Callable[..., tuple[State, jax.Array]]
    layers: Mapping[str, tuple[str, ...]]
    layer_block: Callable[..., jax.Array]
    encoder_state: Callable[[int], State]
    decoder_state: Callable[[int], State]


def build(
    config: ml_collections.ConfigDict, precision: str = "float32", *, is_kept: bool = True
) -> Model:
    """Builds the networks that a model config describes (`config.model` of `configs/`).

    Equal arguments give the same functions, so that what is compiled for one serves all.

    Args:
      config: a model config; later changes of it change nothing here.
      precision: of products and convolutions, a name that `jax.default_matmul_precision` takes. On
        a CPU there is "float32" alone; on a GPU "tensorfloat32" is several times faster, and its
        codes are not those of the reference. The quantiser's products stay float32.
      is_kept: whether what `keep_traces` keeps may serve; False for who looks into the modules'
        calls, of which a kept program makes none.

    Raises:
      ValueError: a value of the config is wrong.
    """
    arguments = config_lib.to_json(config), precision
    return _kept(_traces, *arguments) if _traces is not None and is_kept else _build(*arguments)


def keep_traces(folder: pathlib.Path | None) -> None:
    """Keeps in a folder what tracing gives, of all models that are built from now on.

    For commands that encode and decode on one device: no gradient goes through functions that are
    kept. See `traces`.

    Args:
      folder: made where it is missing; None for none.
    """
    global _traces
    _traces = folder


@functools.lru_cache(maxsize=64)
def _kept(folder: pathlib.Path, *arguments: str) -> Model:
    """As of `_build`, with what coding needs kept in a folder."""
    model = _build(*arguments)
    if jax.device_count() > 1:
        return model
    store = traces.TraceStore(folder, *arguments)

    def state(name: str, begin: Callable[[int], State]) -> Callable[[int], State]:
        shapes = functools.cache(lambda: store.shapes(name, lambda: begin(1)))
        # On the device, as a kept program's outputs are: else the second block compiles it again.
        return lambda batch: jax.device_put(_fresh(shapes(), batch), jax.devices()[0])

    return model._replace(
        param_shapes=functools.cache(lambda: store.shapes("param_shapes", model.param_shapes)),
        encode_block=store.program("encode_block", model.encode_block),
        decode_block=store.program("decode_block", model.decode_block),
        encoder_state=state("encoder_state", model.encoder_state),
        decoder_state=state("decoder_state", model.decoder_state),
    )


@functools.lru_cache(maxsize=64)
def _build(config_json: str, precision: str) -> Model:
    config = config_lib.from_json(config_json)
    hop = config_lib.hop_length(config)
    takes_whole_rows = config.norm == "time_group_norm"

    def networks() -> tuple[Callable[..., Any], tuple[Callable[..., Any], ...]]:
        stage = {
            "num_residual_layers": config.num_residual_layers,
            "kernel_size": config.residual_kernel_size,
            "dilation_base": config.dilation_base,
            "compress": config.compress,
            "shortcut": config.shortcut,
            "causal": config.causal,
            "norm": config.norm,
            "pad_mode": config.pad_mode,
        }
        common = {
            "ratios": config.ratios,
            "num_filters": config.num_filters,
            "kernel_size": config.kernel_size,
            "last_kernel_size": config.last_kernel_size,
            "num_lstm_layers": config.num_lstm_layers,
            "stage": stage,
        }
        encoder = seanet.Encoder(latent_dim=config.latent_dim, name="encoder", **common)
        decoder = seanet.Decoder(channels=config.channels, name="decoder", **common)
        rvq = quantizer.ResidualVectorQuantizer(
            num_codebooks=config.num_codebooks,
            codebook_size=config.codebook_size,
            latent_dim=config.latent_dim,
            name="quantizer",
        )

        def embed(
            state: State, audio: jax.Array, num_valid: jax.Array | None, is_last: jax.Array | None
        ) -> tuple[State, jax.Array]:
            chex.assert_axis_dimension(audio, 2, config.channels)
            chex.assert_is_divisible(audio.shape[1], hop)
            return _carry(encoder, state, audio, num_valid, is_last, hop)

        def encode(
            state: State,
            audio: jax.Array,
            num_valid: jax.Array | None,
            is_last: jax.Array | None,
            num_codebooks: int,
            energies: jax.Array | None = None,
        ) -> tuple[State, jax.Array]:
            state, latents = embed(state, audio, num_valid, is_last)
            return state, rvq.encode(latents, num_codebooks, energies)

        def synthesize(
            state: State, latents: jax.Array, num_valid: jax.Array | None, is_last: jax.Array | None
        ) -> tuple[State, jax.Array]:
            return _carry(decoder, state, latents, num_valid, is_last, 1)

        def decode(
            state: State, codes: jax.Array, num_valid: jax.Array | None, is_last: jax.Array | None
        ) -> tuple[State, jax.Array]:
            return synthesize(state, rvq.decode(codes), num_valid, is_last)

        def run_layer(x: jax.Array, start: jax.Array, network: str, layer: str) -> jax.Array:
            far, stop = jnp.full_like(start, block_rows.FAR), jnp.full_like(start, x.shape[1])
            rows = block_rows.Rows(start, far, stop, is_whole=takes_whole_rows)
            networks: dict[str, seanet.Encoder | seanet.Decoder]
            networks = {"encoder": encoder, "decoder": decoder}
            y, _, _ = networks[network].layer(layer)(x, rows, None)
            return y

        def init() -> None:
            audio = jnp.zeros((1, hop, config.channels), jnp.float32)
            _, codes = encode(None, audio, None, None, 1)
            decode(None, codes, None, None)

        return init, (encode, decode, embed, synthesize, run_layer)

    init, applies = hk.multi_transform(networks)
    encode, decode, embed, synthesize, run_layer = (_in_precision(f, precision) for f in applies)

    def encode_block(
        params: Params,
        state: State,
        audio: jax.Array,
        num_valid: jax.Array | None,
        is_last: jax.Array | None,
        *,
        num_codebooks: int,
        energies: jax.Array | None = None,
    ) -> tuple[State, jax.Array]:
        return encode(params, None, state, audio, num_valid, is_last, num_codebooks, energies)

    def decode_block(
        params: Params,
        state: State,
        codes: jax.Array,
        num_valid: jax.Array | None,
        is_last: jax.Array | None,
    ) -> tuple[State, jax.Array]:
        return decode(params, None, state, codes, num_valid, is_last)

    def embed_block(
        params: Params,
        state: State,
        audio: jax.Array,
        num_valid: jax.Array | None,
        is_last: jax.Array | None,
    ) -> tuple[State, jax.Array]:
        return embed(params, None, state, audio, num_valid, is_last)

    def synthesize_block(
        params: Params,
        state: State,
        latents: jax.Array,
        num_valid: jax.Array | None,
        is_last: jax.Array | None,
    ) -> tuple[State, jax.Array]:
        return synthesize(params, None, state, latents, num_valid, is_last)

    def layer_block(
        params: Params, x: jax.Array, start: jax.Array, *, network: str, layer: str
    ) -> jax.Array:
        return run_layer(params, None, x, start, network, layer)

    @functools.cache
    def param_shapes() -> Params:
        def make() -> None:
            with hk.custom_creator(_zeros):  # to draw what is thrown away would take long
                networks()[0]()

        return jax.eval_shape(hk.transform(make).init, jax.random.key(0))

    @functools.cache
    def encoder_state_shapes() -> State:
        audio = jax.ShapeDtypeStruct((1, hop, config.channels), jnp.float32)
        return None if takes_whole_rows else _state_shapes(param_shapes(), embed_block, audio)

    @functools.cache
    def decoder_state_shapes() -> State:
        codes = jax.ShapeDtypeStruct((1, 1, 1), jnp.int32)
        return None if takes_whole_rows else _state_shapes(param_shapes(), decode_block, codes)

    return Model(
        init=init,
        param_shapes=param_shapes,
        encode_block=encode_block,
        decode_block=decode_block,
        embed_block=embed_block,
        synthesize_block=synthesize_block,
        layers={
            network: seanet.layer_names(network, len(config.ratios), config.num_lstm_layers)
            for network in ("encoder", "decoder")
        },
        layer_block=layer_block,
        encoder_state=lambda batch: _fresh(encoder_state_shapes(), batch),
        decoder_state=lambda batch: _fresh(decoder_state_shapes(), batch),
    )


def _in_precision(function: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """The function, its products and convolutions traced in a precision."""

    def in_precision(*args: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args)

    return in_precision


def _carry(
    network: Callable[..., tuple[jax.Array, block_rows.Rows, State]],
    state: State,
    x: jax.Array,
    num_valid: jax.Array | None,
    is_last: jax.Array | None,
    hop: int,
) -> tuple[State, jax.Array]:
    """Calls a network on a block of x [B, T, C], `hop` steps a frame, and keeps account of rows."""
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
    # A row that has ended goes on with padding, until all that lags behind is out.
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
    """Makes a parameter of zeros; for `hk.custom_creator`."""
    return jnp.zeros(shape, dtype)


def _state_shapes(
    params: Params, block: Callable[..., tuple[State, jax.Array]], x: jax.ShapeDtypeStruct
) -> State:
    """The shapes of the state of one row: those after a block of x."""
    count = jax.ShapeDtypeStruct((1,), jnp.int32)
    begin = {"start": count, "end": count, "layers": None}
    is_last = jax.ShapeDtypeStruct((1,), bool)
    return jax.eval_shape(block, params, begin, x, count, is_last)[0]


def _fresh(shapes: State, batch: int) -> State:
    """The state of rows that have not begun, of the shapes of one row's."""
    if shapes is None:
        return None
    zeros = jax.tree.map(lambda leaf: np.zeros((batch, *leaf.shape[1:]), leaf.dtype), shapes)
    return {**zeros, "end": np.full_like(zeros["end"], block_rows.FAR)}
