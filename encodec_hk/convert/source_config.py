"""Translates the configs of transformers and audiocraft to and from our model configs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from encodec_hk import config
from encodec_hk.system import extras


@dataclasses.dataclass(frozen=True)
class Settings:
    """Fields of our model config, from the config of a source.

    Attributes:
      stated: fields that the source specifies; a user's config must agree.
      implied: defaults for the other fields, used without a user's config.
    """

    stated: Mapping[str, Any]
    implied: Mapping[str, Any]


_TRANSFORMERS = {  # ours: theirs
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
"""Fields with the same meaning in both; shortcut, num_codebooks and overlap differ."""

_AUDIOCRAFT: dict[str, tuple[str | None, Any]] = {
    "channels": ("channels", 1),
    "causal": ("causal", False),
    "ratios": ("ratios", [8, 5, 4, 2]),
    "n_filters": ("num_filters", 32),
    "dimension": ("latent_dim", 128),
    "n_residual_layers": ("num_residual_layers", 3),
    "kernel_size": ("kernel_size", 7),
    "last_kernel_size": ("last_kernel_size", 7),
    "residual_kernel_size": ("residual_kernel_size", 3),
    "dilation_base": ("dilation_base", 2),
    "compress": ("compress", 2),
    "lstm": ("num_lstm_layers", 0),
    "norm": ("norm", "none"),
    "pad_mode": ("pad_mode", "reflect"),
    "true_skip": (None, True),
    "norm_params": (None, {}),
    "activation": (None, "ELU"),
    "activation_params": (None, {"alpha": 1.0}),
    "disable_norm_outer_blocks": (None, 0),
    "trim_right_ratio": (None, 1.0),
    "final_activation": (None, None),
}
"""Arguments of audiocraft's SEANet: our field, None if there is no direct one, and the default."""

_DEFAULT_OVERLAP = 0.01


def from_transformers(fields: Mapping[str, Any]) -> Settings:
    """Translate a transformers `config.json`.

    Raises:
      ValueError: if it is not an EnCodec's, or a value is not supported here.
    """
    _require("model_type", fields.get("model_type"), "encodec")
    defaults = extras.require("transformers").EncodecConfig().to_dict()
    fields = {**defaults, **fields}
    _require("trim_right_ratio", fields["trim_right_ratio"], 1.0)
    dim = fields["hidden_size"]
    if fields["codebook_dim"] is not None:
        _require("codebook_dim", fields["codebook_dim"], dim, why="the hidden_size")
    stated = {ours: _plain(fields[theirs]) for ours, theirs in _TRANSFORMERS.items()}
    stated["shortcut"] = "conv" if fields["use_conv_shortcut"] else "identity"
    stated["bandwidths"] = tuple(float(kbps) for kbps in stated["bandwidths"])
    if stated["segment_seconds"] is not None:
        stated["segment_seconds"] = float(stated["segment_seconds"])
        if fields["overlap"] is None:
            raise ValueError("overlap: got None beside chunk_length_s, must be a number in [0, 1)")
        stated["overlap"] = float(fields["overlap"])
    stated["num_codebooks"] = _transformers_codebooks(stated, stated["bandwidths"][-1])
    return Settings(stated=stated, implied={"overlap": _DEFAULT_OVERLAP})


def to_transformers(model_config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Return the keyword arguments of `transformers.EncodecConfig` for a model config.

    Raises:
      ValueError: if transformers has no such network.
    """
    if not model_config.num_lstm_layers:
        raise ValueError("num_lstm_layers: got 0, must be at least 1 in transformers' EnCodec")
    fields = {theirs: model_config[ours] for ours, theirs in _TRANSFORMERS.items()}
    if model_config.norm == "none":  # weight norm with g = |v| is the same network
        fields["norm_type"] = "weight_norm"
    fields["use_conv_shortcut"] = model_config.shortcut == "conv"
    fields["codebook_dim"] = model_config.latent_dim
    fields["overlap"] = None if model_config.segment_seconds is None else model_config.overlap
    # transformers derives the number of codebooks from the last bandwidth, rounded down.
    count = model_config.num_codebooks
    highest = config.bandwidth_for(model_config, count)
    while _transformers_codebooks(model_config, highest) < count:
        highest = math.nextafter(highest, math.inf)
    bandwidths = sorted(model_config.bandwidths)
    if _transformers_codebooks(model_config, bandwidths[-1]) < count:
        bandwidths.append(highest)
    fields["target_bandwidths"] = bandwidths
    fields["upsampling_ratios"] = list(model_config.ratios)
    return fields


def from_audiocraft(text: str) -> Settings:
    """Translate audiocraft's `xp.cfg`, a YAML text whose values may refer to each other.

    Raises:
      ValueError: if it is not an EnCodec's, or a value is not supported here.
    """
    omegaconf = extras.require("omegaconf")
    try:
        xp_cfg = omegaconf.OmegaConf.create(text)
        # Other sections cannot be resolved: they refer to the environment of their training.
        sections = {
            name: omegaconf.OmegaConf.to_container(xp_cfg[name], resolve=True)
            for name in ("encodec", "seanet", "rvq")
            if xp_cfg.get(name) is not None
        }
        kind = xp_cfg.get("compression_model")
    except Exception as error:  # the YAML parser and the resolver share no exception class
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

    stated = {ours: _plain(seanet[theirs]) for theirs, (ours, _) in _AUDIOCRAFT.items() if ours}
    stated["shortcut"] = "identity" if seanet["true_skip"] else "conv"
    stated["sample_rate"] = encodec.get("sample_rate")
    stated["normalize"] = encodec.get("renormalize", False)
    stated["segment_seconds"] = None
    stated["num_codebooks"] = rvq.get("n_q", 8)
    stated["codebook_size"] = rvq.get("bins", 1024)
    bits = int(stated["codebook_size"]).bit_length() - 1
    highest = stated["num_codebooks"] * bits * _frame_rate(stated) / 1000
    return Settings(stated=stated, implied={"bandwidths": (highest,), "overlap": _DEFAULT_OVERLAP})


def to_model(settings: Settings) -> ml_collections.ConfigDict:
    """Return the model config that a source describes.

    Raises:
      ValueError: if a field is not valid.
    """
    return config.from_json(json.dumps({**settings.implied, **settings.stated}))


def reconcile(
    model_config: ml_collections.ConfigDict, settings: Settings
) -> tuple[ml_collections.ConfigDict, list[str]]:
    """Compare a user's model config with the source, which decides the pad mode.

    Returns:
      The model config with the source's pad mode, and a line for each field that changed.

    Raises:
      ValueError: if another field differs; lists the fields (- config, + source).
    """
    fields = model_config.to_dict()
    stated = {field: fields[field] for field in settings.stated}
    message, lines = [], []
    for field, value, expected in config.differences(stated, settings.stated, folded=True):
        # The weights were trained with one pad mode, and their shapes do not show which.
        if field == "pad_mode":
            fields[field] = expected
            lines.append(f"pad_mode: {expected}, as the source states (config: {value})")
        else:
            message += [f"- {field} {value!r}", f"+ {field} {expected!r}"]
    if message:
        first = "the source's own config differs from --config (- config, + source):"
        raise ValueError("\n".join([first, *message]))
    return config.from_json(json.dumps(fields)), lines


def _seanet(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return audiocraft's SEANet arguments, which must be the same for encoder and decoder."""
    section = dict(section)
    merged = {name: default for name, (_, default) in _AUDIOCRAFT.items()}
    parts = {network: section.pop(network, None) or {} for network in ("encoder", "decoder")}
    merged.update(section)
    for network, part in parts.items():
        for field, value in part.items():
            if field in ("trim_right_ratio", "final_activation", "final_activation_params"):
                merged[field] = value
            elif field not in merged or value != merged[field]:
                outside = merged.get(field)
                _require(f"seanet.{network}.{field}", value, outside, why=f"seanet.{field}")
    merged.pop("final_activation_params", None)
    unknown = sorted(merged.keys() - _AUDIOCRAFT.keys())
    if unknown:
        raise ValueError(f"seanet: unknown settings {', '.join(unknown)}")
    _require("seanet.activation", merged["activation"], "ELU")
    parameters = merged["activation_params"] or {"alpha": 1}
    _require("seanet.activation_params", parameters, {"alpha": 1})
    _require("seanet.final_activation", merged["final_activation"], None)
    _require("seanet.trim_right_ratio", merged["trim_right_ratio"], 1.0)
    _require("seanet.norm_params", merged["norm_params"] or {}, {})
    if merged["norm"] == "time_group_norm":  # a missing weight norm makes no other network
        outer = merged["disable_norm_outer_blocks"]
        _require("seanet.disable_norm_outer_blocks", outer, 0, why="beside time_group_norm")
    return merged


def _frame_rate(fields: Mapping[str, Any]) -> int:
    return -(-fields["sample_rate"] // math.prod(fields["ratios"]))


def _transformers_codebooks(fields: Mapping[str, Any], kbps: float) -> int:
    """Return the number of codebooks that transformers derives from a bandwidth."""
    bits = math.ceil(math.log2(fields["codebook_size"]))
    return int(1000 * kbps // (_frame_rate(fields) * bits))


def _require(field: str, value: Any, allowed: Any, why: str = "") -> None:
    if value != allowed:
        note = f" ({why})" if why else ""
        raise ValueError(f"{field}: got {value!r}, must be {allowed!r}{note}")


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def first_line(error: Exception) -> str:
    """Return the first 200 characters of a message's first line, or the type if it is empty."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
