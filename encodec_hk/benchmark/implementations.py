"""The implementations that are timed: ours, and PyTorch's two with the same weights.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

import encodec_hk
from encodec_hk.convert import tensor_names
from encodec_hk.convert import verify
from encodec_hk.convert import weights
from encodec_hk.system import extras

OURS = "encodec_hk"
KINDS = ("transformers", "transformers_compiled", "encodec")


class Contender(NamedTuple):
    """An implementation.

    Attributes:
      encode: (audio float32 [B, T, C]) -> what its `decode` takes.
      decode: (what `encode` gave) -> audio.
      compiles_lengths: whether a new length is compiled anew.
    """

    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], Any]
    compiles_lengths: bool = False


def ours(codec: encodec_hk.Codec, bandwidth: float) -> Contender:
    """This project's codec at so many kbps, from numpy to numpy."""
    return Contender(lambda audio: codec.encode(audio, bandwidth), codec.decode)


def reference(kind: str, codec: encodec_hk.Codec, bandwidth: float, threads: int) -> Contender:
    """The network that a PyTorch implementation has for a codec, with its weights.

    It is on the GPU where JAX and PyTorch both have one, else on the CPU; what it gives comes back
    to the host's memory, as ours does.

    Args:
      kind: of `KINDS`: transformers as it is, its encoder and decoder under `torch.compile`, or
        Meta's encodec.
      codec: ours.
      bandwidth: kbps.
      threads: that PyTorch may use.

    Raises:
      ValueError: the implementation is not installed, or has no such network.
    """
    torch = extras.require("torch")
    torch.set_num_threads(threads)
    has_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = "cuda" if has_gpu else "cpu"
    if kind == "encodec":
        return _official(torch, device, codec, bandwidth)
    return _transformers(torch, device, codec, bandwidth, kind == "transformers_compiled")


def versions(kinds: Iterable[str]) -> dict[str, str]:
    """The versions of packages, of JAX's and of what `kinds` need."""
    packages = ["jax", "jaxlib"]
    if packages_of := {kind.removesuffix("_compiled") for kind in kinds}:
        packages += ["torch", *sorted(packages_of)]
    return {name: importlib.metadata.version(name) for name in packages}


def _transformers(
    torch: Any, device: str, codec: encodec_hk.Codec, bandwidth: float, is_compiled: bool
) -> Contender:
    network = verify.exported(codec).to(device)
    if is_compiled:
        # Its cache looks into all modules there are, and Haiku has one that does not let it.
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.fx_graph_cache = False
        dynamo: Any = importlib.import_module("torch._dynamo.config")
        dynamo.recompile_limit = 64  # every layer is one; beyond the limit they are not compiled
        network.encoder = torch.compile(network.encoder)
        network.decoder = torch.compile(network.decoder)

    def encode(audio: np.ndarray) -> Any:
        with torch.inference_mode():
            encoded = network.encode(_to_torch(torch, audio, device), bandwidth=bandwidth)
            return encoded, encoded.audio_codes.cpu()

    def decode(coded: Any) -> Any:
        encoded, codes = coded
        with torch.inference_mode():
            return network.decode(
                codes.to(device),
                encoded.audio_scales,
                last_frame_pad_length=encoded.last_frame_pad_length,
            ).audio_values.cpu()

    return Contender(encode, decode, compiles_lengths=is_compiled)


def _official(torch: Any, device: str, codec: encodec_hk.Codec, bandwidth: float) -> Contender:
    config = codec.model_config
    try:
        official = importlib.import_module("encodec.model").EncodecModel
    except ImportError as error:
        raise ValueError(f"{error}: it needs encodec 0.1.1 and torchaudio") from error
    makers = {24_000: official.encodec_model_24khz, 48_000: official.encodec_model_48khz}
    try:
        network = makers[config.sample_rate](pretrained=False).eval()
        tensors = weights.to_torch(
            jax.tree.map(np.array, codec.params), tensor_names.table(config, tensor_names.OFFICIAL)
        )
        network.load_state_dict(_with_weight_norm(torch, network.state_dict(), tensors))
        network.to(device).set_target_bandwidth(bandwidth)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{codec.name or 'this model'} at {bandwidth:g} kbps: not one of Meta's two"
        ) from error

    def encode(audio: np.ndarray) -> Any:
        with torch.inference_mode():
            segments = network.encode(_to_torch(torch, audio, device))
            return [(codes.cpu(), scale) for codes, scale in segments]

    def decode(segments: Any) -> Any:
        with torch.inference_mode():
            return network.decode([(codes.to(device), scale) for codes, scale in segments]).cpu()

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


def _to_torch(torch: Any, audio: np.ndarray, device: str) -> Any:
    return torch.from_numpy(np.ascontiguousarray(audio.swapaxes(1, 2))).to(device)
