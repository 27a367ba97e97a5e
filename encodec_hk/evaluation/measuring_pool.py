"""Processes that measure in parallel, each on one core."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

from encodec_hk.evaluation import measures

BrokenExecutor = concurrent.futures.BrokenExecutor

# One thread each: a process has one core.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Pool:
    """A pool of processes that start when first needed; 0 workers measure in this process."""

    def __init__(self, num_workers: int):
        self._num_workers = num_workers
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None
        self._processes: set[multiprocessing.process.BaseProcess] = set()

    def submit(self, *arguments: Any) -> concurrent.futures.Future[measures.Measured]:
        """Start `measures.measure_files` with the arguments."""
        if not self._num_workers:
            done: concurrent.futures.Future[measures.Measured] = concurrent.futures.Future()
            done.set_result(measures.measure_files(*arguments))
            return done
        if self._executor is None:
            # Spawned, as JAX's threads do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._executor = concurrent.futures.ProcessPoolExecutor(self._num_workers, context)
        others = set(multiprocessing.active_children()) - self._processes
        with _worker_settings():  # submitting starts a process until all run
            future = self._executor.submit(measures.measure_files, *arguments)
        self._processes = set(multiprocessing.active_children()) - others
        return future

    def close(self) -> None:
        """Kill the processes, busy or not; the next `submit` starts new ones."""
        for process in self._processes:
            process.kill()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor, self._processes = None, set()


@contextlib.contextmanager
def _worker_settings() -> Iterator[None]:
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
