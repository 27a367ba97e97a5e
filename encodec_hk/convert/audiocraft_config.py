"""Translates audiocraft's `xp.cfg` to the fields of our model config, see `source_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from encodec_hk.pretrained import source_config
from encodec_hk.system import extras
from encodec_hk.system import file_errors

_FIELDS: dict[str, tuple[str, str, Any]] = {
    "sample_rate": ("encodec", "sample_rate", None),
    "channels": ("seanet", "channels", 1),
    "causal": ("seanet", "causal", False),
    "ratios": ("seanet", "ratios", [8, 5, 4, 2]),
    "num_filters": ("seanet", "n_filters", 32),
    "latent_dim": ("seanet", "dimension", 128),
    "num_residual_layers": ("seanet", "n_residual_layers", 3),
    "kernel_size": ("seanet", "kernel_size", 7),
    "last_kernel_size": ("seanet", "last_kernel_size", 7),
    "residual_kernel_size": ("seanet", "residual_kernel_size", 3),
    "dilation_base": ("seanet", "dilation_base", 2),
    "compress": ("seanet", "compress", 2),
    "num_lstm_layers": ("seanet", "lstm", 0),
    "norm": ("seanet", "norm", "none"),
    "pad_mode": ("seanet", "pad_mode", "reflect"),
    "num_codebooks": ("rvq", "n_q", 8),
    "codebook_size": ("rvq", "bins", 1024),
    "normalize": ("encodec", "renormalize", False),
}
"""Our fields: audiocraft's section and name, and its default; `shortcut` differs in meaning."""

_SEANET_FIXED: dict[str, Any] = {
    "activation": "ELU",
    "activation_params": {"alpha": 1.0},
    "norm_params": {},
    "trim_right_ratio": 1.0,
    "final_activation": None,
}
"""Arguments of audiocraft's SEANet whose default is the only value supported here."""

_SEANET_DEFAULTS = {
    **{name: default for section, name, default in _FIELDS.values() if section == "seanet"},
    **_SEANET_FIXED,
    "true_skip": True,
    "disable_norm_outer_blocks": 0,
}


def parse(text: str) -> dict[str, Any]:
    """Translate an `xp.cfg`, a YAML text whose values may refer to each other.

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
        raise ValueError(f"xp.cfg: cannot be read ({file_errors.first_line(error)})") from error
    source_config.require("compression_model", kind, "encodec")
    absent = {"encodec", "seanet", "rvq"} - sections.keys()
    if absent:
        raise ValueError(f"xp.cfg: lacks {', '.join(sorted(absent))}")
    encodec, seanet = sections["encodec"], _seanet(sections["seanet"])
    sections["seanet"] = seanet
    source_config.require("encodec.autoencoder", encodec.get("autoencoder"), "seanet")
    source_config.require("encodec.quantizer", encodec.get("quantizer"), "rvq")
    for field in ("channels", "causal"):
        got = encodec.get(field, False)
        source_config.require(f"encodec.{field}", got, seanet[field], why=f"seanet.{field}")

    stated = {
        ours: sections[section].get(name, default)
        for ours, (section, name, default) in _FIELDS.items()
    }
    stated["ratios"] = tuple(stated["ratios"])
    stated["shortcut"] = "identity" if seanet["true_skip"] else "conv"
    stated["segment_seconds"] = None
    return stated


def _seanet(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return audiocraft's SEANet arguments, which must be the same for encoder and decoder."""
    seanet = _SEANET_DEFAULTS | dict(section)
    for network in ("encoder", "decoder"):
        for field, value in (seanet.pop(network, None) or {}).items():
            if field in ("trim_right_ratio", "final_activation"):  # the decoder's alone
                seanet[field] = value
            elif field != "final_activation_params":
                outer = seanet.get(field)
                source_config.require(
                    f"seanet.{network}.{field}", value, outer, why=f"seanet.{field}"
                )
    seanet.pop("final_activation_params", None)
    unknown = sorted(seanet.keys() - _SEANET_DEFAULTS.keys())
    if unknown:
        raise ValueError(f"seanet: unknown settings {', '.join(unknown)}")
    for field, allowed in _SEANET_FIXED.items():
        is_empty = isinstance(allowed, dict) and not seanet[field]
        source_config.require(f"seanet.{field}", allowed if is_empty else seanet[field], allowed)
    if seanet["norm"] == "time_group_norm":  # a missing weight norm makes no other network
        outer = seanet["disable_norm_outer_blocks"]
        source_config.require(
            "seanet.disable_norm_outer_blocks", outer, 0, why="beside time_group_norm"
        )
    return seanet
