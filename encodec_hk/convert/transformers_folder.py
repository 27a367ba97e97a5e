"""Writes a checkpoint as a folder that `transformers.EncodecModel.from_pretrained` loads."""

from __future__ import annotations

import os
import pathlib

import ml_collections

from encodec_hk import checkpoint
from encodec_hk.convert import tensor_names
from encodec_hk.convert import transformers_network
from encodec_hk.convert import weights
from encodec_hk.system import extras


def write_folder(
    folder: pathlib.Path, params: checkpoint.Params, model: ml_collections.ConfigDict
) -> None:
    """Writes config.json, model.safetensors and preprocessor_config.json.

    Args:
      folder: made where it is missing.
      params: Haiku parameters of the model config.
      model: the model config.

    Raises:
      ValueError: transformers has no such network.
    """
    tensors = weights.to_torch(params, tensor_names.table(model, tensor_names.TRANSFORMERS))
    network = transformers_network.build(model, tensors, tensor_names.TRANSFORMERS)
    config = network.config
    processor = extras.require("transformers").EncodecFeatureExtractor(
        feature_size=config.audio_channels,
        sampling_rate=config.sampling_rate,
        padding_value=0.0,
        padding_side="right",
        return_attention_mask=True,
        chunk_length_s=config.chunk_length_s,
        overlap=config.overlap,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with transformers_network.no_progress_bars():
        network.save_pretrained(folder)
    processor.save_pretrained(folder)
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():  # safetensors makes files that their owner alone may read
        file.chmod(0o666 & ~umask)
