"""Reads checkpoints of `transformers` in safetensors files, with `config.json` beside them.

The weights are one file, or several that an index lists:

    model.safetensors
    model.safetensors.index.json    {"weight_map": {TENSOR: FILE}}, with model-00001-of-00002 ...
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from encodec_hk.pretrained import source_config
from encodec_hk.pretrained import tensor_names
from encodec_hk.system import file_errors

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"

Fetch = Callable[[str], pathlib.Path | None]
"""Returns the path of a file of a folder or repository, None if it has none of that name."""


@dataclasses.dataclass(frozen=True)
class PyTorchCheckpoint:
    """A PyTorch checkpoint in memory.

    Attributes:
      name: hub name, or name of the file or folder, without its parent folders.
      files: paths of the weights.
      naming: naming of the tensors.
      tensors: numpy arrays; all float types become float32.
      stated: what the source's config states, see `source_config`; None for a bare state dict.
    """

    name: str
    files: tuple[pathlib.Path, ...]
    naming: tensor_names.Naming
    tensors: dict[str, np.ndarray]
    stated: dict[str, Any] | None

    @property
    def file(self) -> str:
        """Name of the weights file; of several, the first one's."""
        return self.files[0].name

    @functools.cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the weights file; of several, joined in their order."""
        return sha256(*self.files)


def folder_fetch(folder: pathlib.Path) -> Fetch:
    """Return the function that finds the files of a folder."""
    return lambda file: folder / file if (folder / file).is_file() else None


def find(fetch: Fetch) -> tuple[pathlib.Path, ...]:
    """Return the paths of safetensors weights, () if there are none.

    Raises:
      ValueError: if the index is damaged, or a file that it lists is missing.
    """
    if path := fetch(WEIGHTS):
        return (path,)
    if not (index := fetch(INDEX)):
        return ()
    weight_map = read_json(index).get("weight_map")
    names = sorted(set(weight_map.values())) if isinstance(weight_map, Mapping) else []
    if not names or not all(re.fullmatch(r"[\w-][\w.-]*\.safetensors", name) for name in names):
        raise ValueError(f"{index}: weight_map: must give names of safetensors files")
    paths = [fetch(name) for name in names]
    if absent := [name for name, path in zip(names, paths, strict=True) if path is None]:
        raise ValueError(f"{index}: lists {', '.join(absent)}, which is not there")
    return tuple(path for path in paths if path is not None)


def read(name: str, files: tuple[pathlib.Path, ...]) -> PyTorchCheckpoint:
    """Read the safetensors files of a checkpoint.

    Raises:
      ValueError: if a file is damaged or not an EnCodec's, its SHA-256 is not the one in its name,
        or the config beside it is not supported here.
    """
    tensors: dict[str, np.ndarray] = {}
    for path in files:
        check_name(path)
        tensors |= _load(path)
    return checkpoint(name, files, tensors)


def checkpoint(
    name: str, files: tuple[pathlib.Path, ...], tensors: dict[str, np.ndarray]
) -> PyTorchCheckpoint:
    """Return the checkpoint of tensors; what it states is in the `config.json` beside its files.

    Raises:
      ValueError: if the tensors are not an EnCodec's, or the config is not supported here.
    """
    path = files[0]
    if (naming := tensor_names.detect(tensors)) is None:
        raise ValueError(f"{path}: holds no EnCodec (no tensors named encoder.model.0 or the like)")
    config_json, stated = path.with_name(CONFIG), None
    if naming is tensor_names.TRANSFORMERS and config_json.is_file():
        fields = read_json(config_json)
        stated = translate(config_json, source_config.from_transformers, fields)
    return PyTorchCheckpoint(name, files, naming, tensors, stated)


def check_name(path: pathlib.Path) -> None:
    """Check a file whose name ends in digits of its SHA-256, as in `NAME-d7cc33bc.th`.

    Raises:
      ValueError: if the digits differ, or the file cannot be read.
    """
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if named and not (found := sha256(path)).startswith(named[1]):
        raise ValueError(
            f"{path}: its SHA-256 begins with {found[: len(named[1])]}, its name says {named[1]}: "
            "the file is damaged or misnamed"
        )


def sha256(*paths: pathlib.Path) -> str:
    """Return the hexadecimal SHA-256 of files, joined.

    Raises:
      ValueError: if one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with file_errors.as_value_error(path), path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Read a JSON object, {} if it is another value.

    Raises:
      ValueError: if the file cannot be read, or is not JSON.
    """
    try:
        with file_errors.as_value_error(path):
            text = path.read_bytes()
        fields = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    return fields if isinstance(fields, dict) else {}


def is_encodec(fetch: Fetch) -> bool:
    """Return whether there is a `config.json` of an EnCodec, not of a network that contains one."""
    # MusicGen's repositories hold the config.json of a language model, and gigabytes of weights.
    config_json = fetch(CONFIG)
    return config_json is not None and read_json(config_json).get("model_type") == "encodec"


def translate(
    path: pathlib.Path, function: Callable[[Any], dict[str, Any]], fields: Any
) -> dict[str, Any]:
    """Translate a config with a function of `source_config` or the like; errors name its file."""
    try:
        return function(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (TypeError, LookupError, ArithmeticError) as error:  # a field of a wrong type
        line = file_errors.first_line(error)
        raise ValueError(f"{path}: a field has no valid value ({line})") from error


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file; all float types become float32."""
    try:
        tensors = safetensors.numpy.load_file(path)
    except Exception as error:  # of a format that changes, or of a type that numpy lacks
        line = file_errors.first_line(error)
        raise ValueError(f"{path}: not a complete safetensors file ({line})") from error
    return {
        # jnp knows that bfloat16 is a float type, np does not.
        key: value.astype(np.float32) if jnp.issubdtype(value.dtype, jnp.floating) else value
        for key, value in tensors.items()
    }
