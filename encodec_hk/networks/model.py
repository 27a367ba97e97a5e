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

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.networks import block_rows
from encodec_hk.networks import encodec
from encodec_hk.networks import kernels

Params = Mapping[str, Mapping[str, Any]]
State = encodec.State
Carried = encodec.Carried


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
    make = functools.partial(encodec.make, model_config, kernels.convolution(platform, precision))

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


def _in_precision(function: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """Return the function with its products and convolutions traced in a precision."""

    def in_precision(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return in_precision


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
