"""Compiled programs and traces on disk: the next process starts seconds earlier."""

from __future__ import annotations

import hashlib
import os
import pathlib

import jax

from encodec_hk.system import machine


def enable() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX already has another one.

    Cached programs are as fast and compute the same bits. If the folder cannot be written, nothing
    is kept.
    """
    if _settings()[0] is not None:
        return
    folder = cache_folder() / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # no home folder
        return
    if is_writable:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def traces_folder() -> pathlib.Path | None:
    """Return the folder for the traces of a codec, beside the programs that JAX keeps on disk.

    None if JAX keeps none, or keeps them in a bucket.
    """
    folder, is_enabled = _settings()
    return pathlib.Path(folder, "traces") if folder and is_enabled and "://" not in folder else None


def _settings() -> tuple[str | None, bool]:
    """Return JAX's folder of compiled programs, and whether it is used."""
    names = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
    folder, is_enabled = (getattr(jax.config, name) for name in names)  # mypy does not know them
    return folder, is_enabled


def cache_folder() -> pathlib.Path:
    """Return the project's folder in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(home, "encodec_hk")


def _machine() -> str:
    """Return a name for the processor: programs of one may not run on another."""
    facts = machine.processor("model name", "flags", "Features")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
