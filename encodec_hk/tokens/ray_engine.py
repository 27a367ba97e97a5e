"""Shards on the workers of Ray, on one machine or a cluster.

Plain actors, one per device, that live as long as the run: a codec is loaded and compiled once in
each. `ray.data.range(n).map_batches` would do as well for that, but gives an actor one block of
shards at a time and waits for its rows; here an actor draws the next shard while it encodes the
one before, so that its device does not run dry between them. What Ray does not know, receipts do:
if an actor dies, the shards that it had drawn are drawn again.

OUT must be a folder that all workers share.
"""

from __future__ import annotations

import collections
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from encodec_hk.system import extras
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import shard_writer
from encodec_hk.tokens import tokenize_job
from encodec_hk.tokens import tokenizer

_ROUNDS = 3  # after the death of actors
_POLL = 0.5  # seconds


class _Draw:
    """Hands out shards, and collects their results; an actor that needs no core."""

    def __init__(self, shards: Sequence[int]):
        self._shards = collections.deque(shards)
        self._results: list[shard_writer.ShardResult] = []

    def next(self) -> int | None:
        """Return the next shard; None if all are drawn."""
        return self._shards.popleft() if self._shards else None

    def put(self, result: shard_writer.ShardResult) -> None:
        """Take the result of a shard."""
        self._results.append(result)

    def results(self) -> list[shard_writer.ShardResult]:
        """Return the results since the last call."""
        results, self._results = self._results, []
        return results


class _Worker:
    """Encodes the shards that it draws, on its device."""

    def __init__(self, make_job: Callable[[], tokenize_job.TokenizeJob], cores: int):
        self._job = make_job()
        self._cores = cores

    def todo(self, shards: slice, retry_errors: bool) -> list[int]:
        """Return the shards that need work."""
        receipts = self._job.receipts()
        found = []
        for shard in range(len(receipts))[shards]:
            receipt = receipts[shard]
            if receipt is None or (retry_errors and receipt.errors):
                found.append(shard)
        return found

    def unreadable(self) -> Sequence[str]:
        """Return what the search for input could not read."""
        return self._job.unreadable

    def run(self, draw: Any, limit: str, num_readers: int | None, retry_errors: bool) -> None:
        """Encode shards until none is left."""
        ray = extras.require("ray", "tokens")

        def drawn() -> Iterator[int]:
            while (shard := ray.get(draw.next.remote())) is not None:
                yield shard

        if num_readers is None:
            num_readers = tokenizer.default_readers(self._cores)
        own = self._job.tokenizer(
            shard_work.ErrorLimit(limit), num_readers=num_readers, retry_errors=retry_errors
        )
        own.run(drawn(), lambda result: ray.get(draw.put.remote(result)))

    def write_card(self) -> None:
        """See `TokenizeJob.write_card`."""
        self._job.write_card()


class RayRun:
    """A run on Ray's workers.

    Attributes:
      shards: those that need work.
      unreadable: what the search for input could not read.
    """

    def __init__(
        self,
        make_job: Callable[[], tokenize_job.TokenizeJob],
        *,
        num_workers: int | None = None,
        shards: slice = slice(None),
        retry_errors: bool = False,
    ):
        """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine; plan.

        Args:
          make_job: makes the job, in every worker.
          num_workers: actors; None for one per GPU, or where there is none, one per machine.
          shards: those to work on.
          retry_errors: see `Tokenizer`.

        Raises:
          ValueError: if Ray is not installed, or the job cannot be made.
        """
        try:
            self._ray = ray = extras.require("ray", "tokens")
        except ValueError as error:
            raise ValueError("--engine=ray needs Ray: pip install ray") from error
        self._make_job, self._retry_errors = make_job, retry_errors
        if not ray.is_initialized():
            paths = os.pathsep.join(
                filter(None, (str(file_paths.ROOT), os.environ.get("PYTHONPATH")))
            )
            ray.init(
                log_to_driver=False,
                include_dashboard=False,
                logging_level="error",
                runtime_env={"env_vars": {"PYTHONPATH": paths}},
            )
        total = ray.cluster_resources()
        gpus, machines = int(total.get("GPU", 0)), len(ray.nodes())
        self._num_workers = num_workers or gpus or machines
        # Whole GPUs; without any, an even share of the cores.
        self._cores = max(1, int(total.get("CPU", 1)) // self._num_workers)
        self._resources = {"num_gpus": 1} if gpus else {"num_cpus": self._cores}
        first = self._start()
        self.shards: list[int] = self._get(first.todo.remote(shards, retry_errors))
        self.unreadable: Sequence[str] = self._get(first.unreadable.remote())
        self._workers = [first]

    def run(
        self,
        limit: str,
        num_readers: int | None,
        settle: Callable[[shard_writer.ShardResult], None],
    ) -> None:
        """Encode the shards.

        Args:
          limit: see `shard_work.ErrorLimit`.
          num_readers: processes that read for each worker; None for a number that fits.
          settle: called with the result of each shard.

        Raises:
          ValueError: if workers die again and again.
        """
        left = dict.fromkeys(self.shards)

        def settle_one(result: shard_writer.ShardResult) -> None:
            left.pop(result.shard, None)
            settle(result)

        for _ in range(_ROUNDS):
            # Shards that a worker wrote before it died are passed over.
            if self._round(list(left), limit, num_readers, settle_one):
                self._get(self._workers[0].write_card.remote())
                return
        raise ValueError(f"--engine=ray: workers died in {_ROUNDS} rounds; {len(left)} shards left")

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            self._ray.kill(worker)
        self._workers = []

    def _round(
        self,
        shards: Sequence[int],
        limit: str,
        num_readers: int | None,
        settle: Callable[[shard_writer.ShardResult], None],
    ) -> bool:
        """Let workers draw shards until they have ended or died; return whether none died."""
        ray = self._ray
        draw = ray.remote(num_cpus=0)(_Draw).remote(shards)
        count = min(self._num_workers, max(len(shards), 1))
        while len(self._workers) < count:
            self._workers.append(self._start())
        runs = {
            worker.run.remote(draw, limit, num_readers, self._retry_errors): worker
            for worker in self._workers
        }
        have_all_ended = True
        while runs:
            interruption.check()
            done, _ = ray.wait(list(runs), timeout=_POLL)
            for result in self._get(draw.results.remote()):
                settle(result)
            for run in done:
                worker = runs.pop(run)
                try:
                    ray.get(run)
                except ray.exceptions.RayActorError:
                    self._workers.remove(worker)
                    have_all_ended = False
                except ray.exceptions.RayTaskError as error:
                    raise _cause(error) from error
        for result in self._get(draw.results.remote()):
            settle(result)
        if not self._workers:
            self._workers.append(self._start())
        ray.kill(draw)
        return have_all_ended

    def _start(self) -> Any:
        return self._ray.remote(**self._resources)(_Worker).remote(self._make_job, self._cores)

    def _get(self, reference: Any) -> Any:
        """Return a result; errors of the job are raised as they are."""
        try:
            while True:
                interruption.check()
                done, _ = self._ray.wait([reference], timeout=_POLL)
                if done:
                    return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise _cause(error) from error
        except self._ray.exceptions.RayActorError as error:
            cause = getattr(error, "cause", None)
            raise ValueError(f"--engine=ray: {_last_line(cause or error)}") from error


def absolute(name: str) -> str:
    """Return a path that workers understand; URLs stay as they are."""
    return name if "://" in name else str(pathlib.Path(name).absolute())


def _cause(error: Any) -> Exception:
    """Return the error that a worker raised."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, ValueError) else error


def _last_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("ValueError: "):
            return line.removeprefix("ValueError: ")
    return lines[-1] if lines else "a worker died"
