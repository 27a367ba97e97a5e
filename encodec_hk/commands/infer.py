"""`run.py infer`: sound through the codec and back, to .ecdc files of codes, or from them."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import ml_collections
import tqdm

from encodec_hk.commands import checkpoints
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.transcode import coder
from encodec_hk.transcode import plan
from encodec_hk.transcode import stdio
from encodec_hk.transcode import transcoder


def run(
    variant: ml_collections.ConfigDict | None,
    inputs: str,
    output: str | None = None,
    *,
    checkpoint: str | None = None,
    language: str | None = None,
    **settings: Any,
) -> int:
    """Encode and decode files of sound and codes, and print what was done.

    Args:
      variant: a whole configuration; None for the checkpoint's.
      inputs: IN, see `transcoder.Transcoder`.
      output: OUT, likewise.
      checkpoint: a file; None for the one that the configuration names.
      language: the file of a language model of either kind; None for the one beside the checkpoint,
        if any.
      settings: fields of `plan.Options`.

    Returns:
      The exit status: 0; 1 if files of a folder or a glob were skipped; 130 if interrupted.

    Raises:
      ValueError: if an argument is wrong, or the only file fails.
    """
    if stdio.is_pipe(inputs):
        interruption.postpone()  # Ctrl-C ends the pipe, and what has arrived is written
    work = transcoder.Transcoder(
        inputs,
        output,
        plan.Options(language_kind=checkpoints.language_kind(language), **settings),
        lambda: checkpoints.load_codec(variant, checkpoint),
        lambda: checkpoints.load_predictor(language),
        lambda: checkpoints.load_language(variant, checkpoint, language),
    )
    to_stdout = output is not None and stdio.resolve(output) == stdio.NAME
    report = _Report(work, sys.stderr if to_stdout else sys.stdout)
    try:
        work.run(report.settle)
    except (KeyboardInterrupt, ValueError) as error:
        if isinstance(error, ValueError) and not interruption.is_requested():
            raise
        report.line(f"interrupted: {report.done} of {len(work.jobs)} files written")
        return 130
    finally:
        report.bar.close()
    report.summary()
    if interruption.is_requested():
        return 130
    return 1 if report.failures else 0


class _Report:
    """Progress, as a bar on a terminal and as lines elsewhere, and a summary."""

    def __init__(self, work: transcoder.Transcoder, out: TextIO) -> None:
        self.failures: list[str] = list(work.found.unreadable)
        self.done = 0
        self._kept = work.kept
        self._earlier = work.found.earlier
        self._total = len(work.jobs)
        self.bar = tqdm.tqdm(total=self._total, unit="file", disable=not sys.stderr.isatty())
        self._out = out
        self._seconds = 0.0  # of audio
        self._rates: dict[float, None] = {}  # kbps, in the order of their first job
        self._is_single = work.found.root is None
        self._start = time.perf_counter()

    def settle(self, result: coder.Result) -> None:
        """Report the end of a job; if it failed and is the only one, raise its error."""
        if result.kbps is not None:
            self._rates[result.kbps] = None
        for warning in result.warnings:
            self.line(warning)
        if result.error is not None and self._is_single:
            raise result.error
        self.bar.update()
        if result.error is not None:
            self.failures.append(str(result.error))
            return
        self.done += 1
        self._seconds += result.seconds
        if self.bar.disable:
            source, target = map(file_paths.shown, result.job)
            print(f"[{self.done}/{self._total}] {source} -> {target}", file=self._out, flush=True)

    def summary(self) -> None:
        """Print what was done, and the files that failed."""
        seconds = time.perf_counter() - self._start
        rates = ", ".join(f"{rate:g}" for rate in self._rates)
        print(
            f"{self.done} of {self._total} files, {self._seconds:.1f} s of audio in "
            f"{seconds:.1f} s ({self._seconds / seconds:.2f} times real time)"
            + (f", {rates} kbps" if rates else ""),
            file=self._out,
        )
        if kept := self._kept:
            print(
                f"kept {len(kept)} that exist already, such as {file_paths.shown(kept[0])}; "
                "--force replaces them",
                file=self._out,
            )
        if earlier := self._earlier:
            print(
                f"left out {len(earlier)} that an earlier run wrote, such as "
                f"{file_paths.shown(earlier[0])}; with OUT they are inputs",
                file=self._out,
            )
        if self.failures:
            print(f"skipped {len(self.failures)}:", file=sys.stderr)
            print(*self.failures, sep="\n", file=sys.stderr)

    def line(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        tqdm.tqdm.write(text, file=sys.stderr)
