"""Translates the configs of transformers to and from our model configs.

What a source specifies is a dictionary of fields of `config.model`. It may lack `overlap`, and
`bandwidths` if it is audiocraft's (`convert.audiocraft_config`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from encodec_hk import config
from encodec_hk.system import file_errors
from encodec_hk.system import rules

_FIELDS = {
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
"""Our fields and transformers' whose values mean the same; `shortcut` and `overlap` differ."""

_DEFAULTS: dict[str, Any] = {
    "sampling_rate": 24000,
    "audio_channels": 1,
    "use_causal_conv": True,
    "upsampling_ratios": [8, 5, 4, 2],
    "num_filters": 32,
    "hidden_size": 128,
    "num_residual_layers": 1,
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "compress": 2,
    "num_lstm_layers": 2,
    "norm_type": "weight_norm",
    "pad_mode": "reflect",
    "codebook_size": 1024,
    "codebook_dim": 128,
    "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0],
    "normalize": False,
    "chunk_length_s": None,
    "overlap": None,
    "use_conv_shortcut": True,
    "trim_right_ratio": 1.0,
}
"""Values of `transformers.EncodecConfig`; a `config.json` may state only what differs."""


def from_transformers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a transformers `config.json`.

    Raises:
      ValueError: if it is not an EnCodec's, or a value is not supported here.
    """
    require("model_type", fields.get("model_type"), "encodec")
    fields = {**_DEFAULTS, **fields}
    require("trim_right_ratio", fields["trim_right_ratio"], 1.0)
    if fields["codebook_dim"] is not None:
        dim = fields["hidden_size"]
        require("codebook_dim", fields["codebook_dim"], dim, why="the hidden_size")
    stated = {ours: fields[theirs] for ours, theirs in _FIELDS.items()}
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
    fields = {theirs: model_config[ours] for ours, theirs in _FIELDS.items()}
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
            raise ValueError(
                f"a field has no valid value ({file_errors.first_line(error)})"
            ) from error
    return config.from_json(json.dumps(fields))


def _transformers_codebooks(model_config: ml_collections.ConfigDict, kbps: float) -> int:
    """Return the number of codebooks that transformers derives from a bandwidth."""
    bits = config.bits_per_codebook(model_config) * config.frame_rate(model_config)
    return int(1000 * kbps // bits)


def require(field: str, value: Any, allowed: Any, why: str = "") -> None:
    """Raise ValueError unless a field has the only value that is supported; `why` may explain."""
    if value != allowed:
        raise rules.error(field, value, f"{allowed!r} ({why})" if why else repr(allowed))
