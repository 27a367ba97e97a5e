"""Which checkpoint a command reads."""

from __future__ import annotations

import pathlib

import ml_collections

import encodec_hk
from encodec_hk import config
from encodec_hk.blocks import compilation_cache
from encodec_hk.system import file_paths

# For each published variant, the source that `run.py convert` takes, and a note on where to get it.
_SOURCES = {
    "encodec_24khz": ("facebook/encodec_24khz", ""),
    "encodec_48khz": ("facebook/encodec_48khz", ""),
    "encodec_32khz": ("facebook/encodec_32khz", ""),
    "encodec_16khz": ("compression_state_dict.bin", " (a file of facebook/audiogen-medium)"),
}


def load_codec(
    variant: ml_collections.ConfigDict | None, checkpoint_path: str | None
) -> encodec_hk.Codec:
    """Load the codec of a command.

    Args:
      variant: a whole configuration. Its model must be the checkpoint's. None takes the model and
        the defaults of the checkpoint.
      checkpoint_path: a checkpoint file; None for the one that the configuration names.

    Raises:
      ValueError: if both are None, the configuration is invalid or describes another model, or the
        file is damaged or missing (the message then says how to get it).
    """
    if variant is not None:
        config.validate(variant)
    path = checkpoint_path or (variant.checkpoint if variant is not None else None)
    if path is None:
        raise ValueError("checkpoint: got none, must be a file or named by a configuration")
    if not checkpoint_path and not pathlib.Path(path).exists():
        # The configuration's path is relative to the project, not to the current folder.
        own = file_paths.ROOT / path
        path = str(own) if own.exists() else path
    if not pathlib.Path(path).exists():
        hint = "name an existing one with --checkpoint=FILE"
        if variant is not None and variant.name in _SOURCES:
            source, note = _SOURCES[variant.name]
            hint = (
                f"to make it: python run.py convert --config=configs/{variant.name}.py "
                f"--source={source} --output={path}{note}"
            )
        raise ValueError(f"checkpoint: {path} does not exist; {hint}")
    return encodec_hk.load(path, variant, traces_folder=compilation_cache.traces_folder())
