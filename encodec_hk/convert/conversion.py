"""Converts a checkpoint of any kind to ours."""

from __future__ import annotations

import importlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.convert import joined_encoder
from encodec_hk.convert import pytorch_files
from encodec_hk.convert import vocos_files
from encodec_hk.convert import vocos_tensors
from encodec_hk.pretrained import published
from encodec_hk.pretrained import source_config
from encodec_hk.pretrained import tensor_names
from encodec_hk.pretrained import transformers_files
from encodec_hk.pretrained import weights
from encodec_hk.system import file_paths
from encodec_hk.system import rules

_BARE_VARIANTS = ("encodec_24khz", "encodec_48khz")
"""Variants that Meta publishes as state dicts without a config."""


class Converted(NamedTuple):
    """A converted checkpoint.

    Attributes:
      params, model_config: parameters and config of our model.
      origin: name, source, source_sha256 and licence, see `checkpoint.save`.
      original: the PyTorch checkpoint; None if the source is a checkpoint of ours.
      codes_of: the model whose codes a decoder was made for, if the source is a decoder alone or
        was joined with an encoder.
    """

    params: checkpoint.Params
    model_config: ml_collections.ConfigDict
    origin: dict[str, str]
    original: transformers_files.PyTorchCheckpoint | vocos_files.VocosCheckpoint | None
    codes_of: checkpoint.CodesOf | None = None


def read_joined(
    location: str,
    variant: ml_collections.ConfigDict | None,
    join: str,
    *,
    licence: str | None,
    say: Callable[[str], None],
) -> Converted:
    """Read a Vocos decoder, as `read` does, and the EnCodec model `join` that gives the encoder.

    Raises:
      ValueError: as of `read`, of either; or if the decoder was made for other codes.
    """
    decoder = read(location, None, licence=licence, say=say)
    encoder = read(join, None, licence=None, say=say)
    try:
        params, model_config = joined_encoder.join(
            decoder.params, decoder.model_config, encoder.params, encoder.model_config
        )
    except ValueError as error:
        raise ValueError(f"--join={join}: {error}") from error
    if variant is not None:
        reconcile(variant.model, model_config.to_dict())
    origin = dict(decoder.origin)
    if variant is not None:
        origin["name"] = variant.name
    origin["source"] += f", encoder of {encoder.origin['source']}"
    if licence is None:
        origin["licence"] += f"; of the encoder: {encoder.origin['licence']}"
    codes_of = encoder.codes_of or checkpoint.CodesOf(
        encoder.origin["name"],
        encoder.origin["source"],
        checkpoint.codes_fingerprint(encoder.model_config, encoder.params),
    )
    return Converted(params, model_config, origin, decoder.original, codes_of)


def read(
    location: str,
    variant: ml_collections.ConfigDict | None,
    *,
    licence: str | None,
    say: Callable[[str], None],
) -> Converted:
    """Read a checkpoint of ours or of PyTorch.

    Args:
      location: a checkpoint of ours, by file or by the name of a shipped one, or what
        `pytorch_files.read` accepts.
      variant: a whole configuration with which the source must agree, except for the pad mode,
        which the source decides. None to use the source's own config.
      licence: licence of the weights; None for the one that the source or the manifest states.
      say: called with each line of a report.

    Raises:
      ValueError: if the source cannot be read or converted, or disagrees with the configuration.
    """
    path = pathlib.Path(location)
    if not path.exists():
        path = file_paths.shipped_checkpoints().get(location, path)
    if path.suffix == ".safetensors" and path.is_file() and checkpoint.is_own(path):
        loaded = checkpoint.load(path)
        if variant is not None:
            reconcile(variant.model, loaded.config.to_dict())
        origin = {key: loaded.metadata[key] for key in ("name", "source", "source_sha256")}
        origin["licence"] = licence or loaded.metadata["licence"]
        return Converted(loaded.params, loaded.config, origin, None, loaded.codes_of)
    if variant is not None and config.has_fourier(variant.model):
        raise rules.error("config.model.encoder", "fourier", f"seanet, as that of {location}")
    if (decoder := vocos_files.read(location)) is not None:
        return _read_vocos(location, decoder, variant, licence, say)
    if variant is not None and config.has_vocos(variant.model):
        raise ValueError(
            f"{location}: holds no Vocos decoder, as --config describes; --join takes an EnCodec "
            "model, beside a decoder as --source"
        )
    original = pytorch_files.read(location)
    say(f"read {location}: {original.file}, SHA-256 {original.sha256}")
    known = published.find(original.name, original.file, original.sha256)
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


def _read_vocos(
    location: str,
    original: vocos_files.VocosCheckpoint,
    variant: ml_collections.ConfigDict | None,
    licence: str | None,
    say: Callable[[str], None],
) -> Converted:
    """Convert a decoder without an encoder."""
    say(f"read {location}: {original.file}, SHA-256 {original.sha256}")
    known = published.find(original.name, "", original.sha256)
    name = known.config if known else pathlib.Path(original.name).stem
    try:
        if variant is not None:
            reconcile(variant.model, original.model_config.to_dict())
            name = variant.name
        params = vocos_tensors.to_haiku(original.tensors, original.model_config)
    except ValueError as error:
        raise ValueError(f"{location}: {error}") from error
    for start, reason in vocos_tensors.IGNORED.items():
        if count := sum(key.startswith(start) for key in original.tensors):
            say(f"  {count} not needed, {start}: {reason}")
    licence = licence or (known.licence if known else "unknown, see the source")
    say(f"licence of the weights: {licence}")
    origin = {
        "name": name,
        "source": f"{original.name} ({original.file})",
        "source_sha256": original.sha256,
        "licence": licence,
    }
    codes_of = checkpoint.CodesOf(original.encodec, "", None)
    return Converted(params, original.model_config, origin, original, codes_of)


def reconcile(
    model_config: ml_collections.ConfigDict, stated: Mapping[str, Any]
) -> tuple[ml_collections.ConfigDict, list[str]]:
    """Compare a user's model config with the source, which decides the pad mode.

    Returns:
      The model config with the source's pad mode, and a line for each field that changed.

    Raises:
      ValueError: if another field differs; lists the fields (- config, + source).
    """
    fields = model_config.to_dict()
    own = {field: fields[field] for field in stated}
    message, lines = [], []
    for field, value, expected in config.differences(own, stated, folded=True):
        # The weights were trained with one pad mode, and their shapes do not show which.
        if field == "pad_mode":
            fields[field] = expected
            lines.append(f"pad_mode: {expected}, as the source states (config: {value})")
        else:
            message += [f"- {field} {value!r}", f"+ {field} {expected!r}"]
    if message:
        message.insert(0, "the source's own config differs from --config (- config, + source):")
        raise ValueError("\n".join(message))
    return config.from_json(json.dumps(fields)), lines


def _model_of(
    original: transformers_files.PyTorchCheckpoint,
    variant: ml_collections.ConfigDict | None,
    known: published.Known | None,
    say: Callable[[str], None],
) -> tuple[ml_collections.ConfigDict, str]:
    """Return the model config of a PyTorch checkpoint and the name of the variant."""
    if original.stated is not None:
        if variant is None:
            name = known.config if known else pathlib.Path(original.name).stem
            return source_config.to_model(original.stated), name
        model_config, lines = reconcile(variant.model, original.stated)
        for line in lines:
            say(line)
        return model_config, variant.name
    if variant is not None:
        return variant.model, variant.name
    folded = weights.fold_weight_norm(original.tensors)
    names = (known.config,) if known else _BARE_VARIANTS
    for name in names:
        try:
            model_config = importlib.import_module(f"encodec_hk.configs.{name}").get_config().model
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
