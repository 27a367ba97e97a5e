"""Modules that only conversion needs, imported when they are."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str) -> ModuleType:
    """Imports a module of the `convert` extra.

    Raises:
      ValueError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"conversion needs {error.name or module}: pip install '.[convert]'"
        ) from error
