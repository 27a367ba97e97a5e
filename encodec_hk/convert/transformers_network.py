"""Builds the `transformers` network of a model config; writes and loads its checkpoint folder."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import ml_collections
import numpy as np

from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.convert import network_tensors
from encodec_hk.pretrained import source_config
from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import weights
from encodec_hk.system import extras

if TYPE_CHECKING:
    import transformers


def build(
    model_config: ml_collections.ConfigDict,
    tensors: Mapping[str, np.ndarray],
    naming: tensor_names.Naming,
) -> transformers.EncodecModel:
    """Return a `transformers.EncodecModel` in evaluation mode.

    The tensors, of a source or of `weights.to_torch`, are copied unchanged, with weight norm in its
    parts. None passes through our layout, so the network is an independent reference for ours.

    Raises:
      ValueError: if transformers has no such network, or a tensor is missing or misshaped.
    """
    transformers = extras.require("transformers")
    arguments = source_config.to_transformers(model_config)
    network = transformers.EncodecModel(transformers.EncodecConfig(**arguments)).eval()
    folded = weights.fold_weight_norm(tensors)
    weights.check(folded, model_config, naming)
    sources, targets = (
        [source for row in tensor_names.table(model_config, each) for source in row.sources]
        for each in (naming, tensor_names.TRANSFORMERS)
    )
    target_of = dict(zip(sources, targets, strict=True))
    renamed = {}
    for key, value in {**folded, **tensors}.items():
        name, part = weights.parse(key)
        if name in target_of:
            renamed[target_of[name], part] = value
    network_tensors.fill(network, renamed)
    for layer in network.quantizer.layers:
        # Training would continue as if each entry had been used once.
        layer.codebook.embed_avg.copy_(layer.codebook.embed)
        layer.codebook.cluster_size.fill_(1)
    return network


def write_folder(
    folder: pathlib.Path, params: checkpoint.Params, model_config: ml_collections.ConfigDict
) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json to a new or empty folder.

    Raises:
      ValueError: if transformers has no such network.
    """
    for network in config.networks_of_spectra(model_config):  # `to_torch` has no names for them
        kind = model_config[network]
        raise ValueError(f"{network}: got {kind!r}, must be seanet in transformers' EnCodec")
    tensors = weights.to_torch(params, model_config, tensor_names.TRANSFORMERS)
    network = build(model_config, tensors, tensor_names.TRANSFORMERS)
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
    with _no_progress_bars():
        network.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in folder.iterdir():  # safetensors creates files that only their owner can read
        file.chmod(folder.stat().st_mode & 0o666)


def load_folder(folder: pathlib.Path) -> transformers.EncodecModel:
    """Load the network of a folder, in evaluation mode."""
    with _no_progress_bars():
        return extras.require("transformers").EncodecModel.from_pretrained(folder).eval()


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Suppress the progress bars of transformers, for work of about a second."""
    logging = extras.require("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
