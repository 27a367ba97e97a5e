"""Processes that measure in parallel, each on one core."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from typing import Any

from encodec_hk.evaluation import measures
from encodec_hk.system import child_processes

BrokenExecutor = concurrent.futures.BrokenExecutor


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
        with child_processes.settings():  # submitting starts a process until all run
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
