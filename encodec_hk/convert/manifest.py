"""The published checkpoints, from `checkpoints/manifest.json`."""

from __future__ import annotations

import dataclasses
import json
import pathlib

PATH = pathlib.Path(__file__).parents[2] / "checkpoints" / "manifest.json"


@dataclasses.dataclass(frozen=True)
class Known:
    """A published checkpoint.

    Attributes:
      source: file name or hub name.
      config: name of the variant's file in `configs/`.
      sha256: first digits of the SHA-256 of the weights file, "" if not known.
      licence: licence of the weights, as stated in the publisher's repository.
    """

    source: str
    config: str
    sha256: str
    licence: str


def find(name: str, file: str, sha256: str) -> Known | None:
    """Return the entry of a source by its hub name, file name or SHA-256; None if unknown."""
    for entry in read():
        if entry.source in (name, file) or (entry.sha256 and sha256.startswith(entry.sha256)):
            return entry
    return None


def read() -> list[Known]:
    """Return all entries; none if the package is installed without its repository."""
    if not PATH.is_file():
        return []
    return [Known(**entry) for entry in json.loads(PATH.read_text())["checkpoints"]]
