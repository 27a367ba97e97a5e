"""Optional dependencies, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from encodec_hk.system import file_paths

# What needs each extra of pyproject.toml.
PURPOSES = {
    "convert": "conversion",
    "evaluate": "evaluation",
    "hub": "a hub name",
    "onnx": "export to ONNX",
    "tokens": "a data set of codes",
    "train": "training",
}


def require(module: str, extra: str = "convert") -> ModuleType:
    """Import a module; if it is absent, raise ValueError with the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ValueError(f"{PURPOSES[extra]} needs {missing}: {install_command(extra)}") from error


def install_command(extra: str) -> str:
    """Return the command that installs an extra, in the folder of a clone or of a package."""
    package = "encodec-hk" if file_paths.is_installed() else "."
    return f"pip install '{package}[{extra}]'"
