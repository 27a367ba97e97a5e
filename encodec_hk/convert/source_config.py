"""Configs of transformers and audiocraft, translated to and from ours.

What a source says about itself comes in two parts: `stated`, which a config given by the user must
agree with, and `implied`, what follows where no config is given.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from encodec_hk import config as config_lib
from encodec_hk.system import extras


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fields of our model config, as a source has them."""

    stated: Mapping[str, Any]
    implied: Mapping[str, Any]


_TRANSFORMERS = {
    "sample_rate": "sampling_rate",
    "channels": "audio_channels",
    "causal": "use_causal_conv",
    "ratios": "upsampling_ratios",
    "num_filters": "num_filters",
    "latent_dim": "hidden_size",
    "num_residual_layers": "num_residual_layers",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_base": "dilation_growth_rate",
    "compress": "compress",
    "num_lstm_layers": "num_lstm_layers",
    "norm": "norm_type",
    "pad_mode": "pad_mode",
    "codebook_size": "codebook_size",
    "bandwidths": "target_bandwidths",
    "normalize": "normalize",
    "segment_seconds": "chunk_length_s",
}
"""Fields that mean the same in both; shortcut, num_codebooks and overlap do not."""

_AUDIOCRAFT_SEANET = {
    "channels": "channels",
    "causal": "causal",
    "ratios": "ratios",
    "num_filters": "n_filters",
    "latent_dim": "dimension",
    "num_residual_layers": "n_residual_layers",
    "kernel_size": "kernel_size",
    "last_kernel_size": "last_kernel_size",
    "residual_kernel_size": "residual_kernel_size",
    "dilation_base": "dilation_base",
    "compress": "compress",
    "num_lstm_layers": "lstm",
    "norm": "norm",
    "pad_mode": "pad_mode",
}

_AUDIOCRAFT_DEFAULTS: dict[str, Any] = {
    "channels": 1,
    "causal": False,
    "ratios": [8, 5, 4, 2],
    "n_filters": 32,
    "dimension": 128,
    "n_residual_layers": 3,
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_base": 2,
    "compress": 2,
    "lstm": 0,
    "norm": "none",
    "norm_params": {},
    "pad_mode": "reflect",
    "true_skip": True,
    "activation": "ELU",
    "activation_params": {"alpha": 1.0},
    "disable_norm_outer_blocks": 0,
    "trim_right_ratio": 1.0,
    "final_activation": None,
}
"""What audiocraft's SEANet takes where its config has nothing."""

_DEFAULT_OVERLAP = 0.01


def from_transformers(config: Mapping[str, Any]) -> Settings:
    """Settings of a transformers `config.json`.

    Raises:
      ValueError: it is no EnCodec's, or asks for what the networks here do not have.
    """
    _require("model_type", config.get("model_type"), "encodec")
    defaults = extras.require("transformers").EncodecConfig().to_dict()
    config = {**defaults, **config}
    _require("trim_right_ratio", config["trim_right_ratio"], 1.0)
    dim = config["hidden_size"]
    if config["codebook_dim"] is not None:
        _require("codebook_dim", config["codebook_dim"], dim, why="the hidden_size")
    stated = {ours: _plain(config[theirs]) for ours, theirs in _TRANSFORMERS.items()}
    stated["shortcut"] = "conv" if config["use_conv_shortcut"] else "identity"
    stated["bandwidths"] = tuple(float(kbps) for kbps in stated["bandwidths"])
    if stated["segment_seconds"] is not None:
        stated["segment_seconds"] = float(stated["segment_seconds"])
        if config["overlap"] is None:
            raise ValueError("overlap: got None beside chunk_length_s, must be a number in [0, 1)")
        stated["overlap"] = float(config["overlap"])
    stated["num_codebooks"] = _transformers_codebooks(stated, stated["bandwidths"][-1])
    return Settings(stated=stated, implied={"overlap": _DEFAULT_OVERLAP})


def to_transformers(model: ml_collections.ConfigDict) -> dict[str, Any]:
    """Keyword arguments of `transformers.EncodecConfig` for a model config.

    Raises:
      ValueError: transformers has no such network.
    """
    if not model.num_lstm_layers:
        raise ValueError("num_lstm_layers: got 0, transformers' EnCodec must have at least 1")
    config = {theirs: model[ours] for ours, theirs in _TRANSFORMERS.items()}
    if model.norm == "none":  # weight norm with the weights' own norms is the same network
        config["norm_type"] = "weight_norm"
    config["use_conv_shortcut"] = model.shortcut == "conv"
    config["codebook_dim"] = model.latent_dim
    config["overlap"] = None if model.segment_seconds is None else model.overlap
    # transformers derives the number of codebooks from the last bandwidth, rounded down.
    bandwidths = sorted(model.bandwidths)
    highest = config_lib.bandwidth_for(model, model.num_codebooks)
    while _transformers_codebooks(model, highest) < model.num_codebooks:
        highest = math.nextafter(highest, math.inf)
    if _transformers_codebooks(model, bandwidths[-1]) < model.num_codebooks:
        bandwidths.append(highest)
    config["target_bandwidths"] = bandwidths
    config["upsampling_ratios"] = list(model.ratios)
    return config


def from_audiocraft(text: str) -> Settings:
    """Settings of audiocraft's `xp.cfg`, a YAML text whose values may refer to each other.

    Raises:
      ValueError: it is no EnCodec's, or asks for what the networks here do not have.
    """
    omegaconf = extras.require("omegaconf")
    try:
        config = omegaconf.OmegaConf.create(text)
        # Only these sections are resolved: others refer to the environment of their training.
        sections = {
            name: omegaconf.OmegaConf.to_container(config[name], resolve=True)
            for name in ("encodec", "seanet", "rvq")
            if config.get(name) is not None
        }
        kind = config.get("compression_model")
    except Exception as error:  # the YAML parser and the resolver have no class in common
        raise ValueError(f"xp.cfg: cannot be read ({first_line(error)})") from error
    _require("compression_model", kind, "encodec")
    absent = {"encodec", "seanet", "rvq"} - sections.keys()
    if absent:
        raise ValueError(f"xp.cfg: lacks {', '.join(sorted(absent))}")
    encodec, rvq = sections["encodec"], sections["rvq"]
    _require("encodec.autoencoder", encodec.get("autoencoder"), "seanet")
    _require("encodec.quantizer", encodec.get("quantizer"), "rvq")
    seanet = _seanet(sections["seanet"])
    for field in ("channels", "causal"):
        got = encodec.get(field, False)
        _require(f"encodec.{field}", got, seanet[field], why=f"seanet.{field}")

    stated = {ours: _plain(seanet[theirs]) for ours, theirs in _AUDIOCRAFT_SEANET.items()}
    stated["shortcut"] = "identity" if seanet["true_skip"] else "conv"
    stated["sample_rate"] = encodec.get("sample_rate")
    stated["normalize"] = encodec.get("renormalize", False)
    stated["segment_seconds"] = None
    stated["num_codebooks"] = rvq.get("n_q", 8)
    stated["codebook_size"] = rvq.get("bins", 1024)
    frame_rate = -(-stated["sample_rate"] // math.prod(stated["ratios"]))
    bits = int(stated["codebook_size"]).bit_length() - 1
    highest = stated["num_codebooks"] * bits * frame_rate / 1000
    return Settings(stated=stated, implied={"bandwidths": (highest,), "overlap": _DEFAULT_OVERLAP})


def to_model(settings: Settings) -> ml_collections.ConfigDict:
    """The model config that a source itself describes."""
    return config_lib.from_json(json.dumps({**settings.implied, **settings.stated}))


def reconcile(
    model: ml_collections.ConfigDict, settings: Settings
) -> tuple[ml_collections.ConfigDict, list[str]]:
    """A user's model config with the source's pad mode, once all else is found to agree.

    Returns:
      The model config, and a line for each field that the source changed.

    Raises:
      ValueError: a line, then every field that differs: - as the config has it, + as the source.
    """
    fields = model.to_dict()
    differing = {
        field: value
        for field, value in settings.stated.items()
        if _canonical(fields[field]) != _canonical(value)
    }
    lines = []
    if "pad_mode" in differing:
        # The weights were trained with one pad mode and their shapes do not show which.
        fields["pad_mode"] = differing.pop("pad_mode")
        lines.append(
            f"pad_mode: {fields['pad_mode']}, as the source states (config: {model.pad_mode})"
        )
    if differing:
        words = ["the source's own config differs from --config (- config, + source):"]
        for field, value in sorted(differing.items()):
            words += [f"- {field} {fields[field]!r}", f"+ {field} {value!r}"]
        raise ValueError("\n".join(words))
    return config_lib.from_json(json.dumps(fields)), lines


def _seanet(section: Mapping[str, Any]) -> dict[str, Any]:
    """Audiocraft's SEANet arguments, checked to be the same for encoder and decoder."""
    section = dict(section)
    merged = dict(_AUDIOCRAFT_DEFAULTS)
    parts = {network: section.pop(network, None) or {} for network in ("encoder", "decoder")}
    merged.update(section)
    for network, part in parts.items():
        for field, value in part.items():
            if field in (
                "trim_right_ratio",
                "final_activation",
                "final_activation_params",
            ):
                merged[field] = value
            elif field not in merged or value != merged[field]:
                _require(
                    f"seanet.{network}.{field}",
                    value,
                    merged.get(field),
                    why="as outside it",
                )
    merged.pop("final_activation_params", None)
    unknown = sorted(merged.keys() - _AUDIOCRAFT_DEFAULTS.keys())
    if unknown:
        raise ValueError(f"seanet: unknown settings {', '.join(unknown)}")
    _require("seanet.activation", merged["activation"], "ELU")
    _require(
        "seanet.activation_params",
        merged["activation_params"] or {"alpha": 1},
        {"alpha": 1},
    )
    _require("seanet.final_activation", merged["final_activation"], None)
    _require("seanet.trim_right_ratio", merged["trim_right_ratio"], 1.0)
    _require("seanet.norm_params", merged["norm_params"] or {}, {})
    if merged["norm"] == "time_group_norm":  # a weight norm left out is only a spelling
        outer = merged["disable_norm_outer_blocks"]
        _require("seanet.disable_norm_outer_blocks", outer, 0, why="beside time_group_norm")
    return merged


def _transformers_codebooks(model: Mapping[str, Any], kbps: float) -> int:
    """Codebooks that transformers makes of a bandwidth."""
    frame_rate = -(-model["sample_rate"] // math.prod(model["ratios"]))
    bits = math.ceil(math.log2(model["codebook_size"]))
    return int(1000 * kbps // (frame_rate * bits))


def _require(field: str, value: Any, allowed: Any, why: str = "") -> None:
    if value != allowed:
        note = f" ({why})" if why else ""
        raise ValueError(f"{field}: got {value!r}, only {allowed!r}{note} is supported")


def _canonical(value: Any) -> Any:
    # Folded weight norm and no norm are one network.
    return "none" if value == "weight_norm" else value


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def first_line(error: Exception) -> str:
    """What an error says, in a line of at most 200 characters; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
