"""Times of the layers of one block, each compiled and run alone, to find the slow ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import encodec_hk
from encodec_hk.benchmark import timing
from encodec_hk.networks import quantizer

_SECONDS = 2.0  # per layer


def measure(
    codec: encodec_hk.Codec, *, batch: int, num_codebooks: int, multiply_adds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Time the layers on one block of noise, each on the output of the layer before.

    The sum is not the time of the block: alone, a layer is not fused with its neighbours, and it
    reads and writes its activations once more.

    Args:
      codec: the codec.
      batch: rows of the block.
      num_codebooks: codebooks that the quantiser uses.
      multiply_adds: per frame, by layer name, e.g. "encoder/stage_0".

    Returns:
      For each layer its name, batch, seconds (the median) and multiply_adds.
    """
    frames = codec.block_frames
    rng = np.random.default_rng(0)
    shape = (batch, frames * codec.hop_length, codec.channels)
    x = jnp.asarray(0.1 * rng.standard_normal(shape), jnp.float32)
    start = jnp.zeros((batch,), jnp.int32)
    if codec.model.encoder_state(1) is not None:
        start -= 1000 * shape[1]  # the block is not the first of its rows
    found = []

    def add(name: str, function: Callable[..., jax.Array], *args: Any) -> jax.Array:
        compiled = jax.jit(function).lower(*args).compile()
        y: jax.Array = jax.block_until_ready(compiled(*args))
        runs = timing.in_turns(
            {"": lambda: compiled(*args)}, max_runs=25, seconds=_SECONDS, with_memory=False
        )[""]
        found.append(
            {
                "name": name,
                "batch": batch,
                "seconds": timing.median(runs),
                "multiply_adds": multiply_adds.get(name, 0.0) * frames * batch,
            }
        )
        return y

    def layers_of(network: str, x: jax.Array) -> jax.Array:
        for index, name in enumerate(codec.model.layer_names(network)):
            layer = functools.partial(codec.model.layer_block, network=network, index=index)
            x = add(f"{network}/{name}", layer, codec.params, x, start)
        return x

    x = layers_of("encoder", x)
    codebooks = codec.params["quantizer"]["codebooks"]
    energies = jnp.asarray(quantizer.energies(np.asarray(codebooks)))

    def encode(codebooks: jax.Array, x: jax.Array, energies: jax.Array) -> jax.Array:
        return quantizer.encode(codebooks, x, num_codebooks, energies)

    codes = add("quantizer.encode", encode, codebooks, x, energies)
    layers_of("decoder", add("quantizer.decode", quantizer.decode, codebooks, codes))
    return found
