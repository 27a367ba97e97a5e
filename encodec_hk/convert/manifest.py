"""The published checkpoints that this project knows: `checkpoints/manifest.json`."""

from __future__ import annotations

import dataclasses
import json
import pathlib

PATH = pathlib.Path(__file__).parents[2] / "checkpoints" / "manifest.json"


@dataclasses.dataclass(frozen=True)
class Known:
    """A published checkpoint.

    Attributes:
      source: its file name, or its name on the hub.
      config: the name of its file in `configs/`.
      sha256: how the SHA-256 of its file of weights begins, "" where it is not known.
      licence: of the weights, as their publisher's repository states it.
    """

    source: str
    config: str
    sha256: str
    licence: str


def find(name: str, file: str, sha256: str) -> Known | None:
    """The entry of a source, by its hub name, its file's name, or its file's SHA-256."""
    for entry in read():
        if entry.source in (name, file) or (entry.sha256 and sha256.startswith(entry.sha256)):
            return entry
    return None


def read() -> list[Known]:
    """All entries; none where the package is installed without the repository around it."""
    if not PATH.is_file():
        return []
    return [Known(**entry) for entry in json.loads(PATH.read_text())["checkpoints"]]
