"""The PyTorch implementations of a codec, with its weights, as functions of arrays.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import encodec_hk
from encodec_hk.convert import tensor_names
from encodec_hk.convert import verify
from encodec_hk.convert import weights
from encodec_hk.system import extras

KINDS = ("transformers", "transformers_compiled", "encodec")

Calls = tuple[Callable[[np.ndarray], Any], Callable[[Any], Any]]


def build(kind: str, codec: encodec_hk.Codec, bandwidth: float, *, num_threads: int) -> Calls:
    """Return encode and decode of a PyTorch implementation.

    The network runs on the GPU if both JAX and PyTorch have one, else on the CPU. Outputs are
    copied to host memory, as those of our codec are.

    Args:
      kind: one of `KINDS`: transformers, transformers with its encoder and decoder under
        `torch.compile`, or Meta's encodec.
      codec: the codec whose weights the network gets.
      bandwidth: kbps.
      num_threads: CPU threads for PyTorch.

    Returns:
      encode: (audio float32 [B, T, C]) -> encoded, and decode: (encoded) -> audio.

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
) -> Calls:
    network = verify.exported(codec).to(device)
    if is_compiled:
        # Its cache inspects all loaded modules, and one of Haiku's does not allow that.
        inductor: Any = importlib.import_module("torch._inductor.config")
        inductor.fx_graph_cache = False
        dynamo: Any = importlib.import_module("torch._dynamo.config")
        dynamo.recompile_limit = 64  # one per layer; layers beyond the limit are not compiled
        network.encoder = torch.compile(network.encoder)
        network.decoder = torch.compile(network.decoder)

    def encode(audio: np.ndarray) -> Any:
        with torch.inference_mode():
            encoded = network.encode(_to_torch(torch, audio, device), bandwidth=bandwidth)
            return encoded, encoded.audio_codes.cpu()

    def decode(encoded_and_codes: Any) -> Any:
        encoded, codes = encoded_and_codes
        with torch.inference_mode():
            return network.decode(
                codes.to(device),
                encoded.audio_scales,
                last_frame_pad_length=encoded.last_frame_pad_length,
            ).audio_values.cpu()

    return encode, decode


def _official(torch: Any, device: str, codec: encodec_hk.Codec, bandwidth: float) -> Calls:
    try:
        official = importlib.import_module("encodec.model").EncodecModel
    except ImportError as error:
        raise ValueError(f"{error}: needs encodec 0.1.1 and torchaudio") from error
    builders = {24_000: official.encodec_model_24khz, 48_000: official.encodec_model_48khz}
    try:
        network = builders[codec.sample_rate](pretrained=False).eval()
        params = jax.tree.map(np.array, codec.params)
        tensors = weights.to_torch(params, codec.model_config, tensor_names.OFFICIAL)
        weights.fill(network, {weights.parse(key): value for key, value in tensors.items()})
        network.to(device).set_target_bandwidth(bandwidth)
    except (KeyError, RuntimeError, ValueError) as error:
        name = codec.name or "this model"
        raise ValueError(f"{name} at {bandwidth:g} kbps: not one of Meta's two models") from error

    def encode(audio: np.ndarray) -> Any:
        with torch.inference_mode():
            segments = network.encode(_to_torch(torch, audio, device))
            return [(codes.cpu(), scale) for codes, scale in segments]

    def decode(segments: Any) -> Any:
        with torch.inference_mode():
            return network.decode([(codes.to(device), scale) for codes, scale in segments]).cpu()

    return encode, decode


def _to_torch(torch: Any, audio: np.ndarray, device: str) -> Any:
    return torch.from_numpy(np.ascontiguousarray(audio.swapaxes(1, 2))).to(device)
