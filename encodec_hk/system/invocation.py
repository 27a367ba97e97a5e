"""The program that runs: its name in messages, and the command that starts it."""

from __future__ import annotations

import pathlib
import sys

from encodec_hk.system import file_paths

_SCRIPT = "encodec-hk"  # of an installed package, see pyproject.toml


def name() -> str:
    """Return the name before error messages: run.py in a clone, encodec-hk elsewhere."""
    return "run.py" if command().endswith("run.py") else _SCRIPT


def command() -> str:
    """Return what a user types before the name of a command, for advice in messages.

    That is how this process was started. In a process of the user's own it is how the package is
    run: from a clone or installed.
    """
    started = pathlib.Path(sys.argv[0])
    if started.name == "__main__.py" and started.parent.name == file_paths.PACKAGE.name:
        return f"python -m {file_paths.PACKAGE.name}"
    if started.name == _SCRIPT:
        return _SCRIPT
    if started.name == "run.py" or not file_paths.is_installed():
        return "python run.py"
    return _SCRIPT


def to_start() -> list[str]:
    """Return the command, word by word, that starts the program in another process."""
    if file_paths.is_installed():
        return [sys.executable, "-m", file_paths.PACKAGE.name]
    return [sys.executable, str(file_paths.ROOT / "run.py")]
