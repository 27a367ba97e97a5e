"""A local cache of the Hugging Face hub, filled by hand."""

from __future__ import annotations

import pathlib
import unittest
from unittest import mock

import huggingface_hub.constants

COMMIT = "0123456789" * 4


def use(case: unittest.TestCase, cache: pathlib.Path) -> None:
    """Let huggingface_hub use a folder as its cache, and no network, until a test ends."""
    constants = huggingface_hub.constants
    case.enterContext(mock.patch.object(constants, "HF_HUB_CACHE", str(cache)))
    case.enterContext(mock.patch.object(constants, "HF_HUB_OFFLINE", True))


def put(cache: pathlib.Path, name: str, folder: pathlib.Path) -> None:
    """Move a folder into the cache, in its layout, as the repository `name`."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    folder.rename(repository / "snapshots" / COMMIT)
