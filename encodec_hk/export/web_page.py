"""A folder with a page that runs a codec in a browser: what `run.py export --format=web` writes.

index.html, *.js, *.css   the page, from docs/web/
model/                    the ONNX graphs, as --format=onnx writes them, and a language model
runtime/                  ONNX Runtime for browsers, and its licence
clips/                    sound to try, and its licences
"""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import encodec_hk
from encodec_hk.export import model_facts
from encodec_hk.export import onnx_files
from encodec_hk.export import web_runtime
from encodec_hk.language import language_file
from encodec_hk.system import file_paths

MANIFEST = "model/stream.json"

_LANGUAGE = "language.safetensors"
_PAGE = ("*.html", "*.css", "*.js")


def write(
    codec: encodec_hk.Codec,
    folder: pathlib.Path,
    facts: dict[str, Any],
    num_codebooks: int | None = None,
    *,
    runtime: pathlib.Path | None = None,
    language: pathlib.Path | None = None,
) -> None:
    """Fill an empty folder with the page.

    Args:
      codec: the codec: causal, mono and with an encoder.
      folder: the folder, for a file server.
      facts: of `model_facts.facts`.
      num_codebooks: None: the page encodes with all codebooks and offers every bandwidth.
      runtime: a folder with the unpacked package onnxruntime-web; None to fetch it with npm.
      language: the file of a language model, for smaller .ecdc files; None for none. One for the
        codes of another codec is left out.

    Raises:
      ValueError: the page cannot hold the codec, there is no runtime, or the language model is
        damaged.
    """
    if num_codebooks is not None:
        raise ValueError("web: takes no --bandwidth, the page offers all of them")
    _check(codec)
    for name in ("model", "runtime", "clips"):
        (folder / name).mkdir()
    if language is not None:
        facts = {**facts, **_with_language(codec, folder / "model", language)}
    web_runtime.write(folder / "runtime", runtime)
    onnx_files.write(codec, folder / "model", facts, codec.num_codebooks)
    page = file_paths.shipped("docs/web")
    for path in (path for pattern in _PAGE for path in page.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    _write_clips(folder / "clips")


def _with_language(
    codec: encodec_hk.Codec, folder: pathlib.Path, path: pathlib.Path
) -> dict[str, Any]:
    """Copy a language model, if it is for the codec; return what the manifest says about it."""
    model = language_file.load(path)
    if model.codec != codec.codes_of.fingerprint:
        return {}
    shutil.copyfile(path, folder / _LANGUAGE)
    return {
        "language": {
            "file": _LANGUAGE,
            "fingerprint": model.fingerprint,
            "num_codebooks": model.sizes.num_codebooks,
            "source": model.source,
            "licence": model.licence,
        }
    }


def _check(codec: encodec_hk.Codec) -> None:
    """Raise ValueError if the page cannot hold a codec."""
    problem = None
    if not codec.has_encoder:
        problem = "decodes only"
    elif not all(model_facts.is_causal(codec, network) for network in ("encoder", "decoder")):
        problem = "is not causal"
    elif codec.channels != 1:
        problem = f"has {codec.channels} channels"
    if problem:
        raise ValueError(f"web: {codec.name} {problem}; the page streams mono sound both ways")


def _write_clips(folder: pathlib.Path) -> None:
    """Copy the clips, their licences, and a list that the page reads."""
    source = file_paths.shipped("assets/clips")
    for path in (*source.glob("*.flac"), source / "LICENSES.md"):
        shutil.copyfile(path, folder / path.name)
    names = sorted(path.name for path in folder.glob("*.flac"))
    clips = [
        {"file": name, "name": pathlib.Path(name).stem.partition("_")[2].capitalize()}
        for name in names
    ]
    (folder / "clips.json").write_text(json.dumps(clips, indent=1) + "\n")
