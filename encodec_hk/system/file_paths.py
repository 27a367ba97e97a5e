"""Paths: how messages show them, and where the project is."""

from __future__ import annotations

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
"""The folder of run.py, configs/ and checkpoints/."""


def shown(path: str | os.PathLike[str]) -> str:
    """A path for messages: bytes that are not UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace")
