"""Optional dependencies, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str = "convert") -> ModuleType:
    """Import a module of an optional dependency.

    Args:
      module: name of the module.
      extra: the extra of pyproject.toml that installs it.

    Raises:
      ValueError: if it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        names = {"convert": "conversion", "evaluate": "evaluation", "train": "training"}
        what = names[extra]
        raise ValueError(
            f"{what} needs {error.name or module}: pip install '.[{extra}]'"
        ) from error
