"""`run.py infer`: sound through the codec and back, to codes in .ecdc files, or from them."""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

import ml_collections
import tqdm

import encodec_hk
from encodec_hk import config as config_lib
from encodec_hk.blocks import scheduler
from encodec_hk.commands import checkpoints
from encodec_hk.sound import pcm
from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.transcode import coder
from encodec_hk.transcode import inputs
from encodec_hk.transcode import opener as opener_lib
from encodec_hk.transcode import outputs
from encodec_hk.transcode import plan
from encodec_hk.transcode import stdio


def run(
    config: ml_collections.ConfigDict | None,
    inputs: str,
    output: str | None = None,
    *,
    checkpoint: str | None = None,
    bandwidth: float | None = None,
    num_codebooks: int | None = None,
    sample_format: str = "int16",
    rescale: bool = False,
    force: bool = False,
    suffix: str | None = None,
    format: str | None = None,
    recover: bool = False,
    raw_rate: int | None = None,
    raw_channels: int = 1,
    raw_format: str = "s16le",
) -> int:
    """Encodes and decodes files of sound and codes; prints what it does.

    Sound to sound has its input's sample rate, number of channels and length. In between, it is
    resampled (`resampling.Resampler`) and mixed (`resampling.mix`) to what the codec takes, and
    back. Sound of codes is as the codec gives it. Memory does not grow with the files' number or
    lengths.

    Args:
      config: a whole configuration; None for the one in the checkpoint.
      inputs: IN, a file, a glob or a folder (see `files.find`), or "-" for stdin.
      output: OUT, a file or a folder (see `files.plan`), or "-" for stdout.
      checkpoint: the file of weights; None for the configuration's own.
      bandwidth: kbps, None for the configuration's default, or for all that an .ecdc file has.
      num_codebooks: the same as a number of codebooks.
      sample_format: of the outputs, a name of `audio.SAMPLE_FORMATS`.
      rescale: scale an output whose peak is too high, instead of clipping it.
      force: overwrite the file that OUT names.
      suffix: of outputs that OUT does not name, or of what goes to stdout: .wav by default.
      format: of .ecdc files, "v0" or "v1"; None for `ecdc.default_version`, or of a copy that of
        its source.
      recover: go on after damage in .ecdc files, with silence.
      raw_rate: Hz of samples without a header on stdin and stdout; None: they are WAV.
      raw_channels: of such samples.
      raw_format: of such samples, a name of `pipes.RAW_FORMATS`.

    Returns:
      The exit status: 0; 1 where files of a folder or a glob were skipped; 130 when interrupted.

    Raises:
      ValueError: an argument is wrong, or the one file that IN names cannot be done.
    """
    if bandwidth is not None and num_codebooks is not None:
        raise ValueError("bandwidth and num_codebooks: got both, one says it all")
    inputs = stdio.told_apart(inputs)
    output = output and stdio.told_apart(output)
    suffix = _suffix(suffix)
    raw = None
    if raw_rate is not None:
        raw = _raw_format(raw_rate, raw_channels, raw_format)
        if stdio.NAME not in (inputs, output):
            raise ValueError("--raw_rate: is for stdin and stdout, of which there is none here")
    if output == stdio.NAME and suffix not in (".wav", plan.CODES):
        raise ValueError(f"--suffix: got {suffix!r}, stdout takes .wav or {plan.CODES}")
    if rescale and output == stdio.NAME:
        raise ValueError("--rescale: has to know all of the sound, which stdout does not wait for")
    options = opener_lib.Options(
        bandwidth=bandwidth,
        num_codebooks=num_codebooks,
        sample_format=sample_format,
        rescale=rescale,
        format=format,
        recover=recover,
        suffix=suffix,
        raw=raw,
    )
    loaded: list[encodec_hk.Codec] = []

    def codec() -> encodec_hk.Codec:
        if not loaded:
            loaded.append(checkpoints.load_codec(config, checkpoint))
        return loaded[0]

    if inputs == stdio.NAME:
        interruption.postpone()  # then stdin ends, and what came is written
    opener = opener_lib.Opener(options, codec)
    found = plan.find(inputs, output)
    count = 0
    if all(map(opener.has_codes, found.files)):
        tag = "_decoded"
        if suffix == plan.CODES:
            tag = "_copy" if bandwidth is None else f"_{bandwidth:g}kbps"
            if num_codebooks is not None:
                tag = f"_{num_codebooks}codebooks"
    else:
        model = codec().model_config
        if num_codebooks is None:
            rate = codec().bandwidth if bandwidth is None else bandwidth
            num_codebooks = config_lib.num_codebooks_for(model, rate)
        count = num_codebooks
        tag = f"_{config_lib.bandwidth_for(model, count):g}kbps"
    jobs = plan.plan(found, output, tag, force, suffix)

    report = _Report(len(jobs), sys.stderr if output == stdio.NAME else sys.stdout, found)
    start = time.perf_counter()
    try:
        _run_all(opener, codec, jobs, count, report, is_live=inputs == stdio.NAME)
    except (KeyboardInterrupt, ValueError) as error:
        if isinstance(error, ValueError) and not interruption.is_requested():
            raise
        report.line(f"interrupted: {report.done} of {len(jobs)} files written")
        return 130
    finally:
        report.bar.close()
    report.summary(time.perf_counter() - start)
    if interruption.is_requested():
        return 130
    return 1 if report.failures else 0


def _run_all(
    opener: opener_lib.Opener,
    codec: Callable[[], encodec_hk.Codec],
    jobs: Sequence[plan.Job],
    num_codebooks: int,
    report: _Report,
    *,
    is_live: bool,
) -> None:
    """Runs jobs: those from sound, then those from codes, of each number of codebooks together."""
    sounds = [job for job in jobs if not opener.has_codes(job.source)]
    if sounds:
        _code(
            codec(),
            sounds,
            lambda job: opener.encoding(job, num_codebooks),
            report,
            num_codebooks=num_codebooks,
            is_live=is_live,
        )
    groups = collections.defaultdict(list)
    for job in jobs:
        if not opener.has_codes(job.source):
            continue
        try:
            count = opener.num_codebooks(job)
            if opener.gets_codes(job.target):
                coder.copy(opener.copying(job, count), count, report.settle)
            else:
                groups[count].append(job)
        except ValueError as error:
            report.failed(error)
    for count, group in groups.items():
        _code(codec(), group, opener.decoding, report, num_codebooks=count, is_live=is_live)


def _code(
    codec: encodec_hk.Codec,
    jobs: Sequence[plan.Job],
    open_task: Callable[[plan.Job], coder.Task],
    report: _Report,
    *,
    num_codebooks: int,
    is_live: bool,
) -> None:
    """Runs jobs of one kind through the codec."""

    def tasks() -> Iterator[coder.Task]:
        for job in jobs:
            try:
                yield open_task(job)
            except ValueError as error:
                report.failed(error)

    report.rates.append(config_lib.bandwidth_for(codec.model_config, num_codebooks))
    coder.run(
        codec,
        tasks(),
        report.settle,
        num_codebooks=num_codebooks,
        places=scheduler.places(len(jobs), codec.batch_size, codec.num_devices),
        is_live=is_live,
    )


def _raw_format(sample_rate: int, channels: int, name: str) -> pcm.Format:
    """The format of samples without a header."""
    for flag, value in (("raw_rate", sample_rate), ("raw_channels", channels)):
        if value < 1:
            raise ValueError(f"--{flag}: got {value}, must be a whole number above 0")
    if name not in pcm.RAW_FORMATS:
        allowed = ", ".join(pcm.RAW_FORMATS)
        raise ValueError(f"--raw_format: got {name!r}, must be one of {allowed}")
    return pcm.Format(sample_rate, channels, name)


def _suffix(suffix: str | None) -> str:
    """The suffix of outputs that OUT does not name."""
    suffix = (suffix or ".wav").lower()
    allowed = (*sound_files.WRITABLE, plan.CODES)
    if suffix not in allowed:
        raise ValueError(f"--suffix: got {suffix!r}, must be one of {' '.join(allowed)}")
    return suffix


class _Report:
    """Progress, on a terminal as a bar and else as lines, and the files that could not be done."""

    def __init__(self, total: int, out: TextIO, found: plan.Found) -> None:
        self.done = 0
        self.seconds = 0.0
        self.rates: list[float] = []
        self.failures: list[str] = list(found.unreadable)
        self.bar = tqdm.tqdm(total=total, unit="file", disable=not sys.stderr.isatty())
        self._total = total
        self._out = out
        self._raising = found.root is None

    def line(self, text: str) -> None:
        """Prints a line to stderr, above the bar."""
        tqdm.tqdm.write(text, file=sys.stderr)

    def settle(self, task: coder.Task, error: ValueError | None) -> None:
        """Notes a task that is done or has failed."""
        if error is not None:
            self.failed(error)
            return
        source, target = file_paths.shown(task.about.source), file_paths.shown(task.about.target)
        if isinstance(task.source, inputs.CodesIn):
            for warning in task.source.warnings:
                self.line(f"{source}: {warning}")
        if isinstance(task.target, outputs.SoundOut) and (done := task.target.limited):
            self.line(f"{target}: peak {task.target.peak:.3f} of full scale, {done}")
        self.done += 1
        self.seconds += task.source.seconds
        self.bar.update()
        if self.bar.disable:
            print(f"[{self.done}/{self._total}] {source} -> {target}", file=self._out, flush=True)

    def failed(self, error: ValueError) -> None:
        """Notes a file to skip; where it is the only one, raises the error."""
        if self._raising:
            raise error
        self.failures.append(str(error))
        self.bar.update()

    def summary(self, seconds: float) -> None:
        """Prints what was done, and what was not."""
        rates = ", ".join(f"{rate:g}" for rate in dict.fromkeys(self.rates))
        print(
            f"{self.done} of {self._total} files, {self.seconds:.1f} s of audio in {seconds:.1f} s "
            f"({self.seconds / seconds:.2f} times real time)"
            + (f", {rates} kbps" if rates else ""),
            file=self._out,
        )
        if self.failures:
            print(f"skipped {len(self.failures)}:", file=sys.stderr)
            print(*self.failures, sep="\n", file=sys.stderr)
