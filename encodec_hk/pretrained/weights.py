"""Converts tensors of the PyTorch implementations to our parameters, and back.

params = weights.to_haiku(tensors, model_config, naming)
tensors = weights.to_torch(params, model_config, naming)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from encodec_hk import checkpoint
from encodec_hk.pretrained import tensor_names

# Weight norm: g is the norm of a weight over all axes but the first, v its direction.
_SPELLINGS = {
    ".parametrizations.weight.original0": "g",
    ".parametrizations.weight.original1": "v",
    ".weight_g": "g",
    ".weight_v": "v",
    ".weight": "weight",
}


def parse(key: str) -> tuple[str, str]:
    """Split the name of a tensor into the name of its weight and "g", "v" or "weight".

    A tensor that is not a weight gives (key, "").
    """
    for suffix, part in _SPELLINGS.items():
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix)}.weight", part
    return key, ""


def fold_weight_norm(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replace each g and v by the weight g * v / |v|, computed in float64.

    A g or v without a matching partner stays, so that `check` reports it.
    """
    keys = {parse(key): key for key in tensors}
    folded = dict(tensors)
    for (name, part), key in keys.items():
        g_key = keys.get((name, "g"))
        if part != "v" or g_key is None or (name, "weight") in keys:
            continue
        g, v = (np.asarray(tensors[k], np.float64) for k in (g_key, key))
        if g.shape != (len(v), *[1] * (v.ndim - 1)):
            continue
        length = np.sqrt(np.sum(np.square(v), axis=tuple(range(1, v.ndim)), keepdims=True))
        del folded[g_key], folded[key]
        folded[name] = (g * v / length).astype(np.float32)
    return folded


def check(
    tensors: Mapping[str, np.ndarray],
    model_config: ml_collections.ConfigDict,
    naming: tensor_names.Naming,
    expected_params: checkpoint.Params | None = None,
) -> None:
    """Compare tensors, their weight norm folded, with the table of a model config.

    `expected_params` are `checkpoint.expected_params(model_config)`, if they are at hand.

    Raises:
      ValueError: if they differ; lists missing (-), unknown (+) and misshaped (- and +) tensors.
    """
    if expected_params is None:
        expected_params = checkpoint.expected_params(model_config)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), expected_params)
    ignored = tensor_names.ignored(model_config, naming)
    expected, found = (
        {key: str(list(value.shape)) for key, value in each.items() if key not in ignored}
        for each in (to_torch(zeros, model_config, naming), tensors)
    )
    lines = checkpoint.difference(expected, found)
    if lines:
        raise ValueError("\n".join(["the tensors are not those of the config:", *lines]))
    others = [key for key in found if not np.issubdtype(tensors[key].dtype, np.floating)]
    if others:
        raise ValueError(f"tensors must have a float type, these have not: {', '.join(others)}")


def to_haiku(
    tensors: Mapping[str, np.ndarray],
    model_config: ml_collections.ConfigDict,
    naming: tensor_names.Naming,
    expected_params: checkpoint.Params | None = None,
) -> checkpoint.Params:
    """Convert the tensors of a PyTorch checkpoint to float32 parameters.

    Each tensor is used once unless `tensor_names.ignored` lists it, and each parameter is set.

    Raises:
      ValueError: see `check`.
    """
    tensors = fold_weight_norm(tensors)
    check(tensors, model_config, naming, expected_params)
    params: dict[str, dict[str, np.ndarray]] = {}
    for row in tensor_names.table(model_config, naming):
        value = TRANSFORMS[row.transform].to_haiku([tensors[source] for source in row.sources])
        module, _, param = row.target.rpartition(".")
        params.setdefault(module, {})[param] = np.ascontiguousarray(value, np.float32)
    return params


def to_torch(
    params: checkpoint.Params,
    model_config: ml_collections.ConfigDict,
    naming: tensor_names.Naming,
) -> dict[str, np.ndarray]:
    """Convert parameters to tensors without weight norm; the inverse of `to_haiku`."""
    tensors = {}
    for row in tensor_names.table(model_config, naming):
        module, _, param = row.target.rpartition(".")
        values = TRANSFORMS[row.transform].to_torch(np.asarray(params[module][param]), row)
        for source, value in zip(row.sources, values, strict=True):
            tensors[source] = np.ascontiguousarray(value, np.float32)
    return tensors


class Transform(NamedTuple):
    """A change of layout, (tensors of a row) -> parameter, and back."""

    to_haiku: Callable[[Sequence[np.ndarray]], np.ndarray]
    to_torch: Callable[[np.ndarray, tensor_names.TableRow], Sequence[np.ndarray]]


def _to_polyphase(sources: Sequence[np.ndarray]) -> np.ndarray:
    """[in, out, 2 * stride] -> [2, in, stride * out].

    The second half of a frame's taps contributes to the outputs of the next frame:

        outputs of frame j     =  taps 0 ... stride - 1 of frame j          w[1], the current
                                + taps stride ... 2 * stride - 1 of j - 1   w[0], the previous
    """
    inputs, outputs, kernel = sources[0].shape
    halves = sources[0].reshape(inputs, outputs, 2, kernel // 2)
    return halves[:, :, ::-1].transpose(2, 0, 3, 1).reshape(2, inputs, -1)


def _from_polyphase(w: np.ndarray, row: tensor_names.TableRow) -> Sequence[np.ndarray]:
    halves = w.reshape(*w.shape[:2], row.stride, -1).transpose(1, 3, 0, 2)
    return [halves[:, :, ::-1].reshape(*halves.shape[:2], 2 * row.stride)]


TRANSFORMS = {
    "same": Transform(lambda sources: sources[0], lambda value, row: [value]),
    # Of a convolution, [out, in, kernel] and [kernel, in, out].
    "transpose": Transform(lambda sources: sources[0].T, lambda value, row: [value.T]),
    "polyphase": Transform(_to_polyphase, _from_polyphase),
    # PyTorch's LSTM adds two biases, so any split of ours is correct.
    "sum": Transform(
        lambda sources: np.add.reduce(sources, dtype=np.float64),
        lambda value, row: [value, *[0 * value] * (len(row.sources) - 1)],
    ),
    "stack": Transform(np.stack, lambda value, row: list(value)),
}
