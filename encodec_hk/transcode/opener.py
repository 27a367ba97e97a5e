"""Opens what `run.py infer` reads and writes: sources and targets of the codec, and copies."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import encodec_hk
from encodec_hk import bitstream
from encodec_hk.sound import pcm
from encodec_hk.sound import sound_files
from encodec_hk.system import file_paths
from encodec_hk.transcode import coder
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import inputs
from encodec_hk.transcode import outputs
from encodec_hk.transcode import plan
from encodec_hk.transcode import stdio


@dataclasses.dataclass(frozen=True)
class Options:
    """How to read and write; see `infer.run`.

    Attributes:
      suffix: of what goes to stdout.
      raw: the format of samples without a header on stdin and stdout; None: they are WAV.
    """

    bandwidth: float | None = None
    num_codebooks: int | None = None
    sample_format: str = "int16"
    rescale: bool = False
    format: str | None = None
    recover: bool = False
    suffix: str = ".wav"
    raw: pcm.Format | None = None


class Opener:
    """Opens the files of jobs."""

    def __init__(self, options: Options, codec: Callable[[], encodec_hk.Codec]):
        """Takes the options, and what loads the codec, which copies of codes do without."""
        self._options = options
        self._codec = codec
        self._stdin: pcm.Pushback | None = None
        self._opened: tuple[BinaryIO, bitstream.EcdcReader] | None = None  # of stdin

    def has_codes(self, path: pathlib.Path) -> bool:
        """Whether a source is an .ecdc file: by its suffix, on stdin by its first bytes."""
        if str(path) == stdio.NAME:
            return self._options.raw is None and self._standard().first == b"ECDC"
        return path.suffix.lower() == plan.CODES

    def gets_codes(self, path: pathlib.Path) -> bool:
        """Whether a target is an .ecdc file."""
        is_standard = str(path) == stdio.NAME
        return (self._options.suffix if is_standard else path.suffix.lower()) == plan.CODES

    def num_codebooks(self, job: plan.Job) -> int:
        """The codebooks of a source of codes that are asked for.

        Raises:
          ValueError: it cannot be read, has not as many, or the codec does not decode it.
        """
        file, reader = self._open_codes(job)
        if str(job.source) != stdio.NAME:
            file.close()
        try:
            asked = self._options.bandwidth, self._options.num_codebooks
            return ecdc.num_codebooks(reader.header, *asked)
        except ValueError as error:
            raise ValueError(f"{file_paths.shown(job.source)}: {error}") from error

    def decoding(self, job: plan.Job) -> coder.Task:
        """A task from codes to sound."""
        source = self._codes_in(job)
        codec = self._codec()
        return _with_target(
            source, lambda: self._sound_out(job, codec.sample_rate, codec.channels, None), job
        )

    def encoding(self, job: plan.Job, num_codebooks: int) -> coder.Task:
        """A task from sound to codes or to sound."""
        codec, options = self._codec(), self._options
        is_live = str(job.source) == stdio.NAME
        reader: sound_files.SoundReader | pcm.PcmReader
        if is_live:
            file = self._standard()
            reader = pcm.PcmReader(cast(BinaryIO, file), options.raw)
        else:
            reader = sound_files.SoundReader(job.source)
        source = inputs.SoundIn(reader, codec.sample_rate, codec.channels, is_live=is_live)

        def target() -> Any:
            if not self.gets_codes(job.target):
                return self._sound_out(job, source.sample_rate, source.channels, source.num_samples)
            version = ecdc.default_version(codec)
            if options.format is not None:
                version = int(options.format[1:])
            length = source.coded_samples
            header = ecdc.header(codec, num_codebooks, length, version)
            return self._codes_out(job, header, is_live)

        return _with_target(source, target, job)

    def copying(self, job: plan.Job, num_codebooks: int) -> coder.Task:
        """A task from codes to codes, of fewer codebooks or in another format."""
        source = self._codes_in(job)
        found = source.header
        version = int((self._options.format or f"v{found.version}")[1:])

        def target() -> Any:
            if version and not found.fingerprint:
                raise ValueError(
                    f"{file_paths.shown(job.source)}: --format=v1: version 0 does not say which "
                    "checkpoint its codes are of"
                )
            header = dataclasses.replace(found, version=version, num_codebooks=num_codebooks)
            if not version:
                header = dataclasses.replace(header, fingerprint=None)
            if found.version > version:  # whose length may be less than it says
                header = dataclasses.replace(header, num_samples=None)
            return self._codes_out(job, header, str(job.source) == stdio.NAME)

        return _with_target(source, target, job)

    def _standard(self) -> pcm.Pushback:
        if self._stdin is None:
            self._stdin = pcm.Pushback(stdio.stdin(), 4 if self._options.raw is None else 0)
        return self._stdin

    def _codes_in(self, job: plan.Job) -> inputs.CodesIn:
        file, reader = self._open_codes(job)
        return inputs.CodesIn(
            file,
            reader,
            file_paths.shown(job.source),
            # A file of codes has no silence to put in the place of what is lost.
            recover=self._options.recover and not self.gets_codes(job.target),
            is_live=str(job.source) == stdio.NAME,
        )

    def _open_codes(self, job: plan.Job) -> tuple[BinaryIO, bitstream.EcdcReader]:
        is_standard = str(job.source) == stdio.NAME
        if is_standard and self._opened is not None:
            return self._opened
        name = file_paths.shown(job.source)
        try:
            # Closed by the source.
            file = cast(BinaryIO, self._standard()) if is_standard else open(job.source, "rb")  # noqa: SIM115
        except OSError as error:
            raise ValueError(f"{name}: {error.strerror or error}") from error
        try:
            reader = bitstream.open_reader(file)
            if not self.gets_codes(job.target):
                ecdc.check(reader.header, self._codec())
        except (ValueError, OSError) as error:
            file.close()
            raise ValueError(f"{name}: {error}") from error
        if is_standard:
            self._opened = file, reader
        return file, reader

    def _sound_out(
        self, job: plan.Job, sample_rate: int, channels: int, num_samples: int | None
    ) -> outputs.SoundOut:
        codec, options = self._codec(), self._options
        writer: sound_files.SoundWriter | pcm.PcmWriter
        if str(job.target) == stdio.NAME:
            raw = options.raw
            if raw is not None and raw[:2] != (sample_rate, channels):
                raise ValueError(
                    f"--raw_rate, --raw_channels: got {raw.sample_rate} and {raw.channels}, the "
                    f"sound of {file_paths.shown(job.source)} has {sample_rate} Hz and {channels}"
                )
            names = {"int16": "s16le", "int24": "s24le", "float32": "f32le"}
            name = names[options.sample_format] if raw is None else raw.raw_format
            form = pcm.Format(sample_rate, channels, name)
            writer = pcm.PcmWriter(stdio.stdout(), form, header=raw is None)
            clips = name != "f32le"
        else:
            _make_folder(job.target.parent)
            writer = sound_files.SoundWriter(
                job.target, sample_rate, channels, options.sample_format, num_samples
            )
            clips = not sound_files.holds_any_value(job.target, options.sample_format)
        try:
            return outputs.SoundOut(
                writer,
                codec.sample_rate,
                sample_rate,
                codec.channels,
                channels,
                clips=clips,
                rescale=options.rescale,
            )
        except BaseException:  # an interruption too
            writer.abort()
            raise

    def _codes_out(
        self, job: plan.Job, header: bitstream.Header, is_live: bool
    ) -> outputs.CodesOut:
        is_standard = str(job.target) == stdio.NAME
        if not is_standard:
            _make_folder(job.target.parent)
        return outputs.CodesOut(
            job.target,
            header,
            stdio.stdout() if is_standard else None,
            is_live=is_live or is_standard,
        )


def _with_target(source: Any, open_target: Callable[[], Any], job: plan.Job) -> coder.Task:
    """A task of a source that is open, which is closed if its target cannot be opened."""
    try:
        return coder.Task(source, open_target(), job)
    except BaseException:  # an interruption too
        source.close()
        raise


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{file_paths.shown(folder)}: {error.strerror}") from error
