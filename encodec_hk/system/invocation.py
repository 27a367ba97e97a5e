"""How the program is started: its name in messages, and the command to type or to run."""

from __future__ import annotations

import os
import pathlib
import shlex
import sys

from encodec_hk.system import file_paths

_SCRIPT = "encodec-hk"  # of an installed package, see pyproject.toml


def name() -> str:
    """Return the name before error messages: run.py or encodec-hk."""
    return "run.py" if "run.py" in command() else _SCRIPT


def command() -> str:
    """Return what to type before the name of a command, from the current folder.

    That is how this process was started. In a process of the user's own, it is how the package can
    be run: from a clone or installed.
    """
    python = pathlib.Path(sys.executable).name
    started = pathlib.Path(sys.argv[0])
    if started.name == "run.py":
        return f"{python} {shlex.quote(sys.argv[0])}"
    if started.parts[-2:] == (file_paths.PACKAGE.name, "__main__.py"):
        return f"{python} -m {file_paths.PACKAGE.name}"
    if started.name == _SCRIPT or file_paths.is_installed():
        return _SCRIPT
    is_here = os.path.realpath(os.curdir) == os.path.realpath(file_paths.ROOT)
    run_py = "run.py" if is_here else str(file_paths.ROOT / "run.py")
    return f"{python} {shlex.quote(run_py)}"


def to_start() -> list[str]:
    """Return the command, word by word, that starts the program from any folder."""
    if file_paths.is_installed():
        return [sys.executable, "-m", file_paths.PACKAGE.name]
    return [sys.executable, str(file_paths.ROOT / "run.py")]
