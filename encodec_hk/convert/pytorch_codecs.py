"""The PyTorch implementations of a codec, with its weights, as functions of arrays.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import encodec_hk
from encodec_hk.convert import network_tensors
from encodec_hk.convert import verify
from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import weights
from encodec_hk.system import extras

KINDS = ("transformers", "transformers_compiled", "encodec")


class Contender(NamedTuple):
    """An implementation of a codec at one bandwidth.

    Attributes:
      encode: (audio float32 [B, T, C]) -> encoded.
      decode: (encoded) -> audio.
      compiles_lengths: whether each new signal length is compiled anew.
    """

    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any], Any]
    compiles_lengths: bool = False


def build(kind: str, codec: encodec_hk.Codec, bandwidth: float, *, num_threads: int) -> Contender:
    """Return a PyTorch implementation with a codec's weights, at a bandwidth in kbps.

    `kind` is one of `KINDS`: transformers, the same with its encoder and decoder under
    `torch.compile`, or Meta's encodec. The network runs on the GPU if both JAX and PyTorch have
    one, else on `num_threads` threads of the CPU. Outputs are copied to host memory, as those of
    our codec are.

    Raises:
      ValueError: if the implementation is not installed or has no such network.
    """
    torch = extras.require("torch")
    torch.set_num_threads(num_threads)
    has_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = "cuda" if has_gpu else "cpu"
    if kind == "encodec":
        return _official(torch, device, codec, bandwidth)
    return _transformers(torch, device, codec, bandwidth, kind == "transformers_compiled")


def _transformers(
    torch: Any, device: str, codec: encodec_hk.Codec, bandwidth: float, is_compiled: bool
) -> Contender:
    network = verify.exported(codec).to(device)
    if is_compiled:
        # Its cache inspects all loaded modules, and one of Haiku's does not allow that.
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.fx_graph_cache = False
        dynamo: Any = importlib.import_module("torch._dynamo.config")
        dynamo.recompile_limit = 64  # one per layer; layers beyond the limit are not compiled
        network.encoder = torch.compile(network.encoder)
        network.decoder = torch.compile(network.decoder)

    @torch.inference_mode()
    def encode(audio: np.ndarray) -> Any:
        encoded = network.encode(_to_torch(torch, audio, device), bandwidth=bandwidth)
        return encoded, encoded.audio_codes.cpu()

    @torch.inference_mode()
    def decode(encoded_and_codes: Any) -> Any:
        encoded, codes = encoded_and_codes
        pad = encoded.last_frame_pad_length
        decoded = network.decode(codes.to(device), encoded.audio_scales, last_frame_pad_length=pad)
        return decoded.audio_values.cpu()

    return Contender(encode, decode, compiles_lengths=is_compiled)


def _official(torch: Any, device: str, codec: encodec_hk.Codec, bandwidth: float) -> Contender:
    try:
        official = importlib.import_module("encodec.model").EncodecModel
    except ImportError as error:
        raise ValueError(f"{error}: needs encodec 0.1.1 and torchaudio") from error
    builders = {24_000: official.encodec_model_24khz, 48_000: official.encodec_model_48khz}
    try:
        network = builders[codec.sample_rate](pretrained=False).eval()
        params = jax.tree.map(np.array, codec.params)
        tensors = weights.to_torch(params, codec.model_config, tensor_names.OFFICIAL)
        network_tensors.fill(network, {weights.parse(key): value for key, value in tensors.items()})
        network.to(device).set_target_bandwidth(bandwidth)
    except (KeyError, RuntimeError, ValueError) as error:
        name = codec.name or "this model"
        raise ValueError(f"{name} at {bandwidth:g} kbps: not one of Meta's two models") from error

    @torch.inference_mode()
    def encode(audio: np.ndarray) -> Any:
        segments = network.encode(_to_torch(torch, audio, device))
        return [(codes.cpu(), scale) for codes, scale in segments]

    @torch.inference_mode()
    def decode(segments: Any) -> Any:
        return network.decode([(codes.to(device), scale) for codes, scale in segments]).cpu()

    return Contender(encode, decode)


def _to_torch(torch: Any, audio: np.ndarray, device: str) -> Any:
    return torch.from_numpy(np.ascontiguousarray(audio.swapaxes(1, 2))).to(device)
