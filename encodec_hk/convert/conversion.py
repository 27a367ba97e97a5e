"""Converts a checkpoint of any kind to ours."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
from collections.abc import Callable

import ml_collections

from encodec_hk import checkpoint
from encodec_hk.convert import manifest
from encodec_hk.convert import pytorch_files
from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.convert import weights

_BARE_VARIANTS = ("encodec_24khz", "encodec_48khz")
"""Variants that Meta publishes as state dicts without a config."""


@dataclasses.dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
      params: our parameters.
      model_config: the model config.
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
      say: called with lines about the source.

    Raises:
      ValueError: if the source cannot be read or converted, or disagrees with the configuration.
    """
    if _is_ours(location):
        loaded = checkpoint.load(location)
        if variant is not None:
            own = source_config.Settings(stated=loaded.config.to_dict(), implied={})
            source_config.reconcile(variant.model, own)
        origin = {key: loaded.metadata[key] for key in ("name", "source", "source_sha256")}
        origin["licence"] = licence or loaded.metadata["licence"]
        return Converted(loaded.params, loaded.config, origin, original=None)
    original = pytorch_files.read(location)
    known = manifest.find(original.name, original.file, original.sha256)
    say(f"read {location}: {original.file}, SHA-256 {original.sha256}")
    model_config, name = _model_of(original, variant, known, say)
    try:
        params = weights.to_haiku(original.tensors, model_config, original.naming)
    except ValueError as error:
        raise ValueError(f"{location}: {error}") from error
    unused = original.tensors.keys() & tensor_names.ignored(model_config, original.naming).keys()
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


def _is_ours(location: str) -> bool:
    path = pathlib.Path(location)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    return checkpoint.read_metadata(path).get("format") == checkpoint.FORMAT


def _model_of(
    original: pytorch_files.PyTorchCheckpoint,
    variant: ml_collections.ConfigDict | None,
    known: manifest.Known | None,
    say: Callable[[str], None],
) -> tuple[ml_collections.ConfigDict, str]:
    """Return the model config of a PyTorch checkpoint and the name of the variant."""
    if variant is not None:
        if original.settings is None:
            return variant.model, variant.name
        model_config, lines = source_config.reconcile(variant.model, original.settings)
        for line in lines:
            say(line)
        return model_config, variant.name
    if original.settings is not None:
        try:
            model_config = source_config.to_model(original.settings)
        except ValueError as error:
            raise ValueError(f"{original.name}: {error}") from error
        return model_config, known.config if known else pathlib.Path(original.name).stem
    folded = weights.fold_weight_norm(original.tensors)
    names = (known.config,) if known else _BARE_VARIANTS
    for name in names:
        candidate = _variant(name)
        try:
            weights.check(folded, candidate.model, original.naming)
        except ValueError:
            continue
        say(f"config: {name}, by its {'name' if known else 'tensors'}")
        return candidate.model, candidate.name
    raise ValueError(
        f"{original.name}: has no config of its own, and its tensors are not those of "
        f"{' or '.join(names)}: give --config"
    )


def _variant(name: str) -> ml_collections.ConfigDict:
    try:
        return importlib.import_module(f"configs.{name}").get_config()
    except ModuleNotFoundError as error:
        raise ValueError(f"configs/{name}.py cannot be imported: give --config") from error
