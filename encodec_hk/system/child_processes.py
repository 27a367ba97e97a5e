"""Settings of child processes that compute, each on one core."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

# One thread each: a process has one core.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Let processes that start within inherit one thread, and a blocked Ctrl-C."""
    before = {name: os.environ[name] for name in _THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    blocked: set[signal.Signals] = set()
    if hasattr(signal, "pthread_sigmask"):  # a terminal sends Ctrl-C to all its processes
        blocked = {signal.SIGINT} - signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if blocked:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        for name in _THREADS:
            del os.environ[name]
        os.environ.update(before)
