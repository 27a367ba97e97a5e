"""The codec's networks as pure functions of parameters and a carried state.

One block computation serves every use: whole files, batches, streams, and training.

    state, codes = model.encode_block(params, state, audio, num_valid, is_last, num_codebooks=8)
    state, audio = model.decode_block(params, state, codes, num_valid, is_last)

A block is B independent rows; `num_valid` says how much of each belongs to it, `is_last` whether it
ends there. After its end a row starts afresh, so its place can take another row. Of causal
variants, a row that goes on fills whole hops, and the first block of a row that goes on holds at
least `config.minimum_first_block` of them. Of other variants, a block holds whole rows.

Shapes: B rows, T samples of a block (a multiple of the hop), C audio channels, F = T / hop frames,
K codebooks in use, D latent channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from encodec_hk import config as config_lib
from encodec_hk import quantizer
from encodec_hk import seanet
from encodec_hk.layers import rows as rows_lib

Params = Mapping[str, Mapping[str, Any]]
State = Any
"""A pytree of arrays with a leading axis of B rows; None: every row starts in this block."""


class Model(NamedTuple):
    """Pure functions of one variant's networks.

    Attributes:
      init: (rng key) -> params, drawn at random.
      encode_block: (params, state, audio [B, T, C], num_valid [B] samples, is_last [B], *,
        num_codebooks) -> (state, codes int32 [B, K, F]); a row has ceil(num_valid / hop) frames.
      decode_block: (params, state, codes [B, K, F], num_valid [B] frames, is_last [B]) ->
        (state, audio [B, T, C]); a row has num_valid * hop samples.
      embed_block: like encode_block, to the latents [B, F, D] before quantisation.
      encoder_state, decoder_state: (B) -> the state of B rows that have not begun.
    """

    init: Callable[[jax.Array], Params]
    encode_block: Callable[..., tuple[State, jax.Array]]
    decode_block: Callable[..., tuple[State, jax.Array]]
    embed_block: Callable[..., tuple[State, jax.Array]]
    encoder_state: Callable[[int], State]
    decoder_state: Callable[[int], State]


def build(config: ml_collections.ConfigDict) -> Model:
    """Builds the networks that a model config describes (`config.model` of `configs/`).

    Args:
      config: a model config that `encodec_hk.config.validate_model` accepts.
    """
    hop = config_lib.hop_length(config)

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
            state: State, audio: jax.Array, num_valid: jax.Array, is_last: jax.Array
        ) -> tuple[State, jax.Array]:
            chex.assert_axis_dimension(audio, 2, config.channels)
            chex.assert_is_divisible(audio.shape[1], hop)
            return _carry(encoder, config.causal, state, audio, num_valid, is_last)

        def encode(
            state: State,
            audio: jax.Array,
            num_valid: jax.Array,
            is_last: jax.Array,
            num_codebooks: int,
        ) -> tuple[State, jax.Array]:
            state, latents = embed(state, audio, num_valid, is_last)
            return state, rvq.encode(latents, num_codebooks)

        def decode(
            state: State, codes: jax.Array, num_valid: jax.Array, is_last: jax.Array
        ) -> tuple[State, jax.Array]:
            latents = rvq.decode(codes)
            return _carry(decoder, config.causal, state, latents, num_valid, is_last)

        def init() -> None:
            one = jnp.full((1,), hop)
            _, codes = encode(None, jnp.zeros((1, hop, config.channels)), one, one > 0, 1)
            decode(None, codes, one // hop, one > 0)

        return init, (encode, decode, embed)

    init, (encode, decode, embed) = hk.multi_transform(networks)

    def encode_block(
        params: Params,
        state: State,
        audio: jax.Array,
        num_valid: jax.Array,
        is_last: jax.Array,
        *,
        num_codebooks: int,
    ) -> tuple[State, jax.Array]:
        return encode(params, None, state, audio, num_valid, is_last, num_codebooks)

    def decode_block(
        params: Params, state: State, codes: jax.Array, num_valid: jax.Array, is_last: jax.Array
    ) -> tuple[State, jax.Array]:
        return decode(params, None, state, codes, num_valid, is_last)

    def embed_block(
        params: Params, state: State, audio: jax.Array, num_valid: jax.Array, is_last: jax.Array
    ) -> tuple[State, jax.Array]:
        return embed(params, None, state, audio, num_valid, is_last)

    def encoder_state(batch: int) -> State:
        audio = jax.ShapeDtypeStruct((batch, hop, config.channels), jnp.float32)
        return _state_of(init, embed_block, audio)

    def decoder_state(batch: int) -> State:
        codes = jax.ShapeDtypeStruct((batch, 1, 1), jnp.int32)
        return _state_of(init, decode_block, codes)

    return Model(init, encode_block, decode_block, embed_block, encoder_state, decoder_state)


def _carry(
    network: Callable[..., tuple[jax.Array, State]],
    causal: bool,
    state: State,
    x: jax.Array,
    num_valid: jax.Array,
    is_last: jax.Array,
) -> tuple[State, jax.Array]:
    """Calls a network on a block, and keeps account of which rows have begun."""
    chex.assert_shape([num_valid, is_last], (x.shape[0],))
    if not causal:
        if state is not None:
            raise ValueError("state: a variant that is not causal codes whole rows, state=None")
        whole = jnp.ones_like(is_last)
        y, _ = network(x, rows_lib.Rows(num_valid, first=whole, last=whole))
        return None, y
    begun = jnp.zeros_like(is_last) if state is None else state["begun"]
    rows = rows_lib.Rows(num_valid, first=~begun, last=is_last)
    y, layers = network(x, rows, None if state is None else state["layers"])
    return {"begun": (begun | (num_valid > 0)) & ~is_last, "layers": layers}, y


def _state_of(
    init: Callable[..., Params],
    block: Callable[..., tuple[State, jax.Array]],
    x: jax.ShapeDtypeStruct,
) -> State:
    """Zeros in the shapes of the state that a block of x hands back."""
    params = jax.eval_shape(init, jax.random.key(0))
    count = jax.ShapeDtypeStruct((x.shape[0],), jnp.int32)
    flags = jax.ShapeDtypeStruct((x.shape[0],), jnp.bool_)
    state, _ = jax.eval_shape(block, params, None, x, count, flags)
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state)
