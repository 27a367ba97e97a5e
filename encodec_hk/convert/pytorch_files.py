"""Reads PyTorch checkpoints: files, folders, and names on the Hugging Face hub.

| source                                                  | config                  |
|---------------------------------------------------------|-------------------------|
| Meta's `.th`, a state dict                              | none                    |
| transformers: a folder, hub name or file of weights     | `config.json` beside it |
| audiocraft: `compression_state_dict.bin`, folder or hub | `xp.cfg` inside it      |

No code of a checkpoint is run: only one function reads pickles, with
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.system import extras

_CONFIG = "config.json"
_TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_AUDIOCRAFT_WEIGHTS = "compression_state_dict.bin"


@dataclasses.dataclass(frozen=True)
class PyTorchCheckpoint:
    """A PyTorch checkpoint in memory.

    Attributes:
      name: hub name, or name of the file or folder, without its parent folders.
      file: name of the weights file.
      sha256: hexadecimal SHA-256 of the weights file.
      naming: naming of the tensors.
      tensors: numpy arrays; all float types become float32.
      stated: what the source's config states, see `source_config`; None for a bare state dict.
    """

    name: str
    file: str
    sha256: str
    naming: tensor_names.Naming
    tensors: dict[str, np.ndarray]
    stated: dict[str, Any] | None


def read(source: str) -> PyTorchCheckpoint:
    """Read a file, a folder or a checkpoint on the hub, e.g. facebook/encodec_24khz.

    Raises:
      ValueError: if the source does not exist, is damaged, unknown or unsafe, its SHA-256 is not
        the one in its name, or its config is not supported here. The message is one line.
    """
    path = pathlib.Path(source)
    if path.is_file():
        return _read_file(path.name, path)
    if path.is_dir():
        candidates = _TRANSFORMERS_WEIGHTS if (path / _CONFIG).is_file() else ()
        for file in (*candidates, _AUDIOCRAFT_WEIGHTS):
            if (path / file).is_file():
                return _read_file(path.resolve().name, path / file)
        raise ValueError(
            f"{path}: holds neither {_CONFIG} with {' or '.join(_TRANSFORMERS_WEIGHTS)} "
            f"(transformers) nor {_AUDIOCRAFT_WEIGHTS} (audiocraft)"
        )
    if _is_hub_name(source):
        return _read_hub(source)
    raise ValueError(f"{source}: no such file or folder, and not a hub name like owner/model")


def _is_hub_name(name: str) -> bool:
    is_file_name = name.endswith((".th", ".pt", ".pth", ".bin", ".safetensors"))
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name)) and not is_file_name


def _read_hub(name: str, may_refer: bool = True) -> PyTorchCheckpoint:
    hub = extras.require("huggingface_hub")
    reachable = True

    def download(file: str) -> pathlib.Path | None:
        nonlocal reachable
        try:
            return pathlib.Path(hub.hf_hub_download(name, file, local_files_only=not reachable))
        except hub.errors.LocalEntryNotFoundError:  # neither on the hub nor in its local cache
            reachable = False
        except hub.errors.EntryNotFoundError:
            pass
        except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
            line = source_config.first_line(error)
            raise ValueError(f"{name}: the hub refuses access ({line})") from error
        return None

    # MusicGen's repositories hold the config.json of a language model, and gigabytes of weights.
    config_json = download(_CONFIG)
    is_encodec = config_json and _read_config(config_json).get("model_type") == "encodec"
    for file in _TRANSFORMERS_WEIGHTS if is_encodec else (_AUDIOCRAFT_WEIGHTS,):
        if path := download(file):
            return _read_file(name, path, may_refer)
    if not reachable:
        raise ValueError(
            f"{name}: no such file or folder; not in the hub's cache, and the hub cannot be reached"
        )
    raise ValueError(f"{name}: this hub repository holds no EnCodec checkpoint")


def _read_file(name: str, path: pathlib.Path, may_refer: bool = True) -> PyTorchCheckpoint:
    """Read a weights file, or the hub checkpoint that it names (audiocraft's `pretrained`)."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if named and not sha256.startswith(named[1]):
        raise ValueError(
            f"{path}: its SHA-256 begins with {sha256[: len(named[1])]}, its name says {named[1]}: "
            "the file is damaged or misnamed"
        )
    package = (_load_safetensors if path.suffix == ".safetensors" else _load_pickle)(path)
    other = package.get("pretrained")
    if isinstance(other, str):
        if not may_refer or not _is_hub_name(other):
            raise ValueError(f"{path}: refers to {other!r}, which is not an EnCodec on the hub")
        return _read_hub(other, may_refer=False)
    stated = None
    if "best_state" in package:
        if not isinstance(package.get("xp.cfg"), str):
            raise ValueError(f"{path}: its xp.cfg is not text; use a file that audiocraft exported")
        stated = _translate(path, source_config.from_audiocraft, package["xp.cfg"])
        package = package["best_state"]
    tensors = _to_numpy(package)
    if (naming := tensor_names.detect(tensors)) is None:
        raise ValueError(f"{path}: holds no EnCodec (no tensors named encoder.model.0 or the like)")
    config_json = path.with_name(_CONFIG)
    if naming is tensor_names.TRANSFORMERS and config_json.is_file():
        fields = _read_config(config_json)
        stated = _translate(config_json, source_config.from_transformers, fields)
    return PyTorchCheckpoint(name, path.name, sha256, naming, tensors, stated)


def _load_safetensors(path: pathlib.Path) -> Mapping[str, Any]:
    safetensors = extras.require("safetensors.torch")
    try:
        return safetensors.load_file(path)
    except Exception as error:
        line = source_config.first_line(error)
        raise ValueError(f"{path}: not a complete safetensors file ({line})") from error


def _load_pickle(path: pathlib.Path) -> Mapping[str, Any]:
    """Read a pickle of tensors in containers, {} if it is not a mapping; refuse any other."""
    torch = extras.require("torch")
    with warnings.catch_warnings():  # about pickle protocols
        warnings.simplefilter("ignore")
        try:
            package = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL [\w.]+", str(error))
            detail = f" ({found[0]})" if found else ""
            raise ValueError(f"{path}: refused: not a pickle of tensors only{detail}") from error
        except Exception as error:  # a damaged file may raise anything
            line = source_config.first_line(error)
            raise ValueError(f"{path}: not a complete PyTorch checkpoint ({line})") from error
    return package if isinstance(package, Mapping) else {}


def _to_numpy(package: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict; {} for any other object."""
    torch = extras.require("torch")
    tensors = {}
    for key, value in package.items() if isinstance(package, Mapping) else ():
        if isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized:
                raise ValueError(f"{key}: got a sparse or quantized tensor, must be a plain one")
            value = value.float() if value.is_floating_point() else value
            tensors[str(key)] = value.detach().numpy()
    return tensors


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    return fields if isinstance(fields, dict) else {}


def _translate(
    path: pathlib.Path, function: Callable[[Any], dict[str, Any]], fields: Any
) -> dict[str, Any]:
    """Translate a config; errors name its file."""
    try:
        return function(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (TypeError, LookupError, ArithmeticError) as error:  # a field of a wrong type
        line = source_config.first_line(error)
        raise ValueError(f"{path}: a field has no valid value ({line})") from error
