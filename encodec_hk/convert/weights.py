"""What happens to a tensor between the PyTorch implementations and ours.

tensors = weights.fold_weight_norm(tensors)
params = weights.to_haiku(tensors, names.table(model, naming), names.ignored(model, naming))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from encodec_hk import checkpoint
from encodec_hk.convert import tensor_names

Params = dict[str, dict[str, np.ndarray]]

# Of weight norm, g is a weight's norm over all axes but the first, v its direction.
_SPELLINGS = {
    ".parametrizations.weight.original0": "g",
    ".parametrizations.weight.original1": "v",
    ".weight_g": "g",
    ".weight_v": "v",
    ".weight": "weight",
}


def parse(key: str) -> tuple[str, str]:
    """A tensor's name without weight norm, and which part of it the tensor is.

    Returns:
      E.g. ("encoder.model.0.conv.conv.weight", "g" | "v" | "weight"), or (key, "") for a tensor
      that is no weight.
    """
    for suffix, part in _SPELLINGS.items():
        if key.endswith(suffix):
            return f"{key.removesuffix(suffix)}.weight", part
    return key, ""


def fold_weight_norm(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replaces each g and v by the weight g * v / |v|, computed in float64.

    Takes the spellings `weight_g` / `weight_v` and `parametrizations.weight.original0` /
    `original1`. A g or v that has no fitting partner is left as it is, for the table to report.
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
    tensors: Mapping[str, np.ndarray], rows: Iterable[tensor_names.Row], ignored: Mapping[str, str]
) -> None:
    """Compares tensors whose weight norm is folded with the table.

    Raises:
      ValueError: a line, then the missing (-), unknown (+) and misshaped (- and +) tensors.
    """
    expected = {source: str(list(row.shape)) for row in rows for source in row.sources}
    found = {key: str(list(value.shape)) for key, value in tensors.items() if key not in ignored}
    lines = checkpoint.difference(expected, found)
    if lines:
        raise ValueError("\n".join(["the tensors are not those of the config:", *lines]))
    others = [key for key in found if not np.issubdtype(tensors[key].dtype, np.floating)]
    if others:
        raise ValueError(f"tensors must be float, these are not: {', '.join(others)}")


def to_haiku(
    tensors: Mapping[str, np.ndarray], rows: Sequence[tensor_names.Row], ignored: Mapping[str, str]
) -> Params:
    """Our parameters, float32, from tensors whose weight norm is folded.

    Every tensor is used once or is one of `ignored`, every row of the table is filled.

    Raises:
      ValueError: as `check`.
    """
    check(tensors, rows, ignored)
    params: Params = {}
    for row in rows:
        value = TRANSFORMS[row.transform].to_haiku([tensors[source] for source in row.sources])
        module, _, param = row.target.rpartition(".")
        params.setdefault(module, {})[param] = np.ascontiguousarray(value, np.float32)
    return params


def to_torch(params: checkpoint.Params, rows: Iterable[tensor_names.Row]) -> dict[str, np.ndarray]:
    """The tensors of the table from our parameters; the inverse of `to_haiku`."""
    tensors = {}
    for row in rows:
        module, _, param = row.target.rpartition(".")
        values = TRANSFORMS[row.transform].to_torch(np.asarray(params[module][param]), row)
        for source, value in zip(row.sources, values, strict=True):
            tensors[source] = np.ascontiguousarray(value, np.float32)
    return tensors


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout, both ways: tensors of a row -> parameter, (parameter, row) -> tensors."""

    to_haiku: Callable[[Sequence[np.ndarray]], np.ndarray]
    to_torch: Callable[[np.ndarray, tensor_names.Row], Sequence[np.ndarray]]


def _to_polyphase(sources: Sequence[np.ndarray]) -> np.ndarray:
    """[in, out, 2 * stride] -> [2, in, stride * out].

    A frame's second half of taps falls on the outputs of the frame after it:

        outputs of frame j     =  taps 0 ... stride - 1 of frame j          w[1], the current
                                + taps stride ... 2 * stride - 1 of j - 1   w[0], the previous
    """
    (v,) = sources
    inputs, outputs, kernel = v.shape
    halves = v.reshape(inputs, outputs, 2, kernel // 2)
    return halves[:, :, ::-1].transpose(2, 0, 3, 1).reshape(2, inputs, -1)


def _from_polyphase(w: np.ndarray, row: tensor_names.Row) -> Sequence[np.ndarray]:
    inputs, outputs, kernel = row.shape
    halves = w.reshape(2, inputs, kernel // 2, outputs).transpose(1, 3, 0, 2)
    return [halves[:, :, ::-1].reshape(inputs, outputs, kernel)]


def _sum(sources: Sequence[np.ndarray]) -> np.ndarray:
    return np.sum(np.asarray(sources, np.float64), axis=0)


TRANSFORMS = {
    "same": Transform(lambda sources: sources[0], lambda value, row: [value]),
    "transpose": Transform(lambda sources: sources[0].T, lambda value, row: [value.T]),
    # [out, in, kernel] and [kernel, in, out]
    "conv": Transform(lambda sources: sources[0].T, lambda value, row: [value.T]),
    "polyphase": Transform(_to_polyphase, _from_polyphase),
    # PyTorch's LSTM adds two biases, so any split of ours will do.
    "sum": Transform(_sum, lambda value, row: [value, *[0 * value] * (len(row.sources) - 1)]),
    "stack": Transform(lambda sources: np.stack(sources), lambda value, row: list(value)),
}
