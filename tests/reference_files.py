"""Writes the networks of `references` in the formats of their publishers."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import ml_collections
import safetensors.torch
import torch
import transformers
import yaml


def save_official(network: Any, folder: pathlib.Path, stem: str = "encodec_24khz") -> pathlib.Path:
    """Write a state dict as Meta does: `STEM-HASH.th`, the hash from the file's SHA-256."""
    path = folder / f"{stem}.th"
    torch.save(network.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(folder / f"{stem}-{sha256[:8]}.th")


def save_transformers(
    network: transformers.EncodecModel, folder: pathlib.Path, spelling: str = "safetensors"
) -> pathlib.Path:
    """Write a folder of transformers.

    Args:
      network: the network.
      folder: the folder, created if missing.
      spelling: "safetensors", or "sharded" for several files of it; "bin" for a pickle; "weight_g"
        for a pickle with the tensor names of weight norm used on the hub; "safetensors weight_g"
        and "safetensors folded" for safetensors with these names, and without weight norm.
    """
    if spelling in ("safetensors", "sharded"):
        network.save_pretrained(folder, max_shard_size="5GB" if spelling != "sharded" else "20KB")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    network.config.save_pretrained(folder)
    state = network.state_dict()
    for old, new in (("original0", "weight_g"), ("original1", "weight_v")):
        old = f".parametrizations.weight.{old}"
        if spelling.endswith("weight_g"):
            state = {key.replace(old, f".{new}"): value for key, value in state.items()}
        elif spelling.endswith("folded"):
            for key in [key for key in state if key.endswith(old)]:
                layer = network.get_submodule(key.removesuffix(old))
                del state[key]
                state[f"{key.removesuffix(old)}.weight"] = layer.weight.detach()
    if spelling.startswith("safetensors"):
        state = {key: value.contiguous().clone() for key, value in state.items()}
        safetensors.torch.save_file(state, folder / "model.safetensors", {"format": "pt"})
    else:
        torch.save(state, folder / "pytorch_model.bin")
    return folder


def save_audiocraft(
    network: Any, folder: pathlib.Path, model: ml_collections.ConfigDict, **seanet: Any
) -> pathlib.Path:
    """Write `compression_state_dict.bin` as audiocraft exports it.

    Args:
      network: an `official_model`; audiocraft uses the same tensor names.
      folder: the folder, created if missing.
      model: the network's model config.
      **seanet: fields of the seanet section to change or add.
    """
    # In the order and with the interpolations of audiocraft's own config files. The last section
    # cannot be resolved outside the machines of the training.
    xp_cfg = {
        "sample_rate": model.sample_rate,
        "channels": model.channels,
        "solver": "compression",
        "msspec": {"sample_rate": "${sample_rate}", "range_start": 6},
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": "${sample_rate}",
            "channels": "${channels}",
            "causal": model.causal,
            "renormalize": model.normalize,
        },
        "seanet": {
            "dimension": model.latent_dim,
            "channels": "${channels}",
            "causal": "${encodec.causal}",
            "n_filters": model.num_filters,
            "n_residual_layers": model.num_residual_layers,
            "ratios": list(model.ratios),
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": model.norm,
            "norm_params": {},
            "kernel_size": model.kernel_size,
            "residual_kernel_size": model.residual_kernel_size,
            "last_kernel_size": model.last_kernel_size,
            "dilation_base": model.dilation_base,
            "pad_mode": model.pad_mode,
            "true_skip": model.shortcut == "identity",
            "compress": model.compress,
            "lstm": model.num_lstm_layers,
            "disable_norm_outer_blocks": 0,
            "decoder": {
                "trim_right_ratio": 1.0,
                "final_activation": None,
                "final_activation_params": None,
            },
            "encoder": {},
            **seanet,
        },
        "rvq": {
            "n_q": model.num_codebooks,
            "q_dropout": False,
            "bins": model.codebook_size,
            "decay": 0.99,
            "kmeans_init": True,
        },
        "dora": {"dir": "/checkpoint/${oc.env:A_VARIABLE_THAT_IS_NOT_SET}/experiments"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "compression_state_dict.bin"
    package = {
        "best_state": network.state_dict(),
        "xp.cfg": yaml.safe_dump(xp_cfg, sort_keys=False),
        "version": "1.0.0",
        "exported": True,
    }
    torch.save(package, path)
    return path
