"""Optional dependencies, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from encodec_hk.system import file_paths

# What needs each extra of pyproject.toml.
_PURPOSES = {
    "convert": "conversion",
    "evaluate": "evaluation",
    "hub": "a hub name",
    "train": "training",
}


def require(module: str, extra: str = "convert") -> ModuleType:
    """Import a module; if it is absent, raise ValueError with the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        package = "encodec-hk" if file_paths.is_installed() else "."
        raise ValueError(
            f"{_PURPOSES[extra]} needs {missing}: pip install '{package}[{extra}]'"
        ) from error
