"""The PyTorch network that `transformers` has for a model config, with given weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ml_collections
import numpy as np

from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.convert import weights
from encodec_hk.system import extras

if TYPE_CHECKING:
    import transformers


def build(
    model: ml_collections.ConfigDict, tensors: Mapping[str, np.ndarray], naming: tensor_names.Naming
) -> transformers.EncodecModel:
    """A `transformers.EncodecModel` in evaluation mode.

    The tensors go in as they are, weight norm in its parts: nothing here passes through our layout,
    so that the network can be held against ours.

    Args:
      model: the model config.
      tensors: a source's tensors, or those of `weights.to_torch`.
      naming: of the tensors.

    Raises:
      ValueError: transformers has no such network, or a tensor is missing or misshaped.
    """
    torch = extras.require("torch")
    transformers = extras.require("transformers")
    config = transformers.EncodecConfig(**source_config.to_transformers(model))
    network = transformers.EncodecModel(config).eval()
    folded = weights.fold_weight_norm(tensors)
    weights.check(folded, tensor_names.table(model, naming), tensor_names.ignored(model, naming))
    by_part = {weights.parse(key): value for key, value in tensors.items()}

    state: dict[str, Any] = network.state_dict()
    rows = zip(
        tensor_names.table(model, naming),
        tensor_names.table(model, tensor_names.TRANSFORMERS),
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
                # The norm as torch itself computes it, so that g * v / |v| is v bit for bit.
                _, g = torch._weight_norm_interface(v, torch.ones(len(v), 1, 1), 0)
            prefix = f"{target.removesuffix('.weight')}.parametrizations.weight"
            state[f"{prefix}.original0"] = torch.as_tensor(g)
            state[f"{prefix}.original1"] = torch.as_tensor(v)
    for k in range(model.num_codebooks):
        # What training would go on from: each entry used once.
        codebook = tensor_names.TRANSFORMERS.codebook.format(k)
        state[f"{codebook}.embed_avg"] = state[f"{codebook}.embed"]
        state[f"{codebook}.cluster_size"] = torch.ones(model.codebook_size)
    network.load_state_dict(state)
    return network


@contextlib.contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keeps transformers from drawing bars for work of a second."""
    logging = extras.require("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
