"""What an exported folder says about its codec, the same in every format."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any

import encodec_hk
from encodec_hk import config
from encodec_hk.networks import reach

VERSION = 1
"""Of the facts; raised when a name changes its meaning."""


def facts(codec: encodec_hk.Codec, licence: str) -> dict[str, Any]:
    """Return what a caller has to know about a codec, as it is written to JSON.

    Args:
      codec: the codec.
      licence: of its weights.
    """
    model_config = codec.model_config
    segments = None
    if codec.framing.has_segments:
        segments = {"length": codec.framing.length, "stride": codec.framing.stride}
    return {
        "format": VERSION,
        "name": codec.name,
        "source": codec.source,
        "licence": licence,
        "fingerprint": codec.fingerprint,
        "codes_of": codec.codes_of._asdict(),
        "sample_rate": codec.sample_rate,
        "channels": codec.channels,
        "hop": codec.hop_length,
        "codebook_size": model_config.codebook_size,
        "num_codebooks": codec.num_codebooks,
        "bandwidths": {
            f"{kbps:g}": config.num_codebooks_for(model_config, kbps)
            for kbps in model_config.bandwidths
        },
        "normalize": model_config.normalize,
        "segments": segments,
    }


def is_causal(codec: encodec_hk.Codec, network: str) -> bool:
    """Return whether "encoder" or "decoder" looks at no later input."""
    model_config = codec.model_config
    if network == "decoder" and config.has_vocos(model_config):
        return model_config.vocos.causal
    return model_config.causal


def stream(codec: encodec_hk.Codec, network: str) -> dict[str, int]:
    """Return the length of a stream's first block, and how far the output lags behind.

    They are samples and frames of "encoder", frames and samples of "decoder".
    """
    model_config = codec.model_config
    first_of_audio, first_of_codes = reach.minimum_first_blocks(model_config)
    encoder_lag, decoder_lag = reach.lags(model_config)
    if network == "encoder":
        return {"first_block": first_of_audio * codec.hop_length, "lag": encoder_lag}
    return {"first_block": first_of_codes, "lag": decoder_lag}


def write(path: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Write a folder's manifest, and in it the other files of the folder."""
    text = {**manifest, "files": files(path.parent)}
    path.write_text(json.dumps(text, indent=1) + "\n")


def files(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Return the bytes and the SHA-256 of every file in a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
