"""Converts a checkpoint of any kind to ours."""

from __future__ import annotations

import importlib
import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_collections

from encodec_hk import checkpoint
from encodec_hk.convert import pytorch_files
from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.convert import weights
from encodec_hk.system import file_paths

_BARE_VARIANTS = ("encodec_24khz", "encodec_48khz")
"""Variants that Meta publishes as state dicts without a config."""


class Known(NamedTuple):
    """A published checkpoint.

    Attributes:
      source: file name or hub name.
      config: name of the variant's file in `configs/`.
      sha256: first digits of the SHA-256 of the weights file, "" if not known.
      licence: licence of the weights, as stated in the publisher's repository.
    """

    source: str
    config: str
    sha256: str
    licence: str


class Converted(NamedTuple):
    """A converted checkpoint.

    Attributes:
      params, model_config: parameters and config of our model.
      origin: name, source, source_sha256 and licence, see `checkpoint.save`.
      original: the PyTorch checkpoint; None if the source is a checkpoint of ours.
    """

    params: checkpoint.Params
    model_config: ml_collections.ConfigDict
    origin: dict[str, str]
    original: pytorch_files.PyTorchCheckpoint | None


def read(
    location: str,
    variant: ml_collections.ConfigDict | None,
    *,
    licence: str | None,
    say: Callable[[str], None],
) -> Converted:
    """Read a checkpoint of ours or of PyTorch.

    Args:
      location: a checkpoint of ours, or what `pytorch_files.read` accepts.
      variant: a whole configuration with which the source must agree, except for the pad mode,
        which the source decides. None to use the source's own config.
      licence: licence of the weights; None for the one that the source or the manifest states.
      say: called with each line of a report.

    Raises:
      ValueError: if the source cannot be read or converted, or disagrees with the configuration.
    """
    path = pathlib.Path(location)
    is_safetensors = path.suffix == ".safetensors" and path.is_file()
    if is_safetensors and checkpoint.read_metadata(path).get("format") == checkpoint.FORMAT:
        loaded = checkpoint.load(location)
        if variant is not None:
            source_config.reconcile(variant.model, loaded.config.to_dict())
        origin = {key: loaded.metadata[key] for key in ("name", "source", "source_sha256")}
        origin["licence"] = licence or loaded.metadata["licence"]
        return Converted(loaded.params, loaded.config, origin, original=None)
    original = pytorch_files.read(location)
    say(f"read {location}: {original.file}, SHA-256 {original.sha256}")
    known = find(original.name, original.file, original.sha256)
    try:
        model_config, name = _model_of(original, variant, known, say)
        params = weights.to_haiku(original.tensors, model_config, original.naming)
    except ValueError as error:
        raise ValueError(f"{location}: {error}") from error
    unused = original.tensors.keys() & tensor_names.ignored(model_config, original.naming)
    say(f"{len(original.tensors)} tensors, {len(unused)} of them not needed:")
    for tensor, reason in tensor_names.IGNORED.items():
        say(f"  {sum(key.endswith(f'.{tensor}') for key in unused)} {tensor}: {reason}")
    licence = licence or (known.licence if known else "unknown, see the source")
    say(f"licence of the weights: {licence}")
    is_file = original.name == original.file
    origin = {
        "name": name,
        "source": original.name if is_file else f"{original.name} ({original.file})",
        "source_sha256": original.sha256,
        "licence": licence,
    }
    return Converted(params, model_config, origin, original)


def published() -> list[Known]:
    """Return the entries of the manifest; none if the package is installed without it."""
    path = file_paths.ROOT / "checkpoints" / "manifest.json"
    if not path.is_file():
        return []
    return [Known(**entry) for entry in json.loads(path.read_text())["checkpoints"]]


def find(name: str, file: str, sha256: str) -> Known | None:
    """Return the manifest's entry of a hub name, file name or SHA-256; None if unknown."""
    for entry in published():
        if entry.source in (name, file) or (entry.sha256 and sha256.startswith(entry.sha256)):
            return entry
    return None


def _model_of(
    original: pytorch_files.PyTorchCheckpoint,
    variant: ml_collections.ConfigDict | None,
    known: Known | None,
    say: Callable[[str], None],
) -> tuple[ml_collections.ConfigDict, str]:
    """Return the model config of a PyTorch checkpoint and the name of the variant."""
    if original.stated is not None:
        if variant is None:
            name = known.config if known else pathlib.Path(original.name).stem
            return source_config.to_model(original.stated), name
        model_config, lines = source_config.reconcile(variant.model, original.stated)
        for line in lines:
            say(line)
        return model_config, variant.name
    if variant is not None:
        return variant.model, variant.name
    folded = weights.fold_weight_norm(original.tensors)
    names = (known.config,) if known else _BARE_VARIANTS
    for name in names:
        try:
            model_config = importlib.import_module(f"configs.{name}").get_config().model
        except ModuleNotFoundError as error:
            raise ValueError(f"configs/{name}.py cannot be imported: give --config") from error
        try:
            weights.check(folded, model_config, original.naming)
        except ValueError:
            continue
        say(f"config: {name}, by its {'name' if known else 'tensors'}")
        return model_config, name
    raise ValueError(
        "has no config of its own, and its tensors are not those of "
        f"{' or '.join(names)}: give --config"
    )
