"""Timed runs of several functions in turns, and the peak speed of the machine."""

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

from encodec_hk.system import interruption

_PEAK_SIZE = 2048  # rows of the square matrices that are multiplied: the fastest of 512 to 2048
_PEAK_RUNS = 9


class TimedRun(NamedTuple):
    """Time and memory of one run.

    Attributes:
      seconds: wall-clock time.
      memory: peak growth of the process in bytes; None if not measured or not known.
    """

    seconds: float
    memory: int | None


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    max_runs: int,
    seconds: float,
    with_memory: bool = True,
) -> dict[str, list[TimedRun]]:
    """Run the calls in rounds, so that changes of the machine's speed affect all of them alike.

    Args:
      calls: functions by name, already compiled.
      max_runs: maximum number of rounds.
      seconds: time after which no round starts; at least 3 rounds are run, or max_runs.
      with_memory: whether to measure memory in the first round.
    """
    runs: dict[str, list[TimedRun]] = {name: [] for name in calls}
    start = time.perf_counter()
    for index in range(max_runs):
        if index >= 3 and time.perf_counter() - start > seconds:
            break
        for name, call in calls.items():
            interruption.check()
            runs[name].append(measure(call, with_memory=with_memory and not index))
    return runs


def measure(call: Callable[[], object], with_memory: bool = False) -> TimedRun:
    """Run a call; its memory is the growth of the process's resident pages."""
    before = None
    if with_memory and _trim_heap() and _reset_peak():
        before = _resident("VmRSS")
    start = time.perf_counter()
    result = call()
    jax.block_until_ready(result)
    seconds = time.perf_counter() - start
    if before is None or (after := _resident("VmHWM")) is None:
        return TimedRun(seconds, None)
    return TimedRun(seconds, max(0, after - before))


def median(runs: list[TimedRun]) -> float:
    """Return the median of the seconds."""
    return float(np.median([run.seconds for run in runs]))


def memory(runs: list[TimedRun]) -> int | None:
    """Return the largest memory of the runs in bytes, None if not known."""
    return max((run.memory for run in runs if run.memory is not None), default=None)


def matrix_peak() -> float:
    """Return the multiply-adds per second of a product of large float32 matrices (median)."""
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


def _trim_heap() -> bool:
    """Return free heap pages to the system: reusing them would show no growth."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
        return True
    return False


def _reset_peak() -> bool:
    """Reset the peak of the resident pages; return whether the system supports it."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return True
    return False


def _resident(field: str) -> int | None:
    """Return a field of /proc/self/status in bytes."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024
    return None
