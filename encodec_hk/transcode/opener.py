"""Opens the sources and targets of jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import BinaryIO, cast

import encodec_hk
from encodec_hk import bitstream
from encodec_hk.sound import pcm
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.transcode import coder
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import inputs
from encodec_hk.transcode import options
from encodec_hk.transcode import outputs
from encodec_hk.transcode import plan
from encodec_hk.transcode import stdio

# The headerless format of each sample format.
_RAW_FORMATS = {"int16": "s16le", "int24": "s24le", "float32": "f32le"}


class Opener:
    """Opens the sources and targets of jobs."""

    def __init__(self, options: options.Options, codec: Callable[[], encodec_hk.Codec]):
        """Store the options, and the function that returns the codec: copies do not call it."""
        self._options = options
        self._codec = codec
        self._stdin: pcm.Pushback | None = None
        self._stdin_codes: bitstream.EcdcReader | None = None

    def reads_codes(self, path: pathlib.Path) -> bool:
        """Return whether a source is an .ecdc file: by its suffix, or on stdin by its first bytes.

        Raw samples are sound whatever they begin with.
        """
        if str(path) == stdio.NAME:
            return self._options.raw is None and self._open_stdin().first == b"ECDC"
        return path.suffix.lower() == ecdc.SUFFIX

    def writes_codes(self, job: plan.Job) -> bool:
        """Return whether the target of a job is an .ecdc file."""
        suffix = self._options.suffix if job.to_stdout else job.target.suffix.lower()
        return suffix == ecdc.SUFFIX

    def num_codebooks(self, job: plan.Job) -> int:
        """Return the number of codebooks to read from a source of codes.

        Raises:
          ValueError: if the file cannot be read or has fewer, or the codec does not decode it.
        """
        file, reader = self._open_codes(job)
        if not job.from_stdin:
            file.close()
        with file_errors.as_value_error(job.source, ValueError):
            return ecdc.num_codebooks(
                reader.header, self._options.bandwidth, self._options.num_codebooks
            )

    def encoding(self, job: plan.Job, num_codebooks: int) -> coder.Task:
        """Open a task from sound to codes, or through the codec to sound."""
        codec = self._codec()
        reader: sound_files.SoundReader | pcm.PcmReader
        if job.from_stdin:
            reader = pcm.PcmReader(cast(BinaryIO, self._open_stdin()), self._options.raw)
        else:
            reader = sound_files.SoundReader(job.source)
        source = inputs.SoundIn(reader, codec.sample_rate, codec.channels, is_live=job.from_stdin)

        def open_target() -> outputs.SoundOut | outputs.CodesOut:
            if not self.writes_codes(job):
                return self._sound_out(job, source.sample_rate, source.channels, source.num_samples)
            version = self._options.version
            if version is None:
                version = ecdc.default_version(codec)
            return self._codes_out(
                job, ecdc.header(codec, num_codebooks, source.coded_samples, version)
            )

        return _task(job, source, open_target)

    def decoding(self, job: plan.Job) -> coder.Task:
        """Open a task from codes to sound."""
        codec = self._codec()
        return _task(
            job,
            self._codes_in(job),
            lambda: self._sound_out(job, codec.sample_rate, codec.channels, None),
        )

    def copying(self, job: plan.Job, num_codebooks: int) -> coder.Task:
        """Open a task from codes to codes, of fewer codebooks or in another version."""
        source = self._codes_in(job)
        found = source.header
        version = self._options.version
        if version is None:
            version = found.version

        def open_target() -> outputs.CodesOut:
            if version and not found.fingerprint:
                raise ValueError(
                    f"{file_paths.shown(job.source)}: --format=v1: version 0 does not say which "
                    "checkpoint its codes are of"
                )
            header = dataclasses.replace(
                found,
                version=version,
                num_codebooks=num_codebooks,
                fingerprint=found.fingerprint if version else None,
                # A file of version 1 may be shorter than its header says.
                num_samples=None if found.version > version else found.num_samples,
            )
            return self._codes_out(job, header)

        return _task(job, source, open_target)

    def _open_stdin(self) -> pcm.Pushback:
        if self._stdin is None:
            self._stdin = pcm.Pushback(stdio.stdin(), 4 if self._options.raw is None else 0)
        return self._stdin

    def _codes_in(self, job: plan.Job) -> inputs.CodesIn:
        file, reader = self._open_codes(job)
        return inputs.CodesIn(
            file,
            reader,
            file_paths.shown(job.source),
            # Silence is not among the codes: a copy cannot replace a damaged block.
            recover=self._options.recover and not self.writes_codes(job),
            is_live=job.from_stdin,
        )

    def _open_codes(self, job: plan.Job) -> tuple[BinaryIO, bitstream.EcdcReader]:
        """Open a source of codes; stdin is opened once."""
        with file_errors.as_value_error(job.source, ValueError), contextlib.ExitStack() as stack:
            if not job.from_stdin:
                file: BinaryIO = stack.enter_context(open(job.source, "rb"))
                reader = bitstream.open_reader(file)
            else:
                file = cast(BinaryIO, self._open_stdin())
                reader = self._stdin_codes or bitstream.open_reader(file)
                self._stdin_codes = reader
            if not self.writes_codes(job):
                ecdc.check(reader.header, self._codec())
            stack.pop_all()
        return file, reader

    def _sound_out(
        self, job: plan.Job, sample_rate: int, channels: int, num_samples: int | None
    ) -> outputs.SoundOut:
        codec, options = self._codec(), self._options
        writer: sound_files.SoundWriter | pcm.PcmWriter
        if job.to_stdout:
            raw = options.raw
            if raw is not None and raw[:2] != (sample_rate, channels):
                raise ValueError(
                    f"--raw_rate, --raw_channels: got {raw.sample_rate} and {raw.channels}, the "
                    f"sound of {file_paths.shown(job.source)} has {sample_rate} Hz and {channels}"
                )
            raw_format = _RAW_FORMATS[options.sample_format] if raw is None else raw.raw_format
            pcm_format = pcm.Format(sample_rate, channels, raw_format)
            writer = pcm.PcmWriter(stdio.stdout(), pcm_format, header=raw is None)
            clips = raw_format != "f32le"
        else:
            _make_folder(job.target.parent)
            writer = sound_files.SoundWriter(
                job.target, sample_rate, channels, options.sample_format, num_samples
            )
            clips = not sound_files.holds_any_value(job.target, options.sample_format)
        with contextlib.ExitStack() as stack:
            stack.callback(writer.abort)
            target = outputs.SoundOut(
                writer,
                codec.sample_rate,
                sample_rate,
                codec.channels,
                channels,
                clips=clips,
                rescale=options.rescale,
            )
            stack.pop_all()
        return target

    def _codes_out(self, job: plan.Job, header: bitstream.Header) -> outputs.CodesOut:
        if not job.to_stdout:
            _make_folder(job.target.parent)
        file = stdio.stdout() if job.to_stdout else None
        return outputs.CodesOut(job.target, header, file, is_live=job.from_stdin or job.to_stdout)


def _task(
    job: plan.Job,
    source: inputs.SoundIn | inputs.CodesIn,
    open_target: Callable[[], outputs.SoundOut | outputs.CodesOut],
) -> coder.Task:
    """Return the task of an open source; if its target cannot be opened, close the source."""
    with contextlib.ExitStack() as stack:
        stack.callback(source.close)
        task = coder.Task(source, open_target(), job)
        stack.pop_all()
    return task


def _make_folder(folder: pathlib.Path) -> None:
    with file_errors.as_value_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
