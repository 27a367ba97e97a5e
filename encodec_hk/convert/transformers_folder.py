"""Writes and loads a checkpoint folder of transformers."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

import ml_collections

from encodec_hk import checkpoint
from encodec_hk.convert import tensor_names
from encodec_hk.convert import transformers_network
from encodec_hk.convert import weights
from encodec_hk.system import extras

if TYPE_CHECKING:
    import transformers


def write_folder(
    folder: pathlib.Path, params: checkpoint.Params, model_config: ml_collections.ConfigDict
) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json.

    Args:
      folder: the folder, created if missing.
      params: parameters of the model.
      model_config: config of the model.

    Raises:
      ValueError: if transformers has no such network.
    """
    tensors = weights.to_torch(params, model_config, tensor_names.TRANSFORMERS)
    network = transformers_network.build(model_config, tensors, tensor_names.TRANSFORMERS)
    processor = extras.require("transformers").EncodecFeatureExtractor(
        feature_size=model_config.channels,
        sampling_rate=model_config.sample_rate,
        padding_value=0.0,
        padding_side="right",
        return_attention_mask=True,
        chunk_length_s=network.config.chunk_length_s,
        overlap=network.config.overlap,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with transformers_network.no_progress_bars():
        network.save_pretrained(folder)
    processor.save_pretrained(folder)
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():  # safetensors creates files that only their owner can read
        file.chmod(0o666 & ~umask)


def load(folder: pathlib.Path) -> transformers.EncodecModel:
    """Load the network of a folder, in evaluation mode."""
    with transformers_network.no_progress_bars():
        return extras.require("transformers").EncodecModel.from_pretrained(folder).eval()
