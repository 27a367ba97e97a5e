"""Converts tensors of `vocos` to our parameters, and back.

| tensors | parameters |
|---|---|
| `backbone`, `head.out` | of the decoder |
| `feature_extractor.codebook_weights` | of the quantiser: the codebooks, one after the other |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import ml_collections
import numpy as np

from encodec_hk import checkpoint

_ENCODER = "feature_extractor.encodec."
IGNORED = {
    "head.istft.window": "the Hann window, which is computed",
    _ENCODER: "the EnCodec model that made the codes; --join adds its encoder",
}
"""What the tensors that are not used begin with, and why."""


class _Row(NamedTuple):
    """A tensor, its parameter as "module/path.name", and the changes of layout between them."""

    source: str
    target: str
    to_haiku: Callable[[np.ndarray], np.ndarray] = np.asarray
    to_torch: Callable[[np.ndarray], np.ndarray] = np.asarray


def to_haiku(
    tensors: Mapping[str, np.ndarray], model_config: ml_collections.ConfigDict
) -> checkpoint.Params:
    """Convert tensors to float32 parameters of the decoder and the quantiser.

    Raises:
      ValueError: if a tensor is missing, unknown or misshaped (a list, - expected, + found), or the
        window is not Hann's.
    """
    used = {key: value for key, value in tensors.items() if not key.startswith(tuple(IGNORED))}
    zeros: dict[str, dict[str, np.ndarray]] = {
        module: {name: np.zeros(leaf.shape, np.float32) for name, leaf in leaves.items()}
        for module, leaves in checkpoint.expected_params(model_config).items()
    }
    expected, found = (
        {key: str(list(value.shape)) for key, value in each.items()}
        for each in (to_torch(zeros, model_config), used)
    )
    if lines := checkpoint.difference(expected, found):
        raise ValueError("\n".join(["the tensors are not those of the config:", *lines]))
    others = [key for key, value in used.items() if not np.issubdtype(value.dtype, np.floating)]
    if others:
        raise ValueError(f"tensors must have a float type, these have not: {', '.join(others)}")
    _check_window(tensors.get("head.istft.window"), model_config.vocos.n_fft)
    params: dict[str, dict[str, np.ndarray]] = {}
    for row in _table(model_config):
        module, _, name = row.target.rpartition(".")
        value = row.to_haiku(used[row.source])
        params.setdefault(module, {})[name] = np.ascontiguousarray(value, np.float32)
    return params


def to_torch(
    params: checkpoint.Params, model_config: ml_collections.ConfigDict
) -> dict[str, np.ndarray]:
    """Convert parameters to tensors; the inverse of `to_haiku`."""
    tensors = {}
    for row in _table(model_config):
        module, _, name = row.target.rpartition(".")
        value = row.to_torch(np.asarray(params[module][name]))
        tensors[row.source] = np.ascontiguousarray(value, np.float32)
    return tensors


def _table(model_config: ml_collections.ConfigDict) -> Iterator[_Row]:
    """Yield a row for each parameter."""

    def product(source: str, target: str) -> Iterator[_Row]:
        # [out, in, kernel] and [kernel, in, out], or without a kernel.
        yield _Row(f"{source}.weight", f"{target}.w", np.transpose, np.transpose)
        yield _Row(f"{source}.bias", f"{target}.b")

    def norm(source: str, target: str) -> Iterator[_Row]:
        yield _Row(f"{source}.scale.weight", f"{target}.scale")
        yield _Row(f"{source}.shift.weight", f"{target}.offset")

    shape = (model_config.num_codebooks, model_config.codebook_size, model_config.latent_dim)
    yield _Row(
        "feature_extractor.codebook_weights",
        "quantizer.codebooks",
        lambda value: value.reshape(shape),
        lambda value: value.reshape(-1, shape[2]),
    )
    yield from product("backbone.embed", "decoder/embed/conv")
    yield from norm("backbone.norm", "decoder/embed/norm")
    for index in range(model_config.vocos.num_layers):
        source, target = f"backbone.convnext.{index}", f"decoder/block_{index}"
        yield _Row(
            f"{source}.dwconv.weight",
            f"{target}/depthwise.w",
            lambda value: value[:, 0].T,  # [C, 1, kernel] and [kernel, C]
            lambda value: value.T[:, None],
        )
        yield _Row(f"{source}.dwconv.bias", f"{target}/depthwise.b")
        yield from norm(f"{source}.norm", f"{target}/norm")
        yield from product(f"{source}.pwconv1", f"{target}/linear_0")
        yield from product(f"{source}.pwconv2", f"{target}/linear_1")
        yield _Row(f"{source}.gamma", f"{target}.gamma")
    yield _Row("backbone.final_layer_norm.weight", "decoder/head.scale")
    yield _Row("backbone.final_layer_norm.bias", "decoder/head.offset")
    yield from product("head.out", "decoder/head/linear")


def _check_window(window: np.ndarray | None, size: int) -> None:
    if window is None:
        return
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    if window.shape != hann.shape or np.abs(window - hann).max() > 1e-5:
        raise ValueError(f"head.istft.window: must be the periodic Hann window of {size} samples")
