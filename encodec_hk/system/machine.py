"""What machine this is."""

from __future__ import annotations

import os
import pathlib
import platform


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(*fields: str) -> list[str]:
    """What the system says of the processor: lines of /proc/cpuinfo that begin with `fields`.

    Each once, in alphabetical order; where there are none, the machine's architecture.
    """
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    facts = sorted({line for line in lines if line.startswith(fields)})
    return facts or [platform.processor() or platform.machine()]
