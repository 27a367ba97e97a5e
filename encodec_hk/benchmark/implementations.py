"""What is timed: our codec, and others with the same weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

import jax
import ml_collections
import numpy as np

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.benchmark import onnx_contenders
from encodec_hk.convert import pytorch_codecs
from encodec_hk.networks import model

OURS = "encodec_hk"
KINDS = (*pytorch_codecs.KINDS, *onnx_contenders.KINDS)

_PACKAGES = {  # of each kind
    "transformers": ("torch", "transformers"),
    "transformers_compiled": ("torch", "transformers"),
    "encodec": ("torch", "encodec"),
    "onnxruntime": ("onnxruntime",),
    "transformers_onnx": ("onnxruntime", "torch", "transformers"),
}


def ours(codec: encodec_hk.Codec, bandwidth: float) -> pytorch_codecs.Contender:
    """Return our codec at a bandwidth (kbps)."""
    return pytorch_codecs.Contender(lambda audio: codec.encode(audio, bandwidth), codec.decode)


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


def build(
    kind: str, codec: encodec_hk.Codec, bandwidth: float, *, num_threads: int
) -> pytorch_codecs.Contender:
    """Return another implementation of a codec, one of `KINDS`; see the modules' `build`."""
    room = onnx_contenders if kind in onnx_contenders.KINDS else pytorch_codecs
    return room.build(kind, codec, bandwidth, num_threads=num_threads)


def versions(kinds: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of JAX and of the packages behind some of `KINDS`."""
    packages = sorted({package for kind in kinds for package in _PACKAGES[kind]})
    return {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", *packages)}
