"""Compiled programs and traces on disk: the next process starts seconds earlier."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import importlib
import json
import os
import pathlib
import zlib
from typing import Any

import jax

from encodec_hk.system import machine
from encodec_hk.system import part_file

_ENTRIES = "*-cache"  # JAX's names of compiled programs
_CHECKED = "checked.json"  # size and time of change of the entries that were found whole
_ZSTD = b"\x28\xb5\x2f\xfd"  # how an entry begins that is not compressed by zlib


def enable_compilation_cache() -> pathlib.Path | None:
    """Keep compiled programs in the user's cache folder, so that the next process starts sooner.

        folder = encodec_hk.enable_compilation_cache()
        codec = encodec_hk.load("encodec_24khz_small", traces_folder=folder)

    Call it before anything is computed. Programs from the cache are as fast and compute the same
    bits. If JAX was given a folder already, that one is used as it is. In the user's cache folder
    (`$XDG_CACHE_HOME` or `~/.cache`, `encodec_hk`), entries that cannot be read, as a full disk
    leaves them, are deleted. If the folder cannot be written, nothing is kept.

    Returns:
      A folder for what else `load` and `Codec` can keep, see their `traces_folder`; None if there
      is none on this machine.
    """
    if _settings()[0] is None:
        _enable()
    return traces_folder()


def _enable() -> None:
    folder = cache_folder() / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except (OSError, RuntimeError):  # no home folder
        return
    if is_writable:
        remove_unreadable(folder)
        atexit.register(remove_unreadable, folder)  # what this process could not write whole
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def remove_unreadable(folder: pathlib.Path) -> None:
    """Delete the entries of a cache folder that are not whole.

    JAX writes entries in place and never replaces one: it would warn of them in every process. An
    entry is read once; a file beside the entries lists those that were whole.
    """
    try:
        known = dict(json.loads((folder / _CHECKED).read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    found = {}
    for path in folder.glob(_ENTRIES):
        with contextlib.suppress(OSError):  # another process may have deleted it
            status = path.stat()
            mark = [status.st_size, status.st_mtime_ns]
            if known.get(path.name) == mark or _is_whole(path.read_bytes()):
                found[path.name] = mark
            else:
                path.unlink()
    if found != known:
        with contextlib.suppress(OSError):
            part_file.write(folder / _CHECKED, json.dumps(found).encode())


def _is_whole(entry: bytes) -> bool:
    """Return whether an entry can be decompressed, or is for a JAX with another compression."""
    if not entry.startswith(_ZSTD):
        try:
            return bool(zlib.decompress(entry))
        except zlib.error:
            return False
    zstd = _zstd()
    try:
        return zstd is None or bool(zstd.decompress(entry))
    except zstd.ZstdError:
        return False


@functools.cache
def _zstd() -> Any:
    """Return the module that JAX compresses with, if there is one."""
    for name in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name)
    return None


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
