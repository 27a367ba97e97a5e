"""What a command has traced and compiled is kept on disk: the next one starts seconds earlier."""

from __future__ import annotations

import hashlib
import os
import pathlib

import jax

from encodec_hk.system import machine

_CODING = ("infer", "evaluate", "bench")


def enable(command: str = "") -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another one.

    They are as fast and compute the same bits. Where the folder cannot be written, nothing is kept.

    Args:
      command: of run.py; of those that encode and decode, traces are kept there too.
    """
    _enable()
    folder, is_enabled = _settings()


def _enable() -> None:
    """`enable`, of what is compiled."""
    if _settings()[0] is not None:
        return
    folder = cache_folder() / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # a home that is not there
        return
    if is_writable:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _settings() -> tuple[str | None, bool]:
    """JAX's folder of compiled programs, and whether it is to be used."""
    names = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
    folder, is_enabled = (getattr(jax.config, name) for name in names)  # mypy does not know them
    return folder, is_enabled


def cache_folder() -> pathlib.Path:
    """The project's folder in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(home, "encodec_hk")


def _machine() -> str:
    """A name for the processor: programs of one may not run on another that shares the folder."""
    facts = machine.processor("model name", "flags", "Features")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
