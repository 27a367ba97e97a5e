"""Paths in messages, and the path of the project."""

from __future__ import annotations

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
"""The folder with run.py, configs/ and checkpoints/."""


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path for messages; bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(path).decode("utf-8", "replace")
