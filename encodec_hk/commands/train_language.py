"""`run.py train_language`: train a language model over the codes of a codec, or resume a run."""

from __future__ import annotations

import pathlib

import ml_collections
import tqdm

import encodec_hk
from encodec_hk.commands import checkpoints
from encodec_hk.configs import base
from encodec_hk.language import language_file
from encodec_hk.system import extras
from encodec_hk.system import interruption

_INTERRUPTED = 130  # exit status


def run(
    variant: ml_collections.ConfigDict | None,
    *,
    data: str | None,
    workdir: str | None,
    checkpoint: str | None = None,
    validation: str | None = None,
    licence: str | None = None,
) -> int:
    """Train, and write the integers to WORKDIR/NAME_language.safetensors.

    Args:
      variant: a whole configuration; None for the checkpoint's model and the base configuration.
      data: a folder or glob of sound to train on; its codes are kept in the run's folder.
      workdir: the run's folder, created if missing. If it holds a run, that run is resumed.
      checkpoint: of the codec; None for the one that the configuration names.
      validation: a folder or glob of sound to measure on; None holds out a twentieth of `data`.
      licence: of the weights, for the file.

    Returns:
      The exit status: 0, or 130 if interrupted; the state is saved in both cases.

    Raises:
      ValueError: if an argument or the sound is wrong.
    """
    if not data or not workdir:
        raise ValueError("train_language: needs --data and --workdir")
    extras.require("optax", "train")
    # Imported here, so that a missing package is reported in one line.
    from encodec_hk.training import language_codes
    from encodec_hk.training import language_loop

    if variant is not None:
        language_loop.validate(variant)
    codec = checkpoints.load_codec(variant, checkpoint)
    codec.check_encoder()
    if variant is None:
        variant = _variant_of(codec)
    sizes = language_loop.validate(variant)
    fingerprint = codec.codes_of.fingerprint
    if fingerprint is None:
        raise ValueError("checkpoint: got one of a codec without a fingerprint, must be whole")
    folder = pathlib.Path(workdir).expanduser()
    count = sizes.num_codebooks
    rows = language_codes.load(folder / "codes.safetensors", codec, data, count, _report)
    if validation:
        path = folder / "validation_codes.safetensors"
        held_out = language_codes.load(path, codec, validation, count, _report)
    else:
        rows, held_out = language_loop.hold_out(rows)
    interruption.postpone()
    training = language_loop.LanguageRun(variant, folder, rows, held_out, _report)
    is_done = training.train(interruption.is_requested)
    if not is_done:
        _report("interrupted; run the same command to resume")
        return _INTERRUPTED
    path = folder / f"{variant.name}{language_file.SUFFIX}"
    training.export(path, name=variant.name, codec=fingerprint, licence=licence or "")
    _report(f"{path}: after {training.step} steps")
    return 0


def _variant_of(codec: encodec_hk.Codec) -> ml_collections.ConfigDict:
    """Return the base configuration with a codec's model."""
    variant = base.get_config().unlock()
    variant.name, variant.model = codec.name, codec.model_config
    count = min(variant.language.num_codebooks, codec.num_codebooks)
    variant.language.num_codebooks = count
    return variant.lock()


def _report(line: str) -> None:
    tqdm.tqdm.write(line)
