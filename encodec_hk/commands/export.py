"""`run.py export`: a codec as files for programs without this package."""

from __future__ import annotations

import os
import pathlib
import tempfile

import ml_collections

from encodec_hk import config
from encodec_hk.commands import checkpoints
from encodec_hk.export import export_formats
from encodec_hk.export import model_facts
from encodec_hk.system import interruption
from encodec_hk.system import rules


def run(
    variant: ml_collections.ConfigDict | None,
    *,
    format: str | None,
    output: str | None,
    checkpoint: str | None = None,
    bandwidth: float | None = None,
    licence: str | None = None,
    runtime: str | None = None,
    force: bool = False,
) -> int:
    """Write a folder, print its files and return the exit status, 0.

    Args:
      variant: a whole configuration; None for the checkpoint's.
      format: one of `export_formats.FORMATS`.
      output: the folder, which appears when it is complete.
      checkpoint: as in `checkpoints.load_codec`.
      bandwidth: kbps that the encoder gives; None for what the format does without.
      licence: of the weights; None for what is known of the checkpoint.
      runtime: a folder with the unpacked package onnxruntime-web, for the page; None for npm's.
      force: whether to replace a folder that an export has written.

    Raises:
      ValueError: if an argument is wrong, or the format cannot hold the codec; what was in the
        folder is there then.
    """
    if not format or not output:
        raise ValueError("export: needs --format and --output")
    if format not in export_formats.FORMATS:
        raise rules.error("format", format, f"one of {', '.join(export_formats.FORMATS)}")
    options: dict[str, pathlib.Path | None] = {}
    if runtime is not None:
        if "runtime" not in export_formats.FORMATS[format].options:
            raise ValueError(f"--runtime: for --format=web alone, got --format={format}")
        options["runtime"] = pathlib.Path(runtime).expanduser()
    if "language" in export_formats.FORMATS[format].options:
        options["language"] = checkpoints.language_beside(variant, checkpoint)
    path = pathlib.Path(output).expanduser().absolute()
    _check_output(output, path, force)
    codec = checkpoints.load_codec(variant, checkpoint)
    num_codebooks = None
    if bandwidth is not None:
        codec.check_encoder()
        num_codebooks = config.num_codebooks_for(codec.model_config, bandwidth, field="--bandwidth")
    facts = model_facts.facts(codec, licence or checkpoints.licence(variant, checkpoint, codec))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as staging:
            folder = pathlib.Path(staging, "new")
            folder.mkdir()
            export_formats.FORMATS[format].write(codec, folder, facts, num_codebooks, **options)
            interruption.check()
            _replace(path, folder, pathlib.Path(staging, "old"))
    except OSError as error:
        raise ValueError(f"output: {output} cannot be written ({error})") from error
    for name, entry in model_facts.files(path).items():
        print(f"{entry['size'] / 1e6:10.3f} MB  {name}")
    print(f"wrote {output}")
    return 0


def _replace(path: pathlib.Path, new: pathlib.Path, old: pathlib.Path) -> None:
    """Rename the folder `path`, if there is one, to `old`, and `new` to `path`; all or nothing."""
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except BaseException:
        if old.exists():
            os.replace(old, path)
        raise


def _check_output(output: str, path: pathlib.Path, force: bool) -> None:
    """Raise ValueError if a folder must not be written: what no export wrote is never replaced."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    manifests = (entry.manifest for entry in export_formats.FORMATS.values())
    if not any((path / name).is_file() for name in manifests):
        raise ValueError(f"output: {output} already exists, must be a new or an empty folder")
    if not force:
        raise ValueError(f"output: {output} exists already; --force replaces it")
