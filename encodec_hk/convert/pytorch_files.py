"""Reads the PyTorch checkpoints: files, folders, and names on the Hugging Face hub.

| source                                                | has its own config      |
|-------------------------------------------------------|-------------------------|
| Meta's `.th`, a state dict                            | no                      |
| a folder or hub name of transformers, or its weights  | yes, `config.json`      |
| audiocraft's `compression_state_dict.bin`             | yes, `xp.cfg` inside it |

No code of a source is ever run: pickles are read by `torch.load(weights_only=True)`, in one
place.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.system import extras

CONFIG = "config.json"
TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
AUDIOCRAFT_WEIGHTS = "compression_state_dict.bin"


@dataclasses.dataclass(frozen=True)
class PyTorchCheckpoint:
    """A checkpoint as it was read.

    Attributes:
      name: the hub name, or the name of the file or folder, without where it lay.
      file: the name of the file of weights.
      sha256: of that file, hexadecimal.
      naming: whose names the tensors have.
      tensors: numpy arrays, float32 where they are of any float type.
      settings: what the source says of itself, None where it is a bare state dict.
    """

    name: str
    file: str
    sha256: str
    naming: tensor_names.Naming
    tensors: dict[str, np.ndarray]
    settings: source_config.Settings | None


def read(source: str) -> PyTorchCheckpoint:
    """Reads a file, a folder or the checkpoint of a hub name such as facebook/encodec_24khz.

    Raises:
      ValueError: one line: there is no such source, it is damaged, unknown or unsafe, its SHA-256
        is not the one in its name, or the networks here have no such setting.
    """
    path = pathlib.Path(source)
    if path.is_file():
        return _read_file(path.name, path)
    if path.is_dir():
        return _read_folder(path)
    if _is_hub_name(source):
        return _read_hub(source)
    raise ValueError(f"{source}: no such file or folder, and not a hub name like owner/model")


def _read_folder(folder: pathlib.Path) -> PyTorchCheckpoint:
    name = folder.resolve().name
    if (folder / CONFIG).is_file():
        for file in TRANSFORMERS_WEIGHTS:
            if (folder / file).is_file():
                return _read_file(name, folder / file)
    if (folder / AUDIOCRAFT_WEIGHTS).is_file():
        return _read_file(name, folder / AUDIOCRAFT_WEIGHTS)
    raise ValueError(
        f"{folder}: holds neither {CONFIG} with {' or '.join(TRANSFORMERS_WEIGHTS)} (transformers) "
        f"nor {AUDIOCRAFT_WEIGHTS} (audiocraft)"
    )


def _is_hub_name(name: str) -> bool:
    is_file_name = name.endswith((".th", ".pt", ".pth", ".bin", ".safetensors"))
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name)) and not is_file_name


def _read_hub(name: str, refers_to: bool = True) -> PyTorchCheckpoint:
    hub = extras.require("huggingface_hub")
    reachable = True

    def download(file: str) -> pathlib.Path | None:
        nonlocal reachable
        try:
            path = hub.hf_hub_download(name, file, local_files_only=not reachable)
        except hub.errors.LocalEntryNotFoundError:  # neither on the hub nor in its local cache
            reachable = False
        except hub.errors.EntryNotFoundError:
            pass
        except (hub.errors.HfHubHTTPError, OSError, ValueError) as error:
            raise ValueError(
                f"{name}: the hub refuses it ({source_config.first_line(error)})"
            ) from error
        else:
            return pathlib.Path(path)
        return None

    # Repositories of MusicGen hold a config.json of the language model, and gigabytes of weights.
    config = download(CONFIG)
    is_encodec = config is not None and _read_config(config).get("model_type") == "encodec"
    for file in TRANSFORMERS_WEIGHTS if is_encodec else (AUDIOCRAFT_WEIGHTS,):
        path = download(file)
        if path is not None:
            return _read_file(name, path, refers_to)
    if not reachable:
        raise ValueError(
            f"{name}: no such file or folder; the hub cannot be reached, nor has its cache the name"
        )
    raise ValueError(f"{name}: on the hub, but it holds no EnCodec checkpoint")


def _read_file(name: str, path: pathlib.Path, refers_to: bool = True) -> PyTorchCheckpoint:
    """Reads weights; `refers_to`: or what audiocraft writes to say that another is meant."""
    try:
        sha256 = _sha256(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    named = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if named and not sha256.startswith(named[1]):
        raise ValueError(
            f"{path}: its SHA-256 begins with {sha256[: len(named[1])]}, its name says {named[1]}: "
            "the file is damaged or not the one it is named after"
        )
    load = _load_safetensors if path.suffix == ".safetensors" else _load_pickle
    package = load(path)
    settings = None
    if isinstance(package, Mapping) and isinstance(package.get("pretrained"), str):
        other = package["pretrained"]
        if not refers_to or not _is_hub_name(other):
            raise ValueError(f"{path}: refers to {other!r}, which is no EnCodec on the hub")
        return _read_hub(other, refers_to=False)
    if isinstance(package, Mapping) and "best_state" in package:
        if not isinstance(package.get("xp.cfg"), str):
            raise ValueError(f"{path}: its xp.cfg is no text; is it of audiocraft's export?")
        settings = _within(path, source_config.from_audiocraft, package["xp.cfg"])
        package = package["best_state"]
    tensors = _to_numpy(package)
    naming = tensor_names.detect(tensors)
    if naming is None:
        raise ValueError(f"{path}: holds no EnCodec (no tensors named encoder.model.0 or the like)")
    config = path.with_name(CONFIG)
    if naming is tensor_names.TRANSFORMERS and config.is_file():
        settings = _within(config, source_config.from_transformers, _read_config(config))
    return PyTorchCheckpoint(
        name=name,
        file=path.name,
        sha256=sha256,
        naming=naming,
        tensors=tensors,
        settings=settings,
    )


def _load_safetensors(path: pathlib.Path) -> dict[str, Any]:
    safetensors_torch = extras.require("safetensors.torch")
    try:
        return safetensors_torch.load_file(path)
    except Exception as error:
        raise ValueError(
            f"{path}: no whole safetensors file ({source_config.first_line(error)})"
        ) from error


def _load_pickle(path: pathlib.Path) -> Any:
    """The only reader of pickles: with weights_only, anything but tensors in containers fails."""
    torch = extras.require("torch")
    try:
        with warnings.catch_warnings():  # of pickle protocols
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL [\w.]+", str(error))
        detail = f" ({found[0]})" if found else ""
        raise ValueError(f"{path}: refused, it is no pickle of tensors alone{detail}") from error
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(
            f"{path}: no whole PyTorch checkpoint ({source_config.first_line(error)})"
        ) from error


def _to_numpy(package: Any) -> dict[str, np.ndarray]:
    """The tensors of a state dict; {} where it is something else."""
    torch = extras.require("torch")
    if not isinstance(package, Mapping):
        return {}
    tensors = {str(key): v for key, v in package.items() if isinstance(v, torch.Tensor)}
    for key, value in tensors.items():
        if value.layout is not torch.strided or value.is_quantized:
            raise ValueError(f"{key}: got a sparse or quantized tensor, must be a plain one")
    return {
        key: (value.float() if value.is_floating_point() else value).detach().numpy()
        for key, value in tensors.items()
    }


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def _within(path: pathlib.Path, translate: Any, config: Any) -> source_config.Settings:
    try:
        return translate(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (TypeError, LookupError, ArithmeticError) as error:  # a field of another type
        raise ValueError(
            f"{path}: a field has no sensible value ({source_config.first_line(error)})"
        ) from error


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
