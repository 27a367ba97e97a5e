"""Copies tensors into PyTorch networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import weights
from encodec_hk.system import extras

if TYPE_CHECKING:
    import torch


def fill(network: torch.nn.Module, tensors: Mapping[tuple[str, str], np.ndarray]) -> None:
    """Copy tensors into a PyTorch network with the same names, in its spelling of weight norm.

    Args:
      network: the network; its tensors of `tensor_names.IGNORED` stay.
      tensors: by name and part, as `weights.parse` returns them. A missing g and v are made of the
        weight.

    Raises:
      ValueError: if a tensor of the network is missing.
    """
    torch = extras.require("torch")
    state = network.state_dict()
    for key in state:
        name, part = weights.parse(key)
        value = tensors.get((name, part))
        if value is None and (name, "weight") in tensors:
            value = torch.from_numpy(tensors[name, "weight"])
            if part == "g":  # With the norm as torch computes it, g * v / |v| is v bit for bit.
                _, value = torch._weight_norm_interface(value, torch.ones(len(value), 1, 1), 0)
        if value is not None:
            state[key] = torch.as_tensor(value)
        elif key.rpartition(".")[2] not in tensor_names.IGNORED:
            raise ValueError(f"{key}: is missing")
    network.load_state_dict(state)
