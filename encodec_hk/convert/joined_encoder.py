"""Joins the encoder of an EnCodec model and a Vocos decoder of its codes."""

from __future__ import annotations

import json
from collections.abc import Mapping

import ml_collections
import numpy as np

from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.networks import model

_RELATIVE = 1e-4  # difference of codebooks, of their largest value: int16 rounds by less
_LAYOUT = ("sample_rate", "channels", "latent_dim", "codebook_size", "normalize", "segment_seconds")


def join(
    params: checkpoint.Params,
    model_config: ml_collections.ConfigDict,
    encoder_params: checkpoint.Params,
    encoder_config: ml_collections.ConfigDict,
) -> tuple[checkpoint.Params, ml_collections.ConfigDict]:
    """Return the parameters and config of a model with the one's decoder and the other's encoder.

    It has the codebooks of the encoder's model, as many as the decoder has.

    Args:
      params: of the model with the Vocos decoder; an encoder in them is replaced.
      model_config: of that model.
      encoder_params: of the EnCodec model.
      encoder_config: of that model.

    Raises:
      ValueError: if the decoder is not of the encoder's codes.
    """
    if not config.has_vocos(model_config):
        raise ValueError(f"decoder: got {model_config.decoder!r}, must be vocos beside --join")
    if not model.has_encoder(encoder_params):
        raise ValueError("has no encoder")
    own: Mapping[str, object] = {name: model_config[name] for name in _LAYOUT}
    other: Mapping[str, object] = {name: encoder_config[name] for name in _LAYOUT}
    lines = [each.line("the decoder") for each in config.differences(other, own)]
    hops = config.hop_length(encoder_config), config.hop_length(model_config)
    if hops[0] != hops[1]:
        lines.append(f"hop: got {hops[0]}, the decoder has {hops[1]}")
    if encoder_config.num_codebooks < model_config.num_codebooks:
        counts = encoder_config.num_codebooks, model_config.num_codebooks
        lines.append(f"config.model.num_codebooks: got {counts[0]}, the decoder has {counts[1]}")
    if lines:
        raise ValueError("; ".join(lines))
    codebooks = np.asarray(encoder_params["quantizer"]["codebooks"])[: model_config.num_codebooks]
    trained_for = np.asarray(params["quantizer"]["codebooks"])
    difference = np.abs(codebooks - trained_for).max() / np.abs(trained_for).max()
    if not difference <= _RELATIVE:
        raise ValueError(
            "its codebooks are not those of the decoder, which decodes other codes (they differ by "
            f"{difference:.2g} of the largest value)"
        )
    fields = encoder_config.to_dict()
    for name in ("decoder", "vocos", "num_codebooks", "bandwidths"):
        fields[name] = model_config.to_dict()[name]
    joined = {key: value for key, value in params.items() if key.startswith("decoder")}
    joined |= {key: value for key, value in encoder_params.items() if key.startswith("encoder")}
    joined["quantizer"] = {"codebooks": codebooks}
    return joined, config.from_json(json.dumps(fields))
