"""The processor of this machine, and the share of it that the process may use."""

from __future__ import annotations

import os
import pathlib
import platform


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_cores(count: int, *, field: str = "cores") -> None:
    """Restrict this process to `count` cores; call it before JAX starts a thread for each core.

    Raises:
      ValueError: if the count (`field` in its message) is not 1 to `num_cores()`, or the system
        cannot do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(f"{field}: this system cannot restrict a process to some cores")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= count <= len(cores):
        raise ValueError(f"{field}: got {count}, must be 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[:count])


def processor(*fields: str) -> list[str]:
    """Return the lines of /proc/cpuinfo that begin with one of `fields`.

    Each line comes once, in alphabetical order. Without any, return the machine's architecture.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = sorted({line for line in lines if line.startswith(fields)})
    return facts or [platform.processor() or platform.machine()]
