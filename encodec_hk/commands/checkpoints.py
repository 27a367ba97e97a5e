"""Which checkpoint a command reads."""

from __future__ import annotations

import pathlib

import ml_collections

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import checkpoint
from encodec_hk import config
from encodec_hk.blocks import compilation_cache
from encodec_hk.convert import meta_language
from encodec_hk.language import language_coder
from encodec_hk.language import language_file
from encodec_hk.pretrained import locations
from encodec_hk.pretrained import published
from encodec_hk.system import file_paths
from encodec_hk.system import invocation

# Hub names of the published variants that `load` reads.
_HUB_NAMES = {
    "encodec_24khz": "facebook/encodec_24khz",
    "encodec_48khz": "facebook/encodec_48khz",
    "encodec_32khz": "facebook/encodec_32khz",
}
# A published variant that needs PyTorch: the source of `run.py convert`, and where to get it.
_PICKLES = {
    "encodec_16khz": ("compression_state_dict.bin", " (a file of facebook/audiogen-medium)"),
    "vocos_encodec_24khz": ("charactr/vocos-encodec-24khz", ""),
}


def load_codec(
    variant: ml_collections.ConfigDict | None, checkpoint_path: str | None
) -> encodec_hk.Codec:
    """Load the codec of a command.

    Args:
      variant: a whole configuration. Its model must be the checkpoint's. None takes the model and
        the defaults of the checkpoint.
      checkpoint_path: what `encodec_hk.load` takes; None for the file that the configuration names.

    Raises:
      ValueError: if both are None, the configuration is invalid or describes another model, or the
        checkpoint is damaged or missing (the message then says how to get it).
    """
    if variant is not None:
        config.validate(variant)
    path = checkpoint_path or (variant.checkpoint if variant is not None else None)
    if path is None:
        raise ValueError("checkpoint: got none, must be given or named by a configuration")
    if not checkpoint_path:
        path = str(own_file(path) or path)
    if variant is not None and not locations.may_exist(path):
        raise ValueError(f"checkpoint: {path} does not exist; {_hint(variant.name, path)}")
    return encodec_hk.load(path, variant, traces_folder=compilation_cache.traces_folder())


def licence(
    variant: ml_collections.ConfigDict | None,
    checkpoint_path: str | None,
    codec: encodec_hk.Codec,
) -> str:
    """Return what is known of the licence of a codec's weights, as `load_codec` has loaded it."""
    named = checkpoint_path or (variant.checkpoint if variant is not None else "")
    path = own_file(named) if not checkpoint_path else pathlib.Path(named).expanduser()
    if path is None or not path.exists():
        path = file_paths.shipped_checkpoints().get(named)
    if path is not None and path.suffix == ".safetensors" and checkpoint.is_own(path):
        return checkpoint.read_metadata(path).get("licence", "") or "unknown"
    known = published.find(codec.source, "", "")
    return known.licence if known else "unknown, see the source"


def language_kind(path: str | None) -> str | None:
    """Return which --entropy a file of --language is for, "language" or "meta"; None for no file.

    Raises:
      ValueError: if the file is missing, damaged or not a language model.
    """
    if not path:
        return None
    kinds = {language_file.FORMAT: "language", meta_language.FORMAT: "meta"}
    kind = kinds.get(checkpoint.read_metadata(path).get("format", ""))
    if kind is None:
        formats = " or ".join(kinds)
        raise ValueError(f"{path}: not a language model (its metadata has no format={formats})")
    return kind


def load_predictor(path: str | None) -> bitstream.CodePredictor | None:
    """Load Meta's language model, if a file of --language is one.

    Raises:
      ValueError: if the file is missing or damaged, or PyTorch is not installed.
    """
    if not path or language_kind(path) != "meta":
        return None
    return meta_language.load(path)


def load_language(
    variant: ml_collections.ConfigDict | None,
    checkpoint_path: str | None,
    language_path: str | None = None,
) -> language_coder.LanguageCoder | None:
    """Load the language model of a command, for files of version 1.

    Args:
      variant: a whole configuration, or None.
      checkpoint_path: as in `load_codec`.
      language_path: its file; None, or one of Meta's, for the one beside the checkpoint, as
        `encodec_24khz_small_language.safetensors` is beside `encodec_24khz_small.safetensors`.

    Returns:
      The coder; None if no file is named and none lies beside the checkpoint.

    Raises:
      ValueError: if the file is missing or damaged.
    """
    if not language_path or language_kind(language_path) == "meta":
        found = language_beside(variant, checkpoint_path)
        if found is None:
            return None
        language_path = str(found)
    folder = compilation_cache.traces_folder()
    return language_coder.LanguageCoder(language_file.load(language_path), traces_folder=folder)


def language_beside(
    variant: ml_collections.ConfigDict | None, checkpoint_path: str | None
) -> pathlib.Path | None:
    """Return the file of the language model beside a command's checkpoint, None without one."""
    named = checkpoint_path or (variant.checkpoint if variant is not None else None)
    if not named:
        return None
    path = pathlib.Path(named) if checkpoint_path else own_file(named)
    stem = (path or pathlib.Path(named)).with_suffix("")
    shipped = file_paths.shipped("checkpoints") / stem.name
    places = (stem, shipped) if path and path.exists() or "/" not in named else (stem,)
    files = (place.with_name(place.name + language_file.SUFFIX) for place in places)
    return next((file for file in files if file.is_file()), None)


def own_file(path: str) -> pathlib.Path | None:
    """Return the file that a configuration names; None if it does not exist.

    Its path is relative to the current folder or, if the file is not there, to the project's.
    """
    candidates = (pathlib.Path(path), file_paths.shipped("checkpoints").parent / path)
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _hint(name: str, path: str) -> str:
    """Return how to get the weights of a variant, whose file would be `path`."""
    if name in _HUB_NAMES:
        return f"use the published one with --checkpoint={_HUB_NAMES[name]}"
    if name in _PICKLES:
        source, note = _PICKLES[name]
        arguments = f"--config={name} --source={source} --output={path}"
        return f"to make it: {invocation.command()} convert {arguments}{note}"
    return "name an existing one with --checkpoint=FILE"
