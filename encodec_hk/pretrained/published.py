"""Published checkpoints that are known by name, and the configs in `configs/`."""

from __future__ import annotations

import importlib
import json
from typing import NamedTuple

import ml_collections

from encodec_hk import config
from encodec_hk.system import file_paths


class Known(NamedTuple):
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


def manifest() -> list[Known]:
    """Return the entries of the manifest; none if the package is installed without it."""
    path = file_paths.shipped("checkpoints") / "manifest.json"
    if not path.is_file():
        return []
    return [Known(**entry) for entry in json.loads(path.read_text())["checkpoints"]]


def find(name: str, file: str, sha256: str) -> Known | None:
    """Return the manifest's entry of a hub name, file name or SHA-256; None if unknown."""
    for entry in manifest():
        if entry.source in (name, file) or (entry.sha256 and sha256.startswith(entry.sha256)):
            return entry
    return None


def variant_of(model_config: ml_collections.ConfigDict) -> str | None:
    """Return the name of the shipped config that describes a model; None if none does."""
    for name in file_paths.shipped_configs():
        expected = importlib.import_module(f"encodec_hk.configs.{name}").get_config().model
        if not config.differences(model_config, expected, folded=True):
            return name
    return None
