"""The implementations that are timed: our codec, and PyTorch's with the same weights.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.convert import pytorch_codecs
from encodec_hk.networks import model

OURS = "encodec_hk"


class Contender(NamedTuple):
    """An implementation.

    Attributes:
      encode: (audio float32 [B, T, C]) -> encoded.
      decode: (encoded) -> audio.
      compiles_lengths: whether each new signal length is compiled anew.
    """

    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], Any]
    compiles_lengths: bool = False


def ours(codec: encodec_hk.Codec, bandwidth: float) -> Contender:
    """Return our codec at a bandwidth (kbps)."""
    return Contender(lambda audio: codec.encode(audio, bandwidth), codec.decode)


def reference(kind: str, codec: encodec_hk.Codec, bandwidth: float, num_threads: int) -> Contender:
    """Return a PyTorch implementation with a codec's weights; see `pytorch_codecs.build`."""
    calls = pytorch_codecs.build(kind, codec, bandwidth, num_threads=num_threads)
    return Contender(*calls, compiles_lengths=kind == "transformers_compiled")


def random_codec(variant: ml_collections.ConfigDict) -> encodec_hk.Codec:
    """Return the codec of a whole configuration with random weights, which are as fast as others.

    Raises:
      ValueError: if the configuration is not valid.
    """
    config.validate(variant)
    rng = np.random.default_rng(0)

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        width = max(int(np.prod(shape.shape[:-1])), 1) ** -0.5
        return rng.uniform(-width, width, shape.shape).astype(np.float32)

    params: model.Params = jax.tree.map(draw, checkpoint.expected_params(variant.model))
    settings = variant.inference.to_dict()
    return encodec_hk.Codec(variant.model, params, name=variant.name, **settings)


def versions(kinds: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of JAX and of the packages behind `pytorch_codecs.KINDS`."""
    names = ["jax", "jaxlib"]
    if packages := {kind.removesuffix("_compiled") for kind in kinds}:
        names += ["torch", *sorted(packages)]
    return {name: importlib.metadata.version(name) for name in names}
