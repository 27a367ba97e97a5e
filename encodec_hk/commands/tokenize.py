"""`run.py tokenize`: a data set of codes from any amount of audio."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import tqdm

from encodec_hk import checkpoint
from encodec_hk.commands import checkpoints
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.tokens import device_loop
from encodec_hk.tokens import shard_files
from encodec_hk.tokens import shard_plan
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import shard_writer
from encodec_hk.tokens import tokenize_job
from encodec_hk.tokens import tokenizer
from encodec_hk.tokens import verification
from encodec_hk.tokens import work_share

_SHOWN_ERRORS = 10
_REFRESH = 0.5  # seconds
_MUCH = 0.1  # share of the time that the device may wait for audio
_SAMPLE = 20  # items that --verify encodes again


def run(
    variant: ml_collections.ConfigDict | None,
    inputs: str,
    output: str,
    *,
    checkpoint: str | None = None,
    shard: str | None = None,
    engine: str = "local",
    workers: int | None = None,
    readers: int | None = None,
    max_errors: str = "1%",
    retry_errors: bool = False,
    extend: bool = False,
    status: bool = False,
    verify: bool = False,
    keep: Sequence[str] | None = None,
    **settings: Any,
) -> int:
    """Encode the sounds of IN to Parquet files in OUT, and print what was done.

    Args:
      variant: a whole configuration; None for the checkpoint's.
      inputs: IN, see `item_search.find_items`.
      output: OUT, a folder.
      checkpoint: what `encodec_hk.load` takes; None for the file that the configuration names.
      shard: see `work_share.parse`.
      engine: "local", or "ray" for Ray's workers.
      workers: actors of Ray; None for one per device.
      readers: processes that read; None for a number that fits the machine.
      max_errors: see `shard_work.ErrorLimit`.
      retry_errors: run the failed items of shards that are done.
      extend: add shards for items that are not in the plan.
      status: only print how far OUT is.
      verify: only encode a sample again, and compare.
      keep: fields of the input to keep.
      settings: other fields of `tokenize_job.TokenizeOptions`.

    Returns:
      The exit status: 0; 1 if items or shards failed, or codes differ; 130 if interrupted.

    Raises:
      ValueError: if an argument is wrong, or OUT holds a data set of other items or settings.
    """
    if status:
        return _print_status(output)
    options = tokenize_job.TokenizeOptions(keep=tuple(keep or ()), **settings)
    share = work_share.parse(shard)
    limit = shard_work.ErrorLimit(max_errors)
    if readers is not None and readers < 0:
        raise ValueError(f"--readers: got {readers}, must be at least 0")
    if workers is not None and not (workers > 0 and engine == "ray"):
        raise ValueError(f"--workers: got {workers}, must be above 0, with --engine=ray")
    if engine == "ray":
        from encodec_hk.tokens import ray_engine

        inputs, output = ray_engine.absolute(inputs), ray_engine.absolute(output)
    make_job = functools.partial(
        _make_job, variant, checkpoint, inputs, output, options, extend=extend
    )
    if engine == "ray" and not verify:
        return _run_on_ray(make_job, output, share, max_errors, readers, retry_errors, workers)
    job = make_job()
    if verify:
        found = verification.verify(job, _SAMPLE)
        for line in found.lines:
            print(line)
        return 0 if found.is_equal else 1
    report = _Report(job.plan, job.files, job.unreadable)
    report.begin(share.shards(job.plan.num_shards), retry_errors)
    num_readers = tokenizer.default_readers() if readers is None else readers
    try:
        job.tokenizer(limit, num_readers=num_readers, retry_errors=retry_errors).run(
            report.shards, report.settle, report.progress
        )
    except KeyboardInterrupt:
        report.line(f"interrupted: {report.done} of {len(report.shards)} shards written")
        return 130
    finally:
        report.bar.close()
    job.write_card()
    report.summary()
    if interruption.is_requested():
        return 130
    return 1 if report.errors or report.failures or job.unreadable else 0


def _make_job(
    variant: ml_collections.ConfigDict | None,
    checkpoint_path: str | None,
    *args: Any,
    **kwargs: Any,
) -> tokenize_job.TokenizeJob:
    """Make the job, in this process or in one of Ray."""
    codec = checkpoints.load_codec(variant, checkpoint_path)
    licence = _licence(checkpoint_path or (variant and variant.checkpoint))
    return tokenize_job.TokenizeJob(codec, *args, licence=licence, **kwargs)


def _run_on_ray(
    make_job: Callable[[], tokenize_job.TokenizeJob],
    output: str,
    share: work_share.WorkShare,
    max_errors: str,
    readers: int | None,
    retry_errors: bool,
    workers: int | None,
) -> int:
    from encodec_hk.tokens import ray_engine

    work = ray_engine.RayRun(
        make_job,
        num_workers=workers,
        shards=slice(share.first, None, share.step),
        retry_errors=retry_errors,
    )
    plan, files = shard_plan.ShardPlan(output), shard_files.ShardFiles(output)
    report = _Report(plan, files, work.unreadable)
    report.begin(share.shards(plan.num_shards), retry_errors)
    try:
        work.run(max_errors, readers, report.settle)
    except KeyboardInterrupt:
        report.line(f"interrupted: {report.done} of {len(report.shards)} shards written")
        return 130
    finally:
        report.bar.close()
        work.close()
    report.summary()
    return 1 if report.errors or report.failures else 0


def _licence(path: str | None) -> str:
    """Return the licence of a checkpoint file of this project; "" if it is none."""
    own = path and (checkpoints.own_file(path) or file_paths.shipped_checkpoints().get(path))
    try:
        return checkpoint.read_metadata(own).get("licence", "") if own else ""
    except ValueError:
        return ""


def _print_status(output: str) -> int:
    plan, files = shard_plan.ShardPlan(output), shard_files.ShardFiles(output)
    shards = range(plan.num_shards)
    receipts = [files.receipt(shard, plan.hash_of(shard)) for shard in shards]
    done = [receipt for receipt in receipts if receipt is not None]
    rows, skipped, errors = (
        sum(getattr(receipt, name) for receipt in done) for name in ("rows", "skipped", "errors")
    )
    seconds, size = sum(receipt.seconds for receipt in done), sum(own.bytes for own in done)
    print(
        f"{len(done)} of {plan.num_shards} shards done: {rows} rows, {seconds / 3600:.2f} h of "
        f"audio, {size / 1e6:.1f} MB; {errors} items failed, {skipped} were skipped for their "
        "length"
    )
    for shard, receipt in zip(shards, receipts, strict=True):
        if receipt is None and (reason := files.failure(shard)) is not None:
            print(f"shard {shard} failed: {reason}")
    return 0


class _Report:
    """Progress, as a bar on a terminal and as lines elsewhere, and a summary.

    Attributes:
      shards: the numbers of the shards to work on.
      done: shards that were written.
      errors: "SOURCE: REASON" of items that failed.
      failures: of shards.
    """

    def __init__(
        self,
        plan: shard_plan.ShardPlan,
        files: shard_files.ShardFiles,
        unreadable: Sequence[str],
    ) -> None:
        self._plan, self._files = plan, files
        self.done = 0
        self.errors: list[str] = []
        self.failures: list[str] = list(unreadable)
        self._seconds, self._rows, self._expected = 0.0, 0, 0.0
        self._start = self._shown = time.perf_counter()
        self._last: device_loop.Progress | None = None

    def begin(self, shards: Sequence[int], retry_errors: bool) -> None:
        """Find which of the shards need work."""
        self.shards = []
        for shard in shards:
            receipt = self._files.receipt(shard, self._plan.hash_of(shard))
            if receipt is None or (retry_errors and receipt.errors):
                self.shards.append(shard)
        self._kept = len(shards) - len(self.shards)
        share = len(self.shards) / max(self._plan.num_shards, 1)
        self.bar = tqdm.tqdm(
            total=round(self._plan.seconds * share / 3600, 4),
            unit="h",
            disable=not sys.stderr.isatty(),
            bar_format="{percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h [{elapsed}<{remaining}]"
            "{postfix}",
        )

    def progress(self, progress: device_loop.Progress) -> None:
        """Show how far the run is."""
        self._last = progress
        now = time.perf_counter()
        if self.bar.disable or now - self._shown < _REFRESH:
            return
        self._shown = now
        self.bar.n = min(progress.expected / 3600, self.bar.total or 0.0)
        rate = progress.seconds / (now - self._start)
        text = (
            f"{rate:.0f}x real time, {progress.errors} errors, device waits "
            f"{progress.device_waited:.0%}, audio {progress.audio_waited:.0%}"
        )
        if progress.missing_readers:
            text += f" (+{progress.missing_readers} cores would help)"
        self.bar.set_postfix_str(text)

    def settle(self, result: shard_writer.ShardResult) -> None:
        """Report the end of a shard."""
        self.errors += [f"{error.source}: {_reason(error)}" for error in result.errors]
        if result.receipt is None:
            self.failures.append(f"shard {result.shard}: {result.failure}")
            self.line(f"shard {result.shard} failed: {result.failure}")
            return
        receipt = result.receipt
        self.done += 1
        self._seconds += receipt.seconds
        self._rows += receipt.rows
        if self.bar.disable:
            name = self._files.data_path(result.shard).name if receipt.rows else "no rows"
            print(
                f"[{self.done}/{len(self.shards)}] {name}: {receipt.rows} rows, "
                f"{receipt.seconds / 3600:.2f} h",
                flush=True,
            )

    def summary(self) -> None:
        """Print what was done, and what failed."""
        elapsed = time.perf_counter() - self._start
        encoded = self._seconds if self._last is None else self._last.seconds
        print(
            f"{self.done} of {len(self.shards)} shards, {self._rows} rows, "
            f"{self._seconds / 3600:.2f} h of audio in {elapsed:.1f} s "
            f"({encoded / elapsed:.2f} times real time)"
        )
        if self._kept:
            print(f"kept {self._kept} shards that are done already")
        last = self._last
        if last is not None and last.device_waited > _MUCH and elapsed > 10:
            print(
                f"the device waited for audio {last.device_waited:.0%} of the time: "
                f"{last.missing_readers} more cores and --readers would feed it"
            )
        for what, lines in (("items", self.errors), ("shards", self.failures)):
            if lines:
                print(f"{len(lines)} {what} failed:", file=sys.stderr)
                print(*lines[:_SHOWN_ERRORS], sep="\n", file=sys.stderr)
        if self.errors:
            folder = self._plan.folder / "errors"
            print(
                f"all are in {file_paths.shown(folder)}; --retry_errors tries them again",
                file=sys.stderr,
            )

    def line(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        tqdm.tqdm.write(text, file=sys.stderr)


def _reason(error: shard_files.ItemError) -> str:
    """Return what is wrong with an item, without its name, which libraries put in front."""
    return error.error.rpartition(f"{error.source}: ")[2] or error.error
