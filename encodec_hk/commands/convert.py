"""`run.py convert`: PyTorch checkpoints in, and out to transformers."""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
import tempfile

import ml_collections
import numpy as np

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk import config as config_lib
from encodec_hk.convert import manifest
from encodec_hk.convert import pytorch_files
from encodec_hk.convert import source_config
from encodec_hk.convert import tensor_names
from encodec_hk.convert import transformers_folder
from encodec_hk.convert import transformers_network
from encodec_hk.convert import verify
from encodec_hk.convert import weights
from encodec_hk.system import extras
from encodec_hk.system import interruption

TARGETS = ("haiku", "transformers")

_BARE_CONFIGS = ("encodec_24khz", "encodec_48khz")
"""Variants that Meta publishes as state dicts without a config."""


@dataclasses.dataclass(frozen=True)
class _Converted:
    """A source in our form; `source` is None where it was a checkpoint of ours."""

    params: checkpoint.Params
    model: ml_collections.ConfigDict
    name: str
    origin: str
    sha256: str
    licence: str
    source: pytorch_files.PyTorchCheckpoint | None


def run(
    config: ml_collections.ConfigDict | None,
    *,
    source: str | None,
    output: str | None,
    to: str = "haiku",
    verify: bool = False,
    licence: str | None = None,
    int16: bool = False,
) -> int:
    """Converts a checkpoint and prints what was done.

    Args:
      config: a whole configuration that a source's own config must agree with, the pad mode apart,
        which the source decides. None: what the source says of itself is all.
      source: what `sources.read` takes, or a checkpoint of ours (for `to="transformers"` or
        `int16` only).
      output: the .safetensors file, or the folder of `to="transformers"`: new, or empty.
      to: "haiku" or "transformers".
      verify: whether to run the PyTorch network beside ours and print how far they agree.
      licence: of the weights, where the manifest does not know it.
      int16: whether to write weights as integers, for about half the size (`to="haiku"` only).

    Returns:
      The exit status, 0.

    Raises:
      ValueError: with a line for run.py to print, and a list where there is one.
    """
    if config is not None:
        config_lib.validate(config)
    if to not in TARGETS:
        raise ValueError(f"to: got {to!r}, must be one of {', '.join(TARGETS)}")
    if not source or not output:
        raise ValueError("convert: needs --source and --output")
    source, path = os.path.expanduser(source), pathlib.Path(output).expanduser()
    if int16 and to == "transformers":
        raise ValueError("int16: the form of --to=transformers is float32")
    if to == "transformers":
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ValueError(f"output: {output} is there already, must be a new or an empty folder")
    elif path.is_dir() or path.suffix != ".safetensors":
        raise ValueError(f"output: got {output}, must be a file name that ends in .safetensors")
    converted = _read(config, source, licence)
    if to == "haiku" and converted.source is None and not int16:
        raise ValueError(f"{source}: is a checkpoint of this project already; --to=transformers?")
    try:
        _write(converted, path, to, verify, int16)
    except OSError as error:
        raise ValueError(f"output: {output} cannot be written ({error})") from error
    print(f"wrote {output}")
    return 0


def _write(converted: _Converted, path: pathlib.Path, to: str, verify: bool, int16: bool) -> None:
    """Makes the output whole, and verifies it, before anything stands under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convert-") as staging:
        ours = pathlib.Path(staging, "checkpoint.safetensors")
        checkpoint.save(
            ours,
            converted.params,
            converted.model,
            name=converted.name,
            source=converted.origin,
            source_sha256=converted.sha256,
            licence=converted.licence,
            int16=int16,
        )
        folder = pathlib.Path(staging, "transformers") if to == "transformers" else None
        if folder is not None:
            transformers_folder.write_folder(folder, converted.params, converted.model)
        if verify:
            _verify(converted, ours, folder)
        if folder is not None and path.is_dir():
            path.rmdir()
        interruption.check()
        os.replace(folder or ours, path)


def _read(
    config: ml_collections.ConfigDict | None, location: str, licence: str | None
) -> _Converted:
    """Reads a source; `config` is the user's own, or None."""
    if _is_ours(location):
        loaded = checkpoint.load(location)
        if config is not None:
            source_config.reconcile(
                config.model, source_config.Settings(loaded.config.to_dict(), {})
            )
        return _Converted(
            params=loaded.params,
            model=loaded.config,
            name=loaded.name,
            origin=loaded.metadata["source"],
            sha256=loaded.metadata["source_sha256"],
            licence=licence or loaded.metadata["licence"],
            source=None,
        )
    source = pytorch_files.read(location)
    known = manifest.find(source.name, source.file, source.sha256)
    print(f"read {location}: {source.file}, SHA-256 {source.sha256}")
    folded = weights.fold_weight_norm(source.tensors)
    model, name = _model_of(config, source, known, folded)
    rows, ignored = (
        tensor_names.table(model, source.naming),
        tensor_names.ignored(model, source.naming),
    )
    try:
        params = weights.to_haiku(folded, rows, ignored)
    except ValueError as error:
        raise ValueError(f"{location}: {error}") from error
    unused = {key: reason for key, reason in ignored.items() if key in folded}
    print(f"{len(source.tensors)} tensors, {len(unused)} of them not needed:")
    for tensor, reason in tensor_names.IGNORED.items():
        count = sum(key.endswith(f".{tensor}") for key in unused)
        print(f"  {count} {tensor}: {reason}")
    licence = licence or (known.licence if known else "unknown, see the source")
    print(f"licence of the weights: {licence}")
    return _Converted(
        params=params,
        model=model,
        name=name,
        origin=source.name if source.name == source.file else f"{source.name} ({source.file})",
        sha256=source.sha256,
        licence=licence,
        source=source,
    )


def _is_ours(location: str) -> bool:
    path = pathlib.Path(location)
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    return checkpoint.read_metadata(path).get("format") == checkpoint.FORMAT


def _model_of(
    config: ml_collections.ConfigDict | None,
    source: pytorch_files.PyTorchCheckpoint,
    known: manifest.Known | None,
    folded: dict[str, np.ndarray],
) -> tuple[ml_collections.ConfigDict, str]:
    """The model config of a source, and the variant's name."""
    if source.settings is not None:
        if config is None:
            try:
                model = source_config.to_model(source.settings)
            except ValueError as error:
                raise ValueError(f"{source.name}: {error}") from error
            return model, known.config if known else pathlib.Path(source.name).stem
        model, lines = source_config.reconcile(config.model, source.settings)
        for line in lines:
            print(line)
        return model, config.name
    if config is not None:
        return config.model, config.name
    for name in (known.config,) if known else _BARE_CONFIGS:
        variant = _variant(name)
        try:
            weights.check(
                folded,
                tensor_names.table(variant.model, source.naming),
                tensor_names.ignored(variant.model, source.naming),
            )
        except ValueError:
            continue
        print(f"config: {name}, by its {'name' if known else 'tensors'}")
        return variant.model, variant.name
    raise ValueError(
        f"{source.name}: has no config of its own, and its tensors are not those of "
        f"{known.config if known else ' or '.join(_BARE_CONFIGS)}: give --config"
    )


def _variant(name: str) -> ml_collections.ConfigDict:
    try:
        return importlib.import_module(f"configs.{name}").get_config()
    except ModuleNotFoundError as error:
        raise ValueError(f"configs/{name}.py cannot be imported: give --config") from error


def _verify(converted: _Converted, ours: pathlib.Path, exported: pathlib.Path | None) -> None:
    """Prints how far ours agrees with the source's network, and with the one just exported."""
    codec = encodec_hk.load(ours)
    networks = []
    if converted.source is not None:
        source = converted.source
        network = transformers_network.build(converted.model, source.tensors, source.naming)
        networks.append(("PyTorch with the source's tensors", network))
    if exported is not None:
        with transformers_network.no_progress_bars():
            network = extras.require("transformers").EncodecModel.from_pretrained(exported)
        networks.append(("PyTorch with the exported folder", network.eval()))
    for title, network in networks:
        comparison = verify.compare(codec, network)
        print(f"{title}, beside ours:")
        for line in comparison.report():
            print(f"  {line}")
        if not comparison.passed:
            raise ValueError("the converted network does not compute what the source's does")
