"""Files and pipes through a codec, to other files and pipes."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import encodec_hk
from encodec_hk import config
from encodec_hk.system import file_paths
from encodec_hk.transcode import coder
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import opener
from encodec_hk.transcode import options
from encodec_hk.transcode import plan
from encodec_hk.transcode import stdio


class Result(NamedTuple):
    """The end of a job.

    Attributes:
      job: its files.
      kbps: bandwidth of the codes; None if they are copied, or the source is not open yet.
      seconds: of signal that were read.
      warnings: one line each, such as "FILE: damaged block at 1.00 s to 2.00 s".
      error: why the job failed; None if it succeeded.
    """

    job: plan.Job
    kbps: float | None = None
    seconds: float = 0.0
    warnings: Sequence[str] = ()
    error: ValueError | None = None


class Transcoder:
    """Encodes and decodes files of sound and of codes.

    Sound goes to codes, or through the codec to sound of the source's sample rate, channels and
    length; codes go to sound of the codec's, or are copied. Memory does not grow with the number or
    the length of the files.

    Attributes:
      found: the files that IN names.
      jobs: what to read and to write.
    """

    def __init__(
        self,
        inputs: str,
        output: str | None,
        options: options.Options,
        codec: Callable[[], encodec_hk.Codec],
    ):
        """Find the inputs and name the outputs.

        Args:
          inputs: IN, a file, a glob or a folder (see `plan.find`), or "-" for stdin.
          output: OUT, a file or a folder (see `plan.plan`), "-" for stdout, or None.
          options: how to read and write.
          codec: returns the codec; not called if codes are copied.

        Raises:
          ValueError: if there are no inputs, or the outputs or the options do not fit them.
        """
        inputs = stdio.resolve(inputs)
        output = output and stdio.resolve(output)
        options.check_names(inputs, output)
        self._options = options
        self._codec = codec
        self._opener = opener.Opener(options, codec)
        self._is_live = inputs == stdio.NAME
        self.found = plan.find(inputs, output)
        self._num_codebooks = 0  # of the codes of sound
        if all(map(self._opener.reads_codes, self.found.files)):
            tag = self._tag_of_codes()
        else:
            count = codec().count_codebooks(options.bandwidth, options.num_codebooks)
            self._num_codebooks = count
            tag = f"_{config.bandwidth_for(codec().model_config, count):g}kbps"
        self.jobs = plan.plan(self.found, output, tag, options)

    def run(self, settle: Callable[[Result], None]) -> None:
        """Run all jobs: sound first, then codes, those of one number of codebooks together.

        Args:
          settle: called with the result of each job. If it raises, the others are aborted.
        """
        sounds = [job for job in self.jobs if not self._opener.reads_codes(job.source)]
        if sounds:
            self._code(
                sounds,
                lambda job: self._opener.encoding(job, self._num_codebooks),
                self._num_codebooks,
                settle,
            )
        groups = collections.defaultdict(list)
        for job in self.jobs:
            if not self._opener.reads_codes(job.source):
                continue
            try:
                count = self._opener.num_codebooks(job)
                if self._opener.writes_codes(job):
                    task = self._opener.copying(job, count)
                    coder.copy(task, count, lambda *ended: settle(_result(*ended, kbps=None)))
                else:
                    groups[count].append(job)
            except ValueError as error:
                settle(Result(job, error=error))
        for count, group in groups.items():
            self._code(group, self._opener.decoding, count, settle)

    def _code(
        self,
        jobs: Sequence[plan.Job],
        open_task: Callable[[plan.Job], coder.Task],
        num_codebooks: int,
        settle: Callable[[Result], None],
    ) -> None:
        """Run jobs of one kind and one number of codebooks through the codec."""
        codec = self._codec()
        kbps = config.bandwidth_for(codec.model_config, num_codebooks)

        def tasks() -> Iterator[coder.Task]:
            for job in jobs:
                try:
                    yield open_task(job)
                except ValueError as error:
                    settle(Result(job, kbps, error=error))

        coder.run(
            codec,
            tasks(),
            lambda *ended: settle(_result(*ended, kbps=kbps)),
            num_codebooks=num_codebooks,
            places=codec.places(len(jobs)),
            is_live=self._is_live,
        )

    def _tag_of_codes(self) -> str:
        """Return the end of the names of outputs that are made from codes."""
        options = self._options
        if options.suffix != ecdc.SUFFIX:
            return "_decoded"
        if options.num_codebooks is not None:
            return f"_{options.num_codebooks}codebooks"
        return "_copy" if options.bandwidth is None else f"_{options.bandwidth:g}kbps"


def _result(task: coder.Task, error: ValueError | None, *, kbps: float | None) -> Result:
    job = task.about
    if error is not None:
        return Result(job, kbps, error=error)
    warnings = [
        f"{file_paths.shown(path)}: {warning}"
        for path, end in ((job.source, task.source), (job.target, task.target))
        for warning in end.warnings
    ]
    return Result(job, kbps, task.source.seconds, warnings)
