"""PyTorch reference networks for tests, with random weights that behave like trained ones.

    network = references.official_model("encodec_24khz")        # Meta's encodec
    network = references.transformers_model("encodec_24khz")    # the same weights
    codec = references.codec("encodec_24khz")                   # ours, with the same weights

Plain random weights are a poor test: activations vanish or explode, latents hardly vary, and every
frame has the same code. Here each layer is scaled to keep the variance of a test signal, biases and
group norms are not trivial, and the codebooks are drawn, stage by stage, from actual residuals.
Networks are built once per process; do not modify them.

Shapes: T samples, C channels, D latent channels, N frames.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import sys
import types
import warnings
from typing import Any, TypeAlias

import ml_collections
import numpy as np
import torch
import transformers

import encodec_hk
from encodec_hk import config
from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import weights

# Torch's threads synchronise at every small layer: on a busy machine, e.g. with JAX in the same
# process, two are much slower than one.
torch.set_num_threads(1)

_SHRINK = 0.3  # the best of 1024 directions in 128 dimensions explains this share of a vector
_JITTER = 0.5

Variant: TypeAlias = str | ml_collections.ConfigDict
"""The name of a file in `configs/`, or a model config."""


def audio(seconds: float, sample_rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return a signal similar to speech and music, float32 [T, C], peak 0.5.

    It has gliding voiced syllables with pauses, chords with decaying partials, and noise bursts.
    """
    rng = np.random.default_rng(seed)
    length = round(seconds * sample_rate)
    time = np.arange(length) / sample_rate
    out = np.zeros((length, channels))
    start = 0.0
    while start < seconds:
        duration = rng.uniform(0.08, 0.45)
        window = slice(round(start * sample_rate), round((start + duration) * sample_rate))
        t = time[window] - start
        kind = rng.choice(["voice", "chord", "noise"], p=[0.5, 0.3, 0.2])
        shape = np.sin(np.pi * np.clip(t / duration, 0, 1)) ** 0.5
        if kind == "noise":
            sound = rng.standard_normal(len(t)) * rng.uniform(0.1, 0.5)
            sound = np.convolve(sound, rng.standard_normal(8) / 3)[: len(t)]
        elif kind == "voice":
            pitch = rng.uniform(80, 260) * (1 + rng.uniform(-0.3, 0.3) * t / duration)
            sound = _partials(pitch, sample_rate, rng.uniform(0.6, 1.4), rng)
        else:
            notes = rng.uniform(110, 880, 3)
            tones = [_partials(np.full(len(t), f), sample_rate, 2.0, rng) for f in notes]
            sound = np.sum(tones, axis=0)
            shape = shape * np.exp(-t / 0.15)
        balance = rng.uniform(0.3, 1.0, channels)
        out[window] += (shape * sound)[:, None] * balance
        start += duration * rng.uniform(0.5, 1.3)
    out += 1e-3 * rng.standard_normal(out.shape)
    return (0.5 * out / np.abs(out).max()).astype(np.float32)


def _partials(
    pitch: np.ndarray, sample_rate: int, slope: float, rng: np.random.Generator
) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate + rng.uniform(0, 6)
    count = max(1, min(30, int(0.45 * sample_rate / max(1.0, pitch.max(initial=1.0)))))
    gains = rng.uniform(0.3, 1.0, count) / np.arange(1, count + 1) ** slope
    return sum(gain * np.sin((n + 1) * phase) for n, gain in enumerate(gains))


TINY: dict[str, dict[str, Any]] = {
    "causal": {},
    "group_norm": {
        "causal": False,
        "channels": 2,
        "norm": "time_group_norm",
        "normalize": True,
        "segment_seconds": 0.5,
        "overlap": 0.05,
    },
    "identity": {"causal": False, "shortcut": "identity", "pad_mode": "constant"},
    "deep": {
        "sample_rate": 480,
        "ratios": (3, 2),
        "num_residual_layers": 2,
        "dilation_base": 3,
        "compress": 4,
        "num_lstm_layers": 1,
        "kernel_size": 5,
        "last_kernel_size": 3,
        "residual_kernel_size": 5,
    },
    "no_lstm": {"num_lstm_layers": 0, "norm": "none"},
}
"""Fields of each small model that differ from "causal"; transformers does not support "no_lstm"."""


def tiny(name: str = "causal") -> ml_collections.ConfigDict:
    """Return the model config of one of `TINY`, small enough to convert quickly."""
    fields = model_config("encodec_tiny").to_dict()
    fields |= {"num_filters": 4, "latent_dim": 16, "num_codebooks": 4, "codebook_size": 64}
    fields |= TINY[name]
    rate = -(-fields["sample_rate"] // math.prod(fields["ratios"])) * 6 / 1000  # kbps a codebook
    fields["bandwidths"] = (rate, 4 * rate)
    return config.from_json(json.dumps(fields))


def model_config(variant: Variant) -> ml_collections.ConfigDict:
    """Return the model config of a variant."""
    if isinstance(variant, str):
        return importlib.import_module(f"configs.{variant}").get_config().model
    return variant


def official_model(variant: Variant, seed: int = 0) -> Any:
    """Return an `encodec.EncodecModel` in evaluation mode; its bandwidth uses all codebooks."""
    return _official(config.to_json(model_config(variant)), seed)


def transformers_model(variant: Variant, seed: int = 0) -> transformers.EncodecModel:
    """Return a `transformers.EncodecModel` with the weights of `official_model`."""
    return _transformers(config.to_json(model_config(variant)), seed)


@functools.cache
def codec(name: str) -> encodec_hk.Codec:
    """Return our codec of a file in `configs/`, with the weights of `official_model`."""
    state = official_model(name).state_dict()
    tensors = {key: value.numpy() for key, value in state.items()}
    params = weights.to_haiku(tensors, model_config(name), tensor_names.OFFICIAL)
    return encodec_hk.Codec(model_config(name), params, name=name)


@functools.cache
def import_encodec() -> types.ModuleType:
    """Return Meta's encodec; it imports torchaudio, which CPU builds of torch lack."""
    stub = "torchaudio" not in sys.modules
    if stub:
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        return importlib.import_module("encodec")
    finally:
        if stub:  # transformers would mistake it for the real torchaudio
            del sys.modules["torchaudio"]


@functools.cache
def _official(json_config: str, seed: int) -> Any:
    model = config.from_json(json_config)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weight_norm is deprecated in torch
        torch.manual_seed(seed)
        network = _build_official(model)
        with torch.inference_mode():
            _condition(network, model, seed)
    network.set_target_bandwidth(network.target_bandwidths[-1])
    return network.eval().requires_grad_(False)


def _build_official(model: ml_collections.ConfigDict) -> Any:
    encodec = import_encodec().EncodecModel
    if model == model_config("encodec_24khz"):
        return encodec.encodec_model_24khz(pretrained=False)
    if model == model_config("encodec_48khz"):
        return encodec.encodec_model_48khz(pretrained=False)
    modules = importlib.import_module("encodec.modules")
    quantization = importlib.import_module("encodec.quantization")
    settings = {
        "channels": model.channels,
        "dimension": model.latent_dim,
        "n_filters": model.num_filters,
        "n_residual_layers": model.num_residual_layers,
        "ratios": list(model.ratios),
        "norm": model.norm,
        "kernel_size": model.kernel_size,
        "last_kernel_size": model.last_kernel_size,
        "residual_kernel_size": model.residual_kernel_size,
        "dilation_base": model.dilation_base,
        "causal": model.causal,
        "pad_mode": model.pad_mode,
        "true_skip": model.shortcut == "identity",
        "compress": model.compress,
        "lstm": model.num_lstm_layers,
    }
    return encodec(
        modules.SEANetEncoder(**settings),
        modules.SEANetDecoder(**settings),
        quantization.ResidualVectorQuantizer(
            dimension=model.latent_dim, n_q=model.num_codebooks, bins=model.codebook_size
        ),
        target_bandwidths=list(model.bandwidths),
        sample_rate=model.sample_rate,
        channels=model.channels,
        normalize=model.normalize,
        segment=model.segment_seconds,
        overlap=model.overlap,
    )


def _condition(network: Any, model: ml_collections.ConfigDict, seed: int) -> None:
    """Set the weights of a new network so that a signal keeps its variance in all layers."""
    network.eval()
    convolutions = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)
    leaves: list[Any] = [m for m in network.modules() if isinstance(m, convolutions)]
    for leaf in leaves:
        leaf.bias.normal_(0, 0.1)
        # g of weight norm: one for each output channel, or input channel if transposed.
        gain = getattr(leaf, "weight_g", None)
        gain = leaf.weight if gain is None else gain
        gain.mul_(torch.empty(len(gain), 1, 1).uniform_(0.6, 1.4))
    for module in network.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.weight.normal_(1, 0.2)
            module.bias.normal_(0, 0.1)
        elif isinstance(module, torch.nn.LSTM):
            for name, value in module.named_parameters():
                value.mul_(2.0 if name.startswith("weight") else 1.0)
    last = leaves[-1]
    out_norm = [m for m in network.decoder.modules() if isinstance(m, torch.nn.GroupNorm)][-1:]
    for module in out_norm:
        module.weight.mul_(1.5)
        module.bias.mul_(0.1)

    def scale(module: Any, _: Any, y: torch.Tensor) -> torch.Tensor:
        bias = module.bias[:, None]
        factor = (0.15 if module is last else 1.0) / (y - bias).std()
        getattr(module, "weight_g", module.weight).mul_(factor)
        if module is last:
            module.bias.mul_(0.1)
        return (y - bias) * factor + module.bias[:, None]

    hooks = [leaf.register_forward_hook(scale) for leaf in leaves]
    # Rows of 1 s, as segments are; the LSTM runs them side by side.
    rows = 6 if model.num_filters > 32 else 10
    signal = audio(rows, model.sample_rate, model.channels, seed + 1)
    x = torch.from_numpy(signal.reshape(rows, -1, model.channels).swapaxes(1, 2).copy())
    if model.normalize:
        x = x / (1e-8 + x.mean(1, keepdim=True).square().mean(2, keepdim=True).sqrt())
    latents = network.encoder(x)
    quantized = _fill_codebooks(network, latents)
    network.decoder(quantized[: rows // 2])
    for hook in hooks:
        hook.remove()


def _fill_codebooks(network: Any, latents: torch.Tensor) -> torch.Tensor:
    """Draw each codebook from the residuals of its stage; return the quantised latents.

    Directions come from the first half of the rows, lengths from the second half. A stage then
    removes a few per cent of an unseen residual, as trained ones do, so that even the last of 32
    stages has a residual to quantise.
    """
    residual = latents
    drawn = len(latents) // 2
    for layer in network.quantizer.vq.layers:
        codebook = layer._codebook
        vectors = residual[:drawn].swapaxes(1, 2).reshape(-1, residual.shape[1])
        entries = len(codebook.embed)
        chosen = torch.randperm(len(vectors) * math.ceil(entries / len(vectors)))[:entries]
        embed = vectors[chosen % len(vectors)]  # repeated if too few; jitter makes them differ
        embed = embed / embed.std() + _JITTER * torch.randn_like(embed)
        embed *= _SHRINK * residual[drawn:].std()
        codebook.embed.copy_(embed)
        codebook.embed_avg.copy_(embed)
        codebook.cluster_size.fill_(1.0)
        codebook.inited.fill_(1.0)
        residual = residual - layer.decode(layer.encode(residual))
    return latents - residual


@functools.cache
def _transformers(json_config: str, seed: int) -> transformers.EncodecModel:
    model = config.from_json(json_config)
    network = transformers.EncodecModel(
        transformers.EncodecConfig(
            target_bandwidths=list(model.bandwidths),
            sampling_rate=model.sample_rate,
            audio_channels=model.channels,
            normalize=model.normalize,
            chunk_length_s=model.segment_seconds,
            overlap=None if model.segment_seconds is None else model.overlap,
            hidden_size=model.latent_dim,
            num_filters=model.num_filters,
            num_residual_layers=model.num_residual_layers,
            upsampling_ratios=list(model.ratios),
            norm_type=model.norm,
            kernel_size=model.kernel_size,
            last_kernel_size=model.last_kernel_size,
            residual_kernel_size=model.residual_kernel_size,
            dilation_growth_rate=model.dilation_base,
            use_causal_conv=model.causal,
            pad_mode=model.pad_mode,
            compress=model.compress,
            num_lstm_layers=model.num_lstm_layers,
            codebook_size=model.codebook_size,
            use_conv_shortcut=model.shortcut == "conv",
        )
    )
    official = _official(json_config, seed)
    # Both have the same order of tensors within each part, so the reference does not depend on our
    # table of names.
    state: dict[str, Any] = {}
    for part in ("encoder", "quantizer", "decoder"):
        theirs = getattr(official, part).state_dict()
        names = [name for name in network.state_dict() if name.startswith(f"{part}.")]
        state.update(zip(names, theirs.values(), strict=True))
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
