"""`run.py infer`: sound files through the codec and back."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np
import tqdm

from encodec_hk import audio
from encodec_hk import checkpoint as checkpoint_lib
from encodec_hk import codec as codec_lib
from encodec_hk import config as config_lib
from encodec_hk.commands import files
from encodec_hk.commands import interruption

_ROOT = pathlib.Path(__file__).parents[2]  # of the project, where run.py and checkpoints/ are

# Seconds of the codec's input that are in memory at once: rows of a batch times the longest. A
# longer file is a batch of its own.
BATCH_SECONDS = 240.0

# What `run.py convert` makes the published variants of, and where that is no hub name, its place.
_SOURCES = {
    "encodec_24khz": ("facebook/encodec_24khz", ""),
    "encodec_48khz": ("facebook/encodec_48khz", ""),
    "encodec_32khz": ("facebook/encodec_32khz", ""),
    "encodec_16khz": ("compression_state_dict.bin", " (a file of facebook/audiogen-medium)"),
}


class _Clip(NamedTuple):
    """A file that was read. samples: float32 [T, C] as the codec takes them; the rest as it was."""

    job: files.Job
    samples: np.ndarray
    length: int
    sample_rate: int
    channels: int


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
) -> int:
    """Encodes and decodes sound files; prints what it does.

    An output has its input's sample rate, number of channels and length. In between, the sound is
    resampled (`audio.resample`) and mixed (`audio.mix`) to what the codec takes, and back.

    Args:
      config: a whole configuration; None for the one in the checkpoint.
      inputs: IN, a file, a glob or a folder; see `files.find`.
      output: OUT, a file or a folder; see `files.plan`.
      checkpoint: the file of weights; None for the configuration's own.
      bandwidth: kbps, None for the configuration's default.
      num_codebooks: the same as a number of codebooks.
      sample_format: of the outputs, a name of `audio.SAMPLE_FORMATS`.
      rescale: scale an output whose peak is too high, instead of clipping it.
      force: overwrite the file that OUT names.

    Returns:
      The exit status: 0; 1 where files of a folder or a glob were skipped; 130 when interrupted.

    Raises:
      ValueError: an argument is wrong, or the one file that IN names cannot be done.
    """
    found = files.find(inputs, output)
    codec = load_codec(config, checkpoint)
    if num_codebooks is None:
        bandwidth = codec.bandwidth if bandwidth is None else bandwidth
        num_codebooks = config_lib.num_codebooks_for(codec.model_config, bandwidth)
    elif bandwidth is not None:
        raise ValueError("bandwidth and num_codebooks: got both, one says it all")
    kbps = f"{config_lib.bandwidth_for(codec.model_config, num_codebooks):g}"
    jobs = files.plan(found, output, f"_{kbps}kbps", force)

    report = _Report(len(jobs), raising=found.root is None)
    report.failures += found.unreadable
    start = time.perf_counter()
    try:
        for batch in _batches(jobs, codec, sample_format, report):
            interruption.check()
            encoded = codec.encode([clip.samples for clip in batch], num_codebooks=num_codebooks)
            for clip, decoded in zip(batch, codec.decode(encoded), strict=True):
                interruption.check()
                try:
                    _write(clip, decoded, codec.sample_rate, sample_format, rescale, report)
                except ValueError as error:
                    report.failed(error)
    except KeyboardInterrupt:
        report.line(f"interrupted: {report.done} of {len(jobs)} files written")
        return 130
    finally:
        report.bar.close()
    seconds = time.perf_counter() - start
    print(
        f"{report.done} of {len(jobs)} files, {report.seconds:.1f} s of audio in {seconds:.1f} s "
        f"({report.seconds / seconds:.2f} times real time), {kbps} kbps"
    )
    if report.failures:
        print(f"skipped {len(report.failures)}:", file=sys.stderr)
        print(*report.failures, sep="\n", file=sys.stderr)
    return 1 if report.failures else 0


def load_codec(config: ml_collections.ConfigDict | None, checkpoint: str | None) -> codec_lib.Codec:
    """Loads a codec for a command.

    Args:
      config: a whole configuration, its model the checkpoint's; None for what the checkpoint says.
      checkpoint: the file of weights; None for the configuration's own.

    Raises:
      ValueError: neither is given, the configuration is wrong or of another model, or the file is
        missing (the message says how to get it) or damaged.
    """
    if config is not None:
        config_lib.validate(config)
    path = checkpoint or (config.checkpoint if config is not None else None)
    if path is None:
        raise ValueError("checkpoint: got none, and no configuration that names one")
    if not checkpoint and not pathlib.Path(path).exists() and (_ROOT / path).exists():
        path = str(_ROOT / path)  # called from another folder
    if not pathlib.Path(path).exists():
        raise ValueError(_missing(config.name if config is not None else None, path))
    if config is None:
        return codec_lib.load(path)
    loaded = checkpoint_lib.load(path)
    differing = [
        f"config.model.{field}: got {config.model[field]!r}, the checkpoint has {value!r}"
        for field, value in loaded.config.items()
        if config.model[field] != value
    ]
    if differing:
        raise ValueError(f"{path}: is of another model; {'; '.join(differing)}")
    return codec_lib.Codec(
        loaded.config,
        loaded.params,
        name=loaded.name,
        bandwidth=config.inference.bandwidth,
        batch_size=config.inference.batch_size,
        block_seconds=config.inference.block_seconds,
    )


def _missing(name: str | None, path: str) -> str:
    """One line on a checkpoint that is not there: how to get it."""
    line = f"checkpoint: {path} does not exist"
    if name in _SOURCES:
        source, place = _SOURCES[name]
        return (
            f"{line}; to make it: python run.py convert --config=configs/{name}.py "
            f"--source={source} --output={path}{place}"
        )
    return f"{line}; name one that does with --checkpoint=FILE"


class _Report:
    """Progress, on a terminal as a bar and else as lines, and the files that could not be done."""

    def __init__(self, total: int, raising: bool) -> None:
        self.done = 0
        self.seconds = 0.0
        self.failures: list[str] = []
        self.bar = tqdm.tqdm(total=total, unit="file", disable=not sys.stderr.isatty())
        self._total = total
        self._raising = raising

    def line(self, text: str) -> None:
        """Prints a line to stderr, above the bar."""
        tqdm.tqdm.write(text, file=sys.stderr)

    def wrote(self, clip: _Clip) -> None:
        self.done += 1
        self.seconds += clip.length / clip.sample_rate
        self.bar.update()
        if self.bar.disable:
            source, target = audio.shown(clip.job.source), audio.shown(clip.job.target)
            print(f"[{self.done}/{self._total}] {source} -> {target}", flush=True)

    def failed(self, error: ValueError) -> None:
        """Notes a file to skip; where it is the only one, raises the error."""
        if self._raising:
            raise error
        self.failures.append(str(error))
        self.bar.update()


def _batches(
    jobs: Sequence[files.Job], codec: codec_lib.Codec, sample_format: str, report: _Report
) -> Iterator[list[_Clip]]:
    """Reads files into batches of at most BATCH_SECONDS, padding counted in."""
    batch: list[_Clip] = []
    longest = 0
    for job in jobs:
        try:
            clip = _read(job, codec, sample_format)
        except ValueError as error:
            report.failed(error)
            continue
        longest = max(longest, len(clip.samples))
        if batch and (len(batch) + 1) * longest > BATCH_SECONDS * codec.sample_rate:
            yield batch
            batch, longest = [], len(clip.samples)
        batch.append(clip)
    if batch:
        yield batch


def _read(job: files.Job, codec: codec_lib.Codec, sample_format: str) -> _Clip:
    samples, sample_rate, _ = audio.read(job.source)
    length, channels = samples.shape
    audio.check_writable(job.target, sample_rate, channels, sample_format)
    samples = audio.resample(audio.mix(samples, codec.channels), sample_rate, codec.sample_rate)
    return _Clip(job, samples, length, sample_rate, channels)


def _write(
    clip: _Clip,
    decoded: np.ndarray,
    codec_rate: int,
    sample_format: str,
    rescale: bool,
    report: _Report,
) -> None:
    """Writes the output of a clip from its row [T, C] of the decoded batch."""
    samples = audio.resample(
        decoded[: len(clip.samples)], codec_rate, clip.sample_rate, clip.length
    )
    samples = audio.mix(samples, clip.channels)
    if rescale or not audio.holds_any_value(clip.job.target, sample_format):
        samples, peak = audio.limit(samples, rescale=rescale)
        if peak > 1:
            done = "scaled to fit" if rescale else "clipped; --rescale scales it to fit"
            report.line(f"{audio.shown(clip.job.target)}: peak {peak:.3f} of full scale, {done}")
    try:
        clip.job.target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        folder = audio.shown(clip.job.target.parent)
        raise ValueError(f"{folder}: {error.strerror}") from error
    audio.write(clip.job.target, samples, clip.sample_rate, sample_format)
    report.wrote(clip)
