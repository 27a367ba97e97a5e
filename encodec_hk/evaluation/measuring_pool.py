"""Processes that measure beside each other, each on one core."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

from encodec_hk.evaluation import measuring

BrokenExecutor = concurrent.futures.BrokenExecutor
Future = concurrent.futures.Future

# A process has one core: more threads would wait for each other.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Pool:
    """Takes measures in processes of its own, which begin with the first pair."""

    def __init__(self, num_workers: int):
        """Prepares so many processes; 0: all is done here, when it is submitted."""
        self._num_workers = num_workers
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None
        self._processes: set[multiprocessing.process.BaseProcess] = set()

    def submit(self, *arguments: Any) -> Future[measuring.Measured]:
        """Begins to measure a pair; arguments as of `measuring.measure_files`."""
        if not self._num_workers:
            future: Future[measuring.Measured] = Future()
            future.set_result(measuring.measure_files(*arguments))
            return future
        if self._executor is None:
            # Spawned, not forked: JAX has threads.
            context = multiprocessing.get_context("spawn")
            self._executor = concurrent.futures.ProcessPoolExecutor(self._num_workers, context)
        others = set(multiprocessing.active_children()) - self._processes
        with _worker_settings():  # which begins another process, as long as there are fewer
            future = self._executor.submit(measuring.measure_files, *arguments)
        self._processes = set(multiprocessing.active_children()) - others
        return future

    def close(self) -> None:
        """Ends the processes at once, whatever they are at; a next pair begins new ones."""
        if self._executor is None:
            return
        for process in self._processes:
            process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._executor, self._processes = None, set()


@contextlib.contextmanager
def _worker_settings() -> Iterator[None]:
    """What processes started within inherit: one thread, and that Ctrl-C is not for them."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    blocked: set[signal.Signals] = set()
    if hasattr(signal, "pthread_sigmask"):  # Ctrl-C goes to all processes of a terminal
        blocked = {signal.SIGINT} - signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if blocked:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
