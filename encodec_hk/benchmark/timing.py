"""Timed runs of several functions in turns, and the peak speed of the machine."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import math
import pathlib
import re
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from encodec_hk.system import interruption

_PEAK_SIZE = 2048  # rows of the square matrices that are multiplied: the fastest of 512 to 2048


@dataclasses.dataclass
class TimedRuns:
    """The runs of one function.

    Attributes:
      seconds: wall-clock time of each run.
      memory: growth of the process's resident pages in the first run, in bytes; None if not known.
    """

    seconds: list[float] = dataclasses.field(default_factory=list)
    memory: int | None = None

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return float(np.median(self.seconds))


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, max_runs: int, seconds: float
) -> dict[str, TimedRuns]:
    """Run the calls in rounds, so that changes of the machine's speed affect all of them alike.

    Args:
      calls: functions by name, already compiled.
      max_runs: maximum number of rounds.
      seconds: time after which no round starts; at least 3 rounds are run, or max_runs.
    """
    timed = {name: TimedRuns() for name in calls}
    begin = time.perf_counter()
    for index in range(max_runs):
        if index >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, call in calls.items():
            interruption.check()
            before = None if index else _reset_peak()
            start = time.perf_counter()
            jax.block_until_ready(call())
            timed[name].seconds.append(time.perf_counter() - start)
            if before is not None and (peak := _resident("VmHWM")) is not None:
                timed[name].memory = max(0, peak - before)
    return timed


def matrix_peak() -> float:
    """Return the multiply-adds per second of a product of large float32 matrices (median)."""
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.standard_normal((2, _PEAK_SIZE, _PEAK_SIZE), np.float32))

    @jax.jit
    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    product(a, b).block_until_ready()
    runs = in_turns({"": lambda: product(a, b)}, max_runs=9, seconds=math.inf)[""]
    return float(_PEAK_SIZE**3 / runs.median)


def _reset_peak() -> int | None:
    """Reset the peak of the resident pages and return their size; None if not possible."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: reusing free heap pages would show no growth
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def _resident(field: str) -> int | None:
    """Return a field of /proc/self/status in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    found = re.search(rf"^{field}:\s*(\d+) kB", status, re.MULTILINE)
    return None if found is None else 1024 * int(found[1])
