"""Translates the configs of transformers and audiocraft to and from our model configs.

What a source specifies is a dictionary of fields of `config.model`, with which a user's config must
agree. It may lack `overlap`, and `bandwidths` if it is audiocraft's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from encodec_hk import config
from encodec_hk.system import extras
from encodec_hk.system import rules

_FIELDS: dict[str, tuple[str | None, str | None, Any]] = {
    "sample_rate": ("sampling_rate", "encodec.sample_rate", None),
    "channels": ("audio_channels", "seanet.channels", 1),
    "causal": ("use_causal_conv", "seanet.causal", False),
    "ratios": ("upsampling_ratios", "seanet.ratios", [8, 5, 4, 2]),
    "num_filters": ("num_filters", "seanet.n_filters", 32),
    "latent_dim": ("hidden_size", "seanet.dimension", 128),
    "num_residual_layers": ("num_residual_layers", "seanet.n_residual_layers", 3),
    "kernel_size": ("kernel_size", "seanet.kernel_size", 7),
    "last_kernel_size": ("last_kernel_size", "seanet.last_kernel_size", 7),
    "residual_kernel_size": ("residual_kernel_size", "seanet.residual_kernel_size", 3),
    "dilation_base": ("dilation_growth_rate", "seanet.dilation_base", 2),
    "compress": ("compress", "seanet.compress", 2),
    "num_lstm_layers": ("num_lstm_layers", "seanet.lstm", 0),
    "norm": ("norm_type", "seanet.norm", "none"),
    "pad_mode": ("pad_mode", "seanet.pad_mode", "reflect"),
    "num_codebooks": (None, "rvq.n_q", 8),
    "codebook_size": ("codebook_size", "rvq.bins", 1024),
    "bandwidths": ("target_bandwidths", None, None),
    "normalize": ("normalize", "encodec.renormalize", False),
    "segment_seconds": ("chunk_length_s", None, None),
}
"""Our fields: transformers' name, audiocraft's section and name, and audiocraft's default.

The values have the same meaning in all three. `shortcut` and `overlap` differ.
"""

_TRANSFORMERS = {ours: theirs for ours, (theirs, _, _) in _FIELDS.items() if theirs}
_AUDIOCRAFT = {
    ours: (*path.split("."), default) for ours, (_, path, default) in _FIELDS.items() if path
}

_SEANET_FIXED: dict[str, Any] = {
    "activation": "ELU",
    "activation_params": {"alpha": 1.0},
    "norm_params": {},
    "trim_right_ratio": 1.0,
    "final_activation": None,
}
"""Arguments of audiocraft's SEANet whose default is the only value supported here."""

_SEANET_DEFAULTS = {
    **{name: default for section, name, default in _AUDIOCRAFT.values() if section == "seanet"},
    **_SEANET_FIXED,
    "true_skip": True,
    "disable_norm_outer_blocks": 0,
}


def from_transformers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a transformers `config.json`.

    Raises:
      ValueError: if it is not an EnCodec's, or a value is not supported here.
    """
    _require("model_type", fields.get("model_type"), "encodec")
    fields = {**extras.require("transformers").EncodecConfig().to_dict(), **fields}
    _require("trim_right_ratio", fields["trim_right_ratio"], 1.0)
    if fields["codebook_dim"] is not None:
        dim = fields["hidden_size"]
        _require("codebook_dim", fields["codebook_dim"], dim, why="the hidden_size")
    stated = {ours: fields[theirs] for ours, theirs in _TRANSFORMERS.items()}
    stated["ratios"] = tuple(stated["ratios"])
    stated["shortcut"] = "conv" if fields["use_conv_shortcut"] else "identity"
    stated["bandwidths"] = tuple(float(kbps) for kbps in stated["bandwidths"])
    if stated["segment_seconds"] is not None:
        stated["segment_seconds"] = float(stated["segment_seconds"])
        if fields["overlap"] is None:
            raise ValueError("overlap: got None beside chunk_length_s, must be a number in [0, 1)")
        stated["overlap"] = float(fields["overlap"])
    model_config = ml_collections.ConfigDict(stated)
    stated["num_codebooks"] = _transformers_codebooks(model_config, stated["bandwidths"][-1])
    return stated


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
    fields["upsampling_ratios"] = list(model_config.ratios)
    fields["target_bandwidths"] = bandwidths = sorted(model_config.bandwidths)
    # transformers derives the number of codebooks from the last bandwidth, rounded down.
    count = model_config.num_codebooks
    if _transformers_codebooks(model_config, bandwidths[-1]) < count:
        highest = config.bandwidth_for(model_config, count)
        while _transformers_codebooks(model_config, highest) < count:
            highest = math.nextafter(highest, math.inf)
        bandwidths.append(highest)
    return fields


def from_audiocraft(text: str) -> dict[str, Any]:
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
    encodec, seanet = sections["encodec"], _seanet(sections["seanet"])
    sections["seanet"] = seanet
    _require("encodec.autoencoder", encodec.get("autoencoder"), "seanet")
    _require("encodec.quantizer", encodec.get("quantizer"), "rvq")
    for field in ("channels", "causal"):
        got = encodec.get(field, False)
        _require(f"encodec.{field}", got, seanet[field], why=f"seanet.{field}")

    stated = {
        ours: sections[section].get(name, default)
        for ours, (section, name, default) in _AUDIOCRAFT.items()
    }
    stated["ratios"] = tuple(stated["ratios"])
    stated["shortcut"] = "identity" if seanet["true_skip"] else "conv"
    stated["segment_seconds"] = None
    return stated


def to_model(stated: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Return the model config that a source describes.

    Raises:
      ValueError: if a field is not valid.
    """
    fields = {"overlap": 0.01, **stated}
    if "bandwidths" not in fields:
        partial = ml_collections.ConfigDict(fields)
        try:
            fields["bandwidths"] = [config.bandwidth_for(partial, partial.num_codebooks)]
        except (TypeError, ArithmeticError) as error:  # a field of a wrong type
            raise ValueError(f"a field has no valid value ({first_line(error)})") from error
    return config.from_json(json.dumps(fields))


def reconcile(
    model_config: ml_collections.ConfigDict, stated: Mapping[str, Any]
) -> tuple[ml_collections.ConfigDict, list[str]]:
    """Compare a user's model config with the source, which decides the pad mode.

    Returns:
      The model config with the source's pad mode, and a line for each field that changed.

    Raises:
      ValueError: if another field differs; lists the fields (- config, + source).
    """
    fields = model_config.to_dict()
    own = {field: fields[field] for field in stated}
    message, lines = [], []
    for field, value, expected in config.differences(own, stated, folded=True):
        # The weights were trained with one pad mode, and their shapes do not show which.
        if field == "pad_mode":
            fields[field] = expected
            lines.append(f"pad_mode: {expected}, as the source states (config: {value})")
        else:
            message += [f"- {field} {value!r}", f"+ {field} {expected!r}"]
    if message:
        message.insert(0, "the source's own config differs from --config (- config, + source):")
        raise ValueError("\n".join(message))
    return config.from_json(json.dumps(fields)), lines


def _seanet(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return audiocraft's SEANet arguments, which must be the same for encoder and decoder."""
    seanet = _SEANET_DEFAULTS | dict(section)
    for network in ("encoder", "decoder"):
        for field, value in (seanet.pop(network, None) or {}).items():
            if field in ("trim_right_ratio", "final_activation"):  # the decoder's alone
                seanet[field] = value
            elif field != "final_activation_params":
                outer = seanet.get(field)
                _require(f"seanet.{network}.{field}", value, outer, why=f"seanet.{field}")
    seanet.pop("final_activation_params", None)
    unknown = sorted(seanet.keys() - _SEANET_DEFAULTS.keys())
    if unknown:
        raise ValueError(f"seanet: unknown settings {', '.join(unknown)}")
    for field, allowed in _SEANET_FIXED.items():
        is_empty = isinstance(allowed, dict) and not seanet[field]
        _require(f"seanet.{field}", allowed if is_empty else seanet[field], allowed)
    if seanet["norm"] == "time_group_norm":  # a missing weight norm makes no other network
        outer = seanet["disable_norm_outer_blocks"]
        _require("seanet.disable_norm_outer_blocks", outer, 0, why="beside time_group_norm")
    return seanet


def _transformers_codebooks(model_config: ml_collections.ConfigDict, kbps: float) -> int:
    """Return the number of codebooks that transformers derives from a bandwidth."""
    bits = config.bits_per_codebook(model_config) * config.frame_rate(model_config)
    return int(1000 * kbps // bits)


def _require(field: str, value: Any, allowed: Any, why: str = "") -> None:
    if value != allowed:
        raise rules.error(field, value, f"{allowed!r} ({why})" if why else repr(allowed))


def first_line(error: Exception) -> str:
    """Return the first 200 characters of a message's first line, or the type if it is empty."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
