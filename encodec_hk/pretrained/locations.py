"""Loads whatever a user's name stands for: a file, a folder, a shipped or a published model."""

from __future__ import annotations

import os
import pathlib
import shlex
from collections.abc import Callable

from encodec_hk import checkpoint
from encodec_hk.networks import model
from encodec_hk.pretrained import hub
from encodec_hk.pretrained import published
from encodec_hk.pretrained import source_config
from encodec_hk.pretrained import transformers_files
from encodec_hk.pretrained import weights
from encodec_hk.system import file_paths
from encodec_hk.system import invocation

FOREIGN = "transformers: "
"""Begins the `source` of a checkpoint of others that the manifest does not list."""

_PICKLES = (".th", ".pt", ".pth", ".bin", ".ckpt")
AUDIOCRAFT_WEIGHTS = "compression_state_dict.bin"
VOCOS_CONFIG = "config.yaml"


def load(
    location: str | os.PathLike[str], build: Callable[..., model.Model] = model.build
) -> checkpoint.Checkpoint:
    """Load a checkpoint.

    Args:
      location: a .safetensors file, of this project or of transformers with `config.json` beside
        it; a folder of transformers; the name of a shipped model; or a hub name, OWNER/MODEL. A
        path that exists goes before a name.
      build: as in `checkpoint.load`.

    Raises:
      ValueError: if there is nothing of that name, or it cannot be read without PyTorch (then the
        message says how to convert it), is damaged, or is of another network.
    """
    name = os.fspath(location)
    if not name:  # as a path, it would be the current folder
        raise nothing(name)
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        return _load_folder(path, build)
    if path.exists():
        if path.suffix.lower() in _PICKLES:
            raise _needs_pytorch(path, path.name)
        if path.suffix.lower() == ".safetensors" and not checkpoint.is_own(path):
            return _load_files(path.parent.resolve().name, (path,), build)
        return checkpoint.load(path, build)
    if own := file_paths.shipped_checkpoints().get(name):
        return checkpoint.load(own, build)
    if hub.is_name(name):
        return _load_hub(name, build)
    if path.suffix.lower() in (".safetensors", *_PICKLES):
        raise ValueError(f"{name}: no such file")
    raise nothing(name)


def may_exist(location: str) -> bool:
    """Return whether `load` may find something, which of a hub name is not known before."""
    is_shipped = location in file_paths.shipped_checkpoints()
    return is_shipped or pathlib.Path(location).expanduser().exists() or hub.is_name(location)


def nothing(name: str) -> ValueError:
    """Return the error of a name that stands for nothing, with what can be given."""
    shipped = ", ".join(file_paths.shipped_checkpoints()) or "none here"
    return ValueError(
        f"checkpoint: got {name!r}, must be a .safetensors file, a transformers folder, a hub name "
        f"like facebook/encodec_24khz, or a shipped model: {shipped}"
    )


def _load_folder(folder: pathlib.Path, build: Callable[..., model.Model]) -> checkpoint.Checkpoint:
    fetch = transformers_files.folder_fetch(folder)
    if fetch(transformers_files.CONFIG) and (files := transformers_files.find(fetch)):
        return _load_files(folder.resolve().name, files, build)
    for file in (transformers_files.PICKLED_WEIGHTS, AUDIOCRAFT_WEIGHTS):
        if fetch(file):
            raise _needs_pytorch(folder, file)
    others = ", ".join(sorted(path.name for path in folder.glob("*.safetensors")))
    raise ValueError(
        f"{folder}: holds no {transformers_files.CONFIG} with {transformers_files.WEIGHTS}, as a "
        "folder of transformers does" + (f"; name a file in it: {others}" if others else "")
    )


def _load_hub(name: str, build: Callable[..., model.Model]) -> checkpoint.Checkpoint:
    repository = hub.Repository(name)
    if transformers_files.is_encodec(repository.fetch):
        if files := transformers_files.find(repository.fetch):
            return _load_files(name, files, build)
        if repository.has(transformers_files.PICKLED_WEIGHTS):
            raise _needs_pytorch(name, transformers_files.PICKLED_WEIGHTS)
    elif repository.has(AUDIOCRAFT_WEIGHTS):
        raise _needs_pytorch(name, AUDIOCRAFT_WEIGHTS)
    elif repository.has(VOCOS_CONFIG) and repository.has(transformers_files.PICKLED_WEIGHTS):
        raise _needs_pytorch(name, transformers_files.PICKLED_WEIGHTS)
    raise repository.missing("EnCodec checkpoint")


def _load_files(
    name: str, files: tuple[pathlib.Path, ...], build: Callable[..., model.Model]
) -> checkpoint.Checkpoint:
    """Read files of transformers; `name` is their folder's or the hub's."""
    original = transformers_files.read(name, files)
    path = files[0]
    if original.stated is None:
        raise ValueError(
            f"{path}: no {transformers_files.CONFIG} of transformers beside it; to name its "
            f"config: {_convert_command(path, '--config=VARIANT ')}"
        )
    try:
        model_config = source_config.to_model(original.stated)
        expected = build(model_config).param_shapes()
        params = weights.to_haiku(original.tensors, model_config, original.naming, expected)
        checkpoint.check_finite(params)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    known = published.find(name, "", "")
    variant = known.config if known else published.variant_of(model_config)
    source = name if known else f"{FOREIGN}{name}"
    metadata = {"name": variant or pathlib.Path(name).name, "source": source}
    return checkpoint.Checkpoint(params, model_config, metadata)


def _needs_pytorch(location: str | os.PathLike[str], file: str) -> ValueError:
    what = "this file" if pathlib.Path(location).name == file else file
    return ValueError(
        f"{location}: PyTorch must read {what}, once, to convert it: {_convert_command(location)}"
    )


def _convert_command(location: str | os.PathLike[str], options: str = "") -> str:
    source = os.fspath(location)
    path = pathlib.Path(os.path.abspath(source))  # of "." too, for its name
    is_named_by_folder = path.name in (
        transformers_files.WEIGHTS,
        transformers_files.PICKLED_WEIGHTS,
    )
    name = path.parent.name if is_named_by_folder else path.stem
    output = f"{name or 'model'}.safetensors"
    arguments = f"--source={shlex.quote(source)} --output={shlex.quote(output)}"
    return f"{invocation.command()} convert {options}{arguments}"
