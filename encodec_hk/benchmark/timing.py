"""Runs of several contenders in turns, and what a machine could do at most."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_PEAK_SIZE = 2048  # of the square matrices whose product is the limit: the fastest of 512 to 2048
_PEAK_RUNS = 9


class TimedRun(NamedTuple):
    """What one run took.

    Attributes:
      seconds: on the wall's clock.
      memory: bytes by which the process grew at most while it ran; None where it was not measured,
        or the system does not tell.
    """

    seconds: float
    memory: int | None


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    max_runs: int,
    seconds: float,
    with_memory: bool = True,
    check: Callable[[], None] = lambda: None,
) -> dict[str, list[TimedRun]]:
    """Runs every call once, then every call again, and so on, so that all see the same machine.

    Args:
      calls: by name; all that they compile is compiled already.
      max_runs: runs of each at most.
      seconds: no further round begins after so long; 3 rounds are run anyhow, or max_runs.
      with_memory: whether the first round measures memory, too.
      check: called between runs.
    """
    runs: dict[str, list[TimedRun]] = {name: [] for name in calls}
    start = time.perf_counter()
    for index in range(max_runs):
        if index >= 3 and time.perf_counter() - start > seconds:
            break
        for name, call in calls.items():
            check()
            runs[name].append(measure(call, with_memory=with_memory and not index))
    return runs


def measure(call: Callable[[], object], with_memory: bool = False) -> TimedRun:
    """Runs a call; what it needs at most is the growth of the process's resident pages."""
    before = None
    if with_memory and _give_back() and _reset_peak():
        before = _resident("VmRSS")
    start = time.perf_counter()
    result = call()
    jax.block_until_ready(result)
    seconds = time.perf_counter() - start
    if before is None or (after := _resident("VmHWM")) is None:
        return TimedRun(seconds, None)
    return TimedRun(seconds, max(0, after - before))


def median(runs: list[TimedRun]) -> float:
    """The median of the seconds."""
    return float(np.median([run.seconds for run in runs]))


def memory(runs: list[TimedRun]) -> int | None:
    """The most bytes that were seen; None where the system does not tell."""
    return max((run.memory for run in runs if run.memory is not None), default=None)


def matrix_peak() -> float:
    """Multiply-adds a second of a float32 product of large matrices, the median of several."""
    rng = np.random.default_rng(0)
    a, b = (
        jnp.asarray(rng.standard_normal((_PEAK_SIZE, _PEAK_SIZE), np.float32)) for _ in range(2)
    )

    @jax.jit
    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    product(a, b).block_until_ready()
    runs = [measure(lambda: product(a, b)) for _ in range(_PEAK_RUNS)]
    return float(_PEAK_SIZE**3 / median(runs))


def _give_back() -> bool:
    """Gives free pages of the heap back to the system, else their use shows no growth."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
        return True
    return False


def _reset_peak() -> bool:
    """Makes the peak of the resident pages begin anew; whether the system can."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def _resident(field: str) -> int | None:
    """Bytes in a field of /proc/self/status."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
    return None
