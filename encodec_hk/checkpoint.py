"""A checkpoint: one safetensors file that describes itself.

Tensors are float32 and named `module/path.param`, e.g. `encoder/conv_in.w`. In a file of about half
the size they are int16, each with a float32 tensor `NAME:scale` beside it: a row, along the last
axis, is its integers times its scale. A row has its largest value at +-32767, so it is kept to 1 in
65534 of that, where half precision keeps each value to 1 in 4096 of itself. The encoder's, which
decide codes, have 24 bits: an int16 and, in a tensor `NAME:low`, a uint8. A row is then
(256 * integer + low) times its scale, a power of two.

The metadata, all strings: `format` ("encodec_hk"), `format_version`, `name` of the variant,
`config` (the model config as JSON), and where the weights come from: `source`, `source_sha256`,
`licence`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np
import safetensors
import safetensors.numpy

from encodec_hk import config as config_lib
from encodec_hk.networks import model

FORMAT = "encodec_hk"
FORMAT_VERSION = "1"

_SCALE, _LOW = ":scale", ":low"
_LARGEST = np.float32(32767)  # integer of a row
_FINE = "encoder/"  # modules of 24 bits

_METADATA = (
    "format",
    "format_version",
    "name",
    "config",
    "source",
    "source_sha256",
    "licence",
)

Params = model.Params


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
      params: Haiku parameters {module: {name: float32 numpy array}}.
      config: the model config (`config.model` of `configs/`), locked.
      metadata: the file's metadata, as it stands there.
    """

    params: Params
    config: ml_collections.ConfigDict
    metadata: dict[str, str]

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.metadata["name"]

    @property
    def source(self) -> str:
        """What the weights were read from, or how they were trained."""
        return self.metadata["source"]


def save(
    path: str | os.PathLike[str],
    params: Params,
    model_config: ml_collections.ConfigDict,
    *,
    name: str,
    source: str,
    source_sha256: str,
    licence: str,
    int16: bool = False,
) -> None:
    """Writes a checkpoint beside `path` and renames it, so that no half-written file is left.

    Args:
      path: the file to write, its folder is made where it is missing.
      params: Haiku parameters of the config.
      model_config: the model config.
      name: the variant's name.
      source: what the weights were read from, or how they were trained.
      source_sha256: hexadecimal SHA-256 of the source's file of weights, "" where there is none.
      licence: the licence of the weights.
      int16: whether to round the parameters to integers of 16 bits, the encoder's of 24.

    Raises:
      ValueError: the parameters are not those of the config, or not finite.
    """
    config_lib.validate_model(model_config)
    check_params(params, expected_params(model_config))
    _check_finite(params)
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "config": config_lib.to_json(model_config),
        "source": source,
        "source_sha256": source_sha256,
        "licence": licence,
    }
    tensors = {key: np.ascontiguousarray(value) for key, value in _flatten(params).items()}
    if int16:
        tensors = _quantize(tensors)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # `save_file` would make a file that its owner alone may read.
        partial.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a checkpoint and checks it whole; its parameters are float32, however it stores them.

    Raises:
      ValueError: the file is missing, damaged, of another format or version, or its tensors are
        not those of its config (they are listed, - expected and + found).
    """
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: not a checkpoint of this project (its metadata has no format={FORMAT}); "
            "`run.py convert` makes one from a PyTorch checkpoint"
        )
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(f"{path}: format_version {version!r}, this program reads {FORMAT_VERSION}")
    absent = [key for key in _METADATA if key not in metadata]
    if absent:
        raise ValueError(f"{path}: its metadata lacks {', '.join(absent)}")
    try:
        config = config_lib.from_json(metadata["config"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    with safetensors.safe_open(path, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, no mapping
    params: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in _dequantize(tensors).items():
        module, _, param = key.rpartition(".")
        params.setdefault(module, {})[param] = tensor
    try:
        check_params(params, expected_params(config))
        _check_finite(params)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Checkpoint(params=params, config=config, metadata=metadata)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of any safetensors file, {} where it has none.

    Raises:
      ValueError: the file is missing, damaged or no safetensors file.
    """
    if not os.path.isfile(path):
        is_folder = os.path.isdir(path)
        raise ValueError(f"{path}: {'is a folder, not a file' if is_folder else 'no such file'}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def expected_params(model_config: ml_collections.ConfigDict) -> Params:
    """The shapes and types of a model's parameters, found without making any."""
    return model.build(model_config).param_shapes()


def check_params(params: Params, expected: Params) -> None:
    """Compares names, shapes and types of parameters.

    Args:
      params: arrays.
      expected: arrays or `jax.ShapeDtypeStruct`s, e.g. of `expected_params`.

    Raises:
      ValueError: a line, then every parameter that differs: - as expected, + as found.
    """
    types = [
        {key: f"{value.dtype}{list(value.shape)}" for key, value in _flatten(tree).items()}
        for tree in (expected, params)
    ]
    lines = difference(*types)
    if lines:
        raise ValueError("\n".join(["the tensors are not those of the config:", *lines]))


def _quantize(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors as integers and the scales of their rows."""
    stored = {}
    for key, value in tensors.items():
        is_fine = key.startswith(_FINE)
        scale = np.max(np.abs(value), axis=-1, keepdims=True) / _LARGEST
        scale = np.where(scale > 0, scale, np.float32(1))
        if is_fine:  # exact, so that what is read and written again stays the same
            scale = np.exp2(np.ceil(np.log2(scale)) - 8)
            integers = np.round(value / scale).astype(np.int32)
            stored[key] = (integers >> 8).astype(np.int16)
            stored[key + _LOW] = (integers & 255).astype(np.uint8)
        else:
            stored[key] = np.round(value / scale).astype(np.int16)
        stored[key + _SCALE] = scale
    return stored


def _dequantize(stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undoes `_quantize`; leaves alone what does not fit together, for the check that follows."""
    tensors = dict(stored)
    for key, value in stored.items():
        scale, low = stored.get(key + _SCALE), stored.get(key + _LOW)
        if value.dtype != np.int16 or scale is None or scale.dtype != np.float32:
            continue
        if scale.shape != (*value.shape[:-1], 1):
            continue
        if low is not None:
            if low.dtype != np.uint8 or low.shape != value.shape:
                continue
            value = 256 * value.astype(np.int32) + tensors.pop(key + _LOW)
        tensors[key] = (value * tensors.pop(key + _SCALE)).astype(np.float32)
    return tensors


def _check_finite(params: Params) -> None:
    bad = [key for key, value in _flatten(params).items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"NaN or infinity in {', '.join(bad)}")


def fingerprint(model_config: ml_collections.ConfigDict, params: Params) -> str:
    """SHA-256, in hexadecimal digits, of a model: its config and its parameters.

    Of the config's JSON (`config.to_json`) and then, by name in alphabetical order, each
    parameter's `NAME SHAPE` and little-endian float32 bytes.
    """
    digest = hashlib.sha256(config_lib.to_json(model_config).encode())
    for name, value in sorted(_flatten(params).items()):
        values = np.asarray(value, "<f4")
        digest.update(f"{name} {list(values.shape)}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def difference(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs of two tables, "- name value" as expected and "+ name value" as found."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            lines += [f"- {name} {expected[name]}"] if name in expected else []
            lines += [f"+ {name} {found[name]}"] if name in found else []
    return lines


def _flatten(params: Params) -> dict[str, Any]:
    return {
        f"{module}.{name}": value
        for module, values in params.items()
        for name, value in values.items()
    }
