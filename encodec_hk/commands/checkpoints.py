"""Which checkpoint a command reads."""

from __future__ import annotations

import pathlib

import ml_collections

import encodec_hk
from encodec_hk import config
from encodec_hk.blocks import compilation_cache
from encodec_hk.pretrained import locations
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
