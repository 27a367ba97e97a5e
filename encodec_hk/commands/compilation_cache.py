"""What a command has compiled is kept on disk for the next one: it starts seconds earlier."""

from __future__ import annotations

import hashlib
import os
import pathlib

import jax

from encodec_hk import machine


def enable() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another one.

    They are as fast and compute the same bits. Where the folder cannot be written, nothing is kept.
    """
    if getattr(jax.config, "jax_compilation_cache_dir") is not None:  # noqa: B009, mypy knows not
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


def cache_folder() -> pathlib.Path:
    """The project's folder in the user's cache folder (`XDG_CACHE_HOME`, `~/.cache`)."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(home, "encodec_hk")


def _machine() -> str:
    """A name for the processor: programs of one may not run on another that shares the folder."""
    facts = machine.processor("model name", "flags", "Features")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
