"""Builds the `transformers` network of a model config; writes and loads its checkpoint folder."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ml_collections
import numpy as np

from encodec_hk import checkpoint
from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.convert import weights
from encodec_hk.system import extras

if TYPE_CHECKING:
    import transformers


def build(
    model_config: ml_collections.ConfigDict,
    tensors: Mapping[str, np.ndarray],
    naming: tensor_names.Naming,
) -> transformers.EncodecModel:
    """Return a `transformers.EncodecModel` in evaluation mode.

    The tensors are copied unchanged, with weight norm in its parts. None passes through our layout,
    so the network is an independent reference for ours.

    Args:
      model_config: the model config.
      tensors: tensors of a source, or of `weights.to_torch`.
      naming: naming of the tensors.

    Raises:
      ValueError: if transformers has no such network, or a tensor is missing or misshaped.
    """
    torch = extras.require("torch")
    transformers = extras.require("transformers")
    arguments = source_config.to_transformers(model_config)
    network = transformers.EncodecModel(transformers.EncodecConfig(**arguments)).eval()
    folded = weights.fold_weight_norm(tensors)
    weights.check(folded, model_config, naming)
    by_part = {weights.parse(key): value for key, value in tensors.items()}

    state: dict[str, Any] = network.state_dict()
    rows = zip(
        tensor_names.table(model_config, naming),
        tensor_names.table(model_config, tensor_names.TRANSFORMERS),
        strict=True,
    )
    for row, target_row in rows:
        for source, target in zip(row.sources, target_row.sources, strict=True):
            if target in state:
                state[target] = torch.from_numpy(folded[source])
                continue
            g, v = by_part.get((source, "g")), by_part.get((source, "v"))
            if g is None or v is None:
                v = torch.from_numpy(folded[source])
                # With the norm as torch computes it, g * v / |v| is v bit for bit.
                _, g = torch._weight_norm_interface(v, torch.ones(len(v), 1, 1), 0)
            prefix = f"{target.removesuffix('.weight')}.parametrizations.weight"
            state[f"{prefix}.original0"] = torch.as_tensor(g)
            state[f"{prefix}.original1"] = torch.as_tensor(v)
    for k in range(model_config.num_codebooks):
        # Training would continue as if each entry had been used once.
        codebook = tensor_names.TRANSFORMERS.codebook.format(k)
        state[f"{codebook}.embed_avg"] = state[f"{codebook}.embed"]
        state[f"{codebook}.cluster_size"] = torch.ones(model_config.codebook_size)
    network.load_state_dict(state)
    return network


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
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():  # safetensors creates files that only their owner can read
        file.chmod(0o666 & ~umask)


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
