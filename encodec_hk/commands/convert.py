"""`run.py convert`: PyTorch checkpoints in, and out to transformers."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Any

import ml_collections

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.convert import conversion
from encodec_hk.convert import meta_language
from encodec_hk.convert import transformers_network
from encodec_hk.convert import verify
from encodec_hk.convert import vocos_files
from encodec_hk.convert import vocos_network
from encodec_hk.networks import model
from encodec_hk.system import interruption
from encodec_hk.system import rules

TARGETS = ("haiku", "transformers")


def run(
    variant: ml_collections.ConfigDict | None,
    *,
    source: str | None,
    output: str | None,
    join: str | None = None,
    to: str = "haiku",
    verify: bool = False,
    licence: str | None = None,
    int16: bool = False,
    force: bool = False,
) -> int:
    """Convert a checkpoint, print a report and return the exit status, 0.

    Args:
      variant: a configuration with which the source must agree; see `conversion.read`.
      source: what `pytorch_files.read` accepts, a language model of Meta's, or a checkpoint of
        ours (only with `to="transformers"` or `int16`).
      output: the .safetensors file, or the new or empty folder of `to="transformers"`.
      join: an EnCodec model, named as a source is, that gives its encoder to the Vocos decoder
        `source`, which may be a checkpoint of ours then.
      to: "haiku" or "transformers".
      verify: whether to run the PyTorch network beside ours and print how far they agree.
      licence: licence of the weights, if the manifest does not know it.
      int16: whether to write weights as integers, for about half the size (only `to="haiku"`).
      force: whether to replace a file that exists. A folder is never replaced.

    Raises:
      ValueError: if an argument is wrong, the source cannot be converted, or verification fails.
    """
    if variant is not None:
        config.validate(variant)
    if to not in TARGETS:
        raise rules.error("to", to, f"one of {', '.join(TARGETS)}")
    if not source or not output:
        raise ValueError("convert: needs --source and --output")
    source, path = os.path.expanduser(source), pathlib.Path(output).expanduser()
    if to == "transformers":
        if int16:
            raise ValueError("int16: got True, must be False with --to=transformers")
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise ValueError(f"output: {output} already exists, must be a new or an empty folder")
    elif path.is_dir() or path.suffix != ".safetensors":
        raise ValueError(f"output: got {output}, must be a file name that ends in .safetensors")
    elif path.exists() and not force:
        raise ValueError(f"output: {output} exists already; --force replaces it")
    if meta_language.is_source(pathlib.Path(source)):
        if to != "haiku" or join is not None or verify or int16 or variant is not None:
            raise ValueError(
                f"{source}: a language model; --config, --join, --to, --verify and --int16 are for "
                "codecs"
            )
        meta_language.convert(pathlib.Path(source), path, licence=licence, say=print)
        print(f"wrote {output}")
        return 0
    if join is None:
        converted = conversion.read(source, variant, licence=licence, say=print)
        if (codes_of := converted.codes_of) and not model.has_encoder(converted.params):
            print(f"it decodes codes of {codes_of.name}, and has no encoder: --join adds one")
    else:
        join = os.path.expanduser(join)
        converted = conversion.read_joined(source, variant, join, licence=licence, say=print)
    if to == "haiku" and converted.original is None and not int16 and join is None:
        raise ValueError(f"{source}: is a checkpoint of this project already; --to=transformers?")
    try:
        _write(converted, path, to, verify, int16)
    except OSError as error:
        raise ValueError(f"output: {output} cannot be written ({error})") from error
    print(f"wrote {output}")
    return 0


def _write(
    converted: conversion.Converted, path: pathlib.Path, to: str, is_verified: bool, int16: bool
) -> None:
    """Write and verify the output in a temporary folder, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convert-") as staging:
        ours, folder = pathlib.Path(staging, "checkpoint.safetensors"), None
        params, model_config = converted.params, converted.model_config
        facts: dict[str, Any] = {**converted.origin, "codes_of": converted.codes_of}
        checkpoint.save(ours, params, model_config, **facts, int16=int16)
        if to == "transformers":
            folder = pathlib.Path(staging, "transformers")
            transformers_network.write_folder(folder, params, model_config)
        if is_verified:
            _verify(converted, ours, folder)
        if path.is_dir():
            path.rmdir()
        interruption.check()
        os.replace(folder or ours, path)


def _verify(
    converted: conversion.Converted, ours: pathlib.Path, folder: pathlib.Path | None
) -> None:
    """Print how far our checkpoint agrees with the source, and with the exported folder."""
    if isinstance(source := converted.original, vocos_files.VocosCheckpoint):
        _verify_vocos(source, ours)
        return
    networks = {}
    if source is not None:
        networks["PyTorch with the source's tensors"] = transformers_network.build(
            converted.model_config, source.tensors, source.naming
        )
    if folder is not None:
        networks["PyTorch with the exported folder"] = transformers_network.load_folder(folder)
    codec = encodec_hk.load(ours)
    for title, network in networks.items():
        comparison = verify.compare(codec, network)
        print(f"{title}, beside ours:")
        for line in comparison.report():
            print(f"  {line}")
        if not comparison.passed:
            raise ValueError("the converted network does not compute what the source's does")


def _verify_vocos(source: vocos_files.VocosCheckpoint, ours: pathlib.Path) -> None:
    """Print how far our checkpoint agrees with a Vocos decoder."""
    network = vocos_network.VocosNetwork(source.model_config, source.tensors)
    print("the package vocos with the source's tensors, beside ours:")
    for each in vocos_network.compare(encodec_hk.load(ours), network):
        found = f"{each.difference:.2e} largest difference (peak {each.peak:.2f})"
        print(f"  audio at {each.kbps:g} kbps: {found}")
        if not each.passed:
            raise ValueError("the converted network does not compute what the source's does")
