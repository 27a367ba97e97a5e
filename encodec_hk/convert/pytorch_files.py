"""Reads checkpoints of PyTorch: files, folders, and names on the Hugging Face hub.

| source                                                  | config                  |
|---------------------------------------------------------|-------------------------|
| Meta's `.th`, a state dict                              | none                    |
| transformers: a folder, hub name or file of weights     | `config.json` beside it |
| audiocraft: `compression_state_dict.bin`, folder or hub | `xp.cfg` inside it      |

`vocos_files` reads those of Vocos.

No code of a checkpoint is run: only one function reads pickles, with
`torch.load(weights_only=True)`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import pickle
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from encodec_hk.convert import audiocraft_config
from encodec_hk.pretrained import hub
from encodec_hk.pretrained import locations
from encodec_hk.pretrained import transformers_files
from encodec_hk.system import extras
from encodec_hk.system import file_errors


def read(source: str) -> transformers_files.PyTorchCheckpoint:
    """Read a file, a folder or a checkpoint on the hub, e.g. facebook/encodec_24khz.

    Raises:
      ValueError: if the source does not exist, is damaged, unknown or unsafe, its SHA-256 is not
        the one in its name, or its config is not supported here. The message is one line.
    """
    path = pathlib.Path(source)
    if path.is_file():
        return _read_files(path.name, (path,))
    if path.is_dir():
        fetch = transformers_files.folder_fetch(path)
        has_config = fetch(transformers_files.CONFIG) is not None
        if files := (has_config and _transformers(fetch)) or _audiocraft(fetch):
            return _read_files(path.resolve().name, files)
        raise ValueError(
            f"{path}: holds neither {transformers_files.CONFIG} with {transformers_files.WEIGHTS} "
            f"or {transformers_files.PICKLED_WEIGHTS} (transformers) nor "
            f"{locations.AUDIOCRAFT_WEIGHTS} (audiocraft)"
        )
    if hub.is_name(source):
        return _read_hub(source)
    raise ValueError(f"{source}: no such file or folder, and not a hub name like owner/model")


def _read_hub(name: str, may_refer: bool = True) -> transformers_files.PyTorchCheckpoint:
    repository = hub.Repository(name)
    find = _transformers if transformers_files.is_encodec(repository.fetch) else _audiocraft
    if files := find(repository.fetch):
        return _read_files(name, files, may_refer)
    raise repository.missing("EnCodec checkpoint")


def _transformers(fetch: transformers_files.Fetch) -> tuple[pathlib.Path, ...]:
    pickled = transformers_files.PICKLED_WEIGHTS
    return transformers_files.find(fetch) or tuple(filter(None, [fetch(pickled)]))


def _audiocraft(fetch: transformers_files.Fetch) -> tuple[pathlib.Path, ...]:
    return tuple(filter(None, [fetch(locations.AUDIOCRAFT_WEIGHTS)]))


def _read_files(
    name: str, files: tuple[pathlib.Path, ...], may_refer: bool = True
) -> transformers_files.PyTorchCheckpoint:
    """Read weights, or the hub checkpoint that a pickle names (audiocraft's `pretrained`)."""
    path = files[0]
    if path.suffix == ".safetensors":
        return transformers_files.read(name, files)
    transformers_files.check_name(path)
    package = _load_pickle(path)
    other = package.get("pretrained")
    if isinstance(other, str):
        if not may_refer or not hub.is_name(other):
            raise ValueError(f"{path}: refers to {other!r}, which is not an EnCodec on the hub")
        return _read_hub(other, may_refer=False)
    stated = None
    if "best_state" in package:
        if not isinstance(package.get("xp.cfg"), str):
            raise ValueError(f"{path}: its xp.cfg is not text; use a file that audiocraft exported")
        xp_cfg = package["xp.cfg"]
        stated = transformers_files.translate(path, audiocraft_config.parse, xp_cfg)
        package = package["best_state"]
    read = transformers_files.checkpoint(name, files, _to_numpy(package))
    return read if stated is None else dataclasses.replace(read, stated=stated)


def load_tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return the tensors of a pickled state dict; all float types become float32.

    Raises:
      ValueError: if the file is damaged, or holds anything but tensors in containers.
    """
    return _to_numpy(_load_pickle(path))


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
            line = file_errors.first_line(error)
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
