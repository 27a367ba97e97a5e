"""The implementations that are timed: ours, and PyTorch's two with the same weights.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from encodec_hk import codec as codec_lib
from encodec_hk import extras
from encodec_hk.convert import names
from encodec_hk.convert import verify
from encodec_hk.convert import weights

OURS = "encodec_hk"
KINDS = ("transformers", "encodec")


class Contender(NamedTuple):
    """An implementation.

    Attributes:
      encode: (audio float32 [B, T, C]) -> what its `decode` takes.
      decode: (what `encode` gave) -> audio.
    """

    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], Any]


def ours(codec: codec_lib.Codec, bandwidth: float) -> Contender:
    """This project's codec at so many kbps, from numpy to numpy."""
    return Contender(lambda audio: codec.encode(audio, bandwidth), codec.decode)


def reference(kind: str, codec: codec_lib.Codec, bandwidth: float, threads: int) -> Contender:
    """The network that a PyTorch implementation has for a codec, with its weights.

    Args:
      kind: of `KINDS`.
      codec: ours.
      bandwidth: kbps.
      threads: that PyTorch may use.

    Raises:
      ValueError: the implementation is not installed, or has no such network.
    """
    torch = extras.require("torch")
    torch.set_num_threads(threads)
    make = {"transformers": _transformers, "encodec": _official}[kind]
    return make(torch, codec, bandwidth)


def versions(kinds: tuple[str, ...]) -> dict[str, str]:
    """The versions of packages, of JAX's and of what `kinds` need."""
    packages = ["jax", "jaxlib", *(["torch", *kinds] if kinds else [])]
    return {name: importlib.metadata.version(name) for name in packages}


def _transformers(torch: Any, codec: codec_lib.Codec, bandwidth: float) -> Contender:
    network = verify.exported(codec)

    def encode(audio: np.ndarray) -> Any:
        with torch.inference_mode():
            return network.encode(_to_torch(torch, audio), bandwidth=bandwidth)

    def decode(encoded: Any) -> Any:
        with torch.inference_mode():
            return network.decode(
                encoded.audio_codes,
                encoded.audio_scales,
                last_frame_pad_length=encoded.last_frame_pad_length,
            ).audio_values

    return Contender(encode, decode)


def _official(torch: Any, codec: codec_lib.Codec, bandwidth: float) -> Contender:
    config = codec.model_config
    official = extras.require("encodec.model").EncodecModel
    makers = {24_000: official.encodec_model_24khz, 48_000: official.encodec_model_48khz}
    try:
        network = makers[config.sample_rate](pretrained=False).eval()
        tensors = weights.to_torch(
            jax.tree.map(np.array, codec.params), names.table(config, names.OFFICIAL)
        )
        network.load_state_dict(_with_weight_norm(torch, network.state_dict(), tensors))
        network.set_target_bandwidth(bandwidth)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{codec.name or 'this model'} at {bandwidth:g} kbps: not one of Meta's two"
        ) from error

    def encode(audio: np.ndarray) -> Any:
        with torch.inference_mode():
            return network.encode(_to_torch(torch, audio))

    def decode(encoded: Any) -> Any:
        with torch.inference_mode():
            return network.decode(encoded)

    return Contender(encode, decode)


def _with_weight_norm(
    torch: Any, state: dict[str, Any], tensors: dict[str, np.ndarray]
) -> dict[str, Any]:
    """A state of Meta's network with these weights, in the parts that it has them in."""
    filled = {}
    for key, present in state.items():
        value = tensors.get(key.removesuffix("_v") if key.endswith(".weight_v") else key)
        if key.endswith(".weight_g"):
            value = tensors[key.removesuffix("_g")]
            value = np.sqrt(np.sum(np.square(value), axis=(1, 2), keepdims=True))
        filled[key] = present if value is None else torch.as_tensor(value)
    return filled


def _to_torch(torch: Any, audio: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(audio.swapaxes(1, 2)))
