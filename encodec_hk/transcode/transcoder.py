"""Files and pipes through a codec, to other files and pipes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import pathlib
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, BinaryIO, TypeVar, cast

import encodec_hk
from encodec_hk import bitstream
from encodec_hk import config
from encodec_hk.sound import file_formats
from encodec_hk.sound import pcm
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.transcode import coder
from encodec_hk.transcode import ecdc
from encodec_hk.transcode import inputs
from encodec_hk.transcode import outputs
from encodec_hk.transcode import plan
from encodec_hk.transcode import stdio

_T = TypeVar("_T")
# The headerless format of each sample format.
_RAW_FORMATS = {"int16": "s16le", "int24": "s24le", "float32": "f32le"}


class Transcoder:
    """Encodes and decodes files of sound and of codes.

    Sound goes to codes, or through the codec to sound of the source's sample rate, channels and
    length; codes go to sound of the codec's, or are copied. Memory does not grow with the number or
    the length of the files.

    Attributes:
      found: the files that IN names.
      jobs: what to read and to write.
      kept: outputs that exist already and stay as they are.
    """

    _pipe_codes: inputs.CodesIn | None = None  # once opened
    _warming: futures.Future[None] | None = None  # of the language model, once begun

    def __init__(
        self,
        inputs: str,
        output: str | None,
        options: plan.Options,
        codec: Callable[[], encodec_hk.Codec],
        predictor: Callable[[], bitstream.CodePredictor | None] = lambda: None,
        language: Callable[[], bitstream.EntropyCoder | None] = lambda: None,
    ):
        """Find the inputs and name the outputs.

        Args:
          inputs: IN, a file, a pipe, a glob or a folder (see `plan.find`), or "-" for stdin.
          output: OUT, a file, a pipe or a folder (see `plan.plan`), "-" for stdout, or None.
          options: how to read and write.
          codec: returns the codec; not called if codes are copied.
          predictor: returns Meta's language model, None without one; called if codes are read, or
            written with it.
          language: returns the coder of the codec's language model, None without one; called if
            codes of version 1 are written, or read that need it.

        Raises:
          ValueError: if there are no inputs, or the outputs or the options do not fit them.
        """
        inputs = stdio.resolve(inputs)
        output = output and stdio.resolve(output)
        options.check_names(inputs, output)
        self._options = options
        self._codec = functools.cache(codec)
        self._predictor = functools.cache(predictor)
        self._language = _once(language)
        self._pipes = contextlib.ExitStack()  # closes those that are written
        self.found = plan.find(inputs, output, options.suffix)
        self._num_codebooks = 0  # of the codes of sound
        if all(map(self._reads_codes, self.found.files)):
            tag = self._tag_of_codes()
        else:
            count = self._codec().count_codebooks(options.bandwidth, options.num_codebooks)
            self._num_codebooks = count
            tag = f"_{config.bandwidth_for(self._codec().model_config, count):g}kbps"
        self.jobs, self.kept = plan.plan(self.found, output, tag, options)

    def run(self, settle: Callable[[coder.Result], None]) -> None:
        """Run all jobs: copies first, then sound, then codes by their number of codebooks.

        Args:
          settle: called with the result of each job. If it raises, the others are aborted.
        """
        with self._pipes:
            self._run(settle)

    def _run(self, settle: Callable[[coder.Result], None]) -> None:
        groups = collections.defaultdict(list)
        for job in sorted(self.jobs, key=lambda job: self._reads_codes(job.source)):
            try:
                reads_codes, count = self._reads_codes(job.source), self._count(job)
                if not (reads_codes and self._writes_codes(job)):
                    groups[reads_codes, count].append(job)
                    continue
                result = coder.copy(job, *self._open(job, count), count)
            except ValueError as error:
                result = coder.Result(job, error=error)
            settle(result)
        for (_, count), jobs in groups.items():
            coder.FileCoder(self._codec(), jobs, self._open, settle, count).run()

    def _open_out(self, target: pathlib.Path) -> Any:
        """Open a pipe to write, or return stdout, which stays open."""
        file = stdio.open_out(target)
        if str(target) != stdio.NAME:
            self._pipes.callback(stdio.close_out, file)
        return file

    @functools.cached_property
    def _pipe(self) -> pcm.Pushback:
        pipe = stdio.open_in(self.found.files[0])
        return pcm.Pushback(pipe, 4 if self._options.raw is None else 0)

    def _reads_codes(self, path: pathlib.Path) -> bool:
        """Return whether a source is an .ecdc file, by its suffix or its first bytes.

        Raw samples are sound whatever they begin with.
        """
        if self.found.root is None and stdio.is_pipe(path):
            return self._options.raw is None and self._pipe.first == b"ECDC"
        if self.found.root is None and path.suffix.lower() not in plan.READABLE:
            with contextlib.suppress(OSError), open(path, "rb") as file:  # such as /dev/stdin
                return file.read(4) == b"ECDC"
        return path.suffix.lower() == ecdc.SUFFIX

    def _writes_codes(self, job: plan.Job) -> bool:
        return self._options.suffix_of(job.target) == ecdc.SUFFIX

    def _count(self, job: plan.Job) -> int:
        """Return the number of codebooks of a job's codes; raises ValueError as `_codes_in`."""
        if not self._reads_codes(job.source):
            return self._num_codebooks
        source = self._codes_in(job)
        source.close()
        with file_errors.as_value_error(job.source, ValueError):
            count = ecdc.num_codebooks(
                source.header, self._options.bandwidth, self._options.num_codebooks
            )
            if not self._writes_codes(job):
                config.bandwidth_for(self._codec().model_config, count)  # checks it
            return count

    def _tag_of_codes(self) -> str:
        """Return the end of the names of outputs that are made from codes."""
        options = self._options
        if options.suffix != ecdc.SUFFIX:
            return "_decoded"
        if options.num_codebooks is not None:
            return f"_{options.num_codebooks}codebooks"
        return "_copy" if options.bandwidth is None else f"_{options.bandwidth:g}kbps"

    def _open(self, job: plan.Job, num_codebooks: int) -> tuple[coder.Source, coder.Target]:
        """Open a job; raises ValueError if its files do not open or do not fit each other."""
        source = self._codes_in(job) if self._reads_codes(job.source) else self._sound_in(job)
        with contextlib.ExitStack() as stack:
            stack.callback(source.close)
            target: coder.Target
            if self._writes_codes(job):
                target = self._codes_out(job, source, num_codebooks)
            else:
                target = self._sound_out(job, source)
            stack.pop_all()
        return source, target

    def _sound_in(self, job: plan.Job) -> inputs.SoundIn:
        codec = self._codec()
        codec.check_encoder()
        reader: sound_files.SoundReader | pcm.PcmReader
        recover = self._options.recover
        with inputs.naming_recover():
            if job.from_pipe:
                name = "stdin" if str(job.source) == stdio.NAME else file_paths.shown(job.source)
                pipe = cast(BinaryIO, self._pipe)
                reader = pcm.PcmReader(pipe, self._options.raw, name=name, recover=recover)
            else:
                reader = sound_files.SoundReader(job.source, recover=recover)
        return inputs.SoundIn(
            reader,
            codec.sample_rate,
            codec.channels,
            size=min(codec.framing.stride, codec.block_frames * codec.hop_length),
            is_live=job.from_pipe,
        )

    def _codes_in(self, job: plan.Job) -> inputs.CodesIn:
        if job.from_pipe and self._pipe_codes is not None:
            return self._pipe_codes
        with file_errors.as_value_error(job.source, ValueError), contextlib.ExitStack() as stack:
            if job.from_pipe:
                file = cast(BinaryIO, self._pipe)
            else:
                file = stack.enter_context(open(job.source, "rb"))
            source = inputs.CodesIn(
                file,
                file_paths.shown(job.source),
                # Silence is not among the codes: a copy cannot replace a damaged block.
                recover=self._options.recover and not self._writes_codes(job),
                is_live=job.from_pipe,
                predictor=self._predictor(),
                coder=self._coder_of,
            )
            if not self._writes_codes(job):
                self._warm_up_language(source.header, job)
                ecdc.check(source.header, self._codec())
            stack.pop_all()
        if job.from_pipe:
            self._pipe_codes = source
        return source

    def _sound_out(self, job: plan.Job, source: coder.Source) -> outputs.SoundOut:
        codec, options = self._codec(), self._options
        sample_rate, channels = source.sample_rate, source.channels
        resampler = resampling.Resampler(codec.sample_rate, sample_rate, codec.channels)
        writer: sound_files.SoundWriter | pcm.PcmWriter
        if job.to_pipe:
            raw = options.raw
            if raw is not None and raw[:2] != (sample_rate, channels):
                raise ValueError(
                    f"--raw_rate, --raw_channels: got {raw.sample_rate} and {raw.channels}, the "
                    f"sound of {file_paths.shown(job.source)} has {sample_rate} Hz and {channels}"
                )
            raw_format = _RAW_FORMATS[options.sample_format] if raw is None else raw.raw_format
            pcm_format = pcm.Format(sample_rate, channels, raw_format)
            writer = pcm.PcmWriter(self._open_out(job.target), pcm_format, header=raw is None)
            clips = raw_format != "f32le"
        else:
            _make_folder_of(job.target)
            writer = sound_files.SoundWriter(
                job.target, sample_rate, channels, options.sample_format, source.num_samples
            )
            clips = not file_formats.holds_any_value(job.target, options.sample_format)
        return outputs.SoundOut(writer, resampler, channels, clips=clips, rescale=options.rescale)

    def _codes_out(
        self, job: plan.Job, source: coder.Source, num_codebooks: int
    ) -> outputs.CodesOut:
        version, lm = self._options.version, self._options.entropy == "meta"
        if isinstance(source, inputs.CodesIn):
            with file_errors.as_value_error(job.source, ValueError):
                header = ecdc.copied(source.header, num_codebooks, version, lm)
        else:
            samples = source.coded_samples
            if version is None and self._options.wants_language:
                version = 1  # also with the names of Meta's models
            header = ecdc.header(self._codec(), num_codebooks, samples, version, lm)
        entropy = None
        if not lm:
            entropy = ecdc.coder_for(header, self._options.entropy, self._language)
        language = None if entropy is None else entropy.fingerprint
        header = dataclasses.replace(header, language=language)
        file = self._open_out(job.target) if job.to_pipe else None
        if file is None:
            _make_folder_of(job.target)
        return outputs.CodesOut(
            job.target,
            header,
            file,
            is_live=job.from_pipe or job.to_pipe,
            predictor=self._predictor() if lm else None,
            coder=entropy,
        )

    def _warm_up_language(self, header: bitstream.Header, job: plan.Job) -> None:
        """Begin to load the language model of the first file that needs it, beside the codec."""
        if header.language is None or self._warming is not None:
            return
        # Blocks that come one by one have a program of their own.
        is_single = job.from_pipe or (header.duration is not None and header.duration <= 1)

        def warm_up() -> None:
            coder = self._language()
            if coder is not None and header.num_codebooks <= coder.max_codebooks:
                coder.warm_up(1 if is_single else coder.rows, header.num_codebooks)

        pool = futures.ThreadPoolExecutor(1)
        self._warming = pool.submit(warm_up)
        pool.shutdown(wait=False)

    def _coder_of(self, header: bitstream.Header) -> bitstream.EntropyCoder:
        """Return the coder for a file's codes; the reader checks that it is the right one."""
        if self._warming is not None:
            self._warming.result()
        found = self._language()
        if found is None:
            raise ValueError(
                f"needs the language model {(header.language or '')[:16]} of {header.name}; "
                "--language=FILE names it"
            )
        return found


def _once(function: Callable[[], _T]) -> Callable[[], _T]:
    """Return the function, called at most once, by whichever thread needs it first."""
    lock, kept = threading.Lock(), functools.cache(function)

    def call() -> _T:
        with lock:
            return kept()

    return call


def _make_folder_of(path: pathlib.Path) -> None:
    with file_errors.as_value_error(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
