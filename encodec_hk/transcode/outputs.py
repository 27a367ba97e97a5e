"""The targets of a codec: sound or codes, to files or stdout.

A target takes what the codec returns in pieces, and holds no more than a few seconds. A file gets
its name when it is finished, and is deleted if it is aborted.

Shapes: T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from encodec_hk import bitstream
from encodec_hk.bitstream import version1_layout
from encodec_hk.blocks import items
from encodec_hk.sound import pcm
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import background
from encodec_hk.system import file_errors
from encodec_hk.system import part_file

_WAITING = 8  # pieces that wait for a language model
_LIVE_FRAMES = 8  # of a stream's short blocks


class SoundOut:
    """Sound, resampled and mixed from what the codec returns."""

    def __init__(
        self,
        writer: sound_files.SoundWriter | pcm.PcmWriter,
        resampler: resampling.Resampler,
        channels: int,
        *,
        clips: bool,
        rescale: bool,
    ):
        """Begin to write.

        Args:
          writer: the output.
          resampler: from the codec's rate to that of the output.
          channels: C, of the output.
          clips: whether the output cannot hold values above full scale.
          rescale: scale the whole output if its peak exceeds full scale. Until the peak is known,
            the samples wait in a temporary file.
        """
        self._writer = writer
        self._resampler = resampler
        self._channels = channels
        self._clips = clips
        self._rescale = rescale
        self._spool = _Spool()
        self._peak = 0.0

    @property
    def warnings(self) -> list[str]:
        """What was done to samples above full scale."""
        if self._peak <= 1 or not (self._rescale or self._clips):
            return []
        done = "scaled to fit" if self._rescale else "clipped; --rescale scales it to fit"
        return [f"peak {self._peak:.3f} of full scale, {done}"]

    def write(self, samples: np.ndarray) -> None:
        """Write float32 [T, C]; raises ValueError if that fails."""
        self._put(self._resampler.push(samples))

    def finish(self, num_samples: int | None) -> None:
        """Write the rest and complete the output.

        Args:
          num_samples: T of the output; None for as many as came in, at the output's rate.
        """
        self._put(self._resampler.finish(num_samples))
        gain = np.float32(sound_files.FULL_SCALE / self._peak if self._peak > 1 else 1)
        for samples in self._spool.take():
            self._writer.write(samples * gain)
        self._writer.close()
        self._spool.close()

    def abort(self) -> None:
        """Delete the output."""
        self._writer.abort()
        self._spool.close()

    def _put(self, samples: np.ndarray) -> None:
        if not len(samples):
            return
        samples = resampling.mix(samples, self._channels)
        self._peak = max(self._peak, float(np.abs(samples).max()))
        if self._rescale:
            self._spool.put(samples)
        else:
            self._writer.write(np.clip(samples, -1, 1) if self._clips else samples)


class CodesOut:
    """Codes, written to an .ecdc file.

    A language model codes them in a thread beside the codec's work.

    Version 0 stores the length of the signal at the start of the file. Until the length is known,
    the codes wait in a temporary file.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        path: pathlib.Path,
        header: bitstream.Header,
        file: BinaryIO | None = None,
        *,
        is_live: bool,
        predictor: bitstream.CodePredictor | None = None,
        coder: bitstream.EntropyCoder | None = None,
    ):
        """Begin to write.

        Args:
          path: the file, or a name for messages.
          header: the header; its `num_samples` is None if the length is not certain.
          file: a pipe to write instead of the file.
          is_live: flush every piece.
          predictor: Meta's language model, if the header needs it.
          coder: the coder of the header's language model, if it names one.
        """
        self._calls = None if coder is None else background.Calls(_WAITING)
        self._path = path
        self._header = header
        self._is_live = is_live
        self._predictor = predictor
        self._spool = _Spool()
        self._part = None
        self._writer: bitstream.EcdcWriter | None = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._errors())
            stack.callback(self.abort)
            if file is None:
                self._part = part_file.PartFile(path)
                file = self._part.file
            self._file = file
            if header.version == 0 and header.num_samples is None:
                # Check the header now, as if the length were known.
                like = dataclasses.replace(header, num_samples=1)
                bitstream.open_writer(io.BytesIO(), like, predictor=predictor)
            else:
                self._writer = bitstream.open_writer(file, header, predictor=predictor, coder=coder)
            if self._calls is not None and coder is not None:
                # Compile while the codec compiles.
                whole = version1_layout.layout_for(header).block_frames
                for frames in (_LIVE_FRAMES, whole) if is_live else (whole,):
                    silence = np.zeros((header.num_codebooks, frames), np.int32)
                    self._calls.put(functools.partial(coder.encode, [silence]))
            stack.pop_all()

    def write(self, parts: Iterable[items.Codes]) -> None:
        """Write codes, in parts that are one segment each if the variant has segments."""
        with self._errors():
            for codes, scales in parts:
                if not codes.shape[1]:
                    continue
                if self._writer is not None:
                    self._call(functools.partial(self._writer.write, codes, scales))
                    continue
                self._spool.put(codes.astype(np.uint16))
                if scales is not None:
                    self._spool.put(scales)
            if self._is_live and self._writer is not None:
                self._call(self._writer.flush)
                if self._calls is not None:
                    self._calls.wait()

    def finish(self, num_samples: int | None) -> None:
        """Write the rest and complete the file, for a signal of `num_samples` samples."""
        with self._errors():
            if self._calls is not None:
                self._calls.wait()
                self._calls.stop()
            if self._writer is None:
                header = dataclasses.replace(self._header, num_samples=num_samples)
                self._writer = bitstream.open_writer(self._file, header, predictor=self._predictor)
                arrays = self._spool.take()
                for codes in arrays:
                    self._writer.write(codes, next(arrays) if header.normalize else None)
            self._writer.finish(num_samples)
            if self._part is not None:
                self._part.close()
            else:
                self._file.flush()
        self._spool.close()

    def abort(self) -> None:
        """Delete the file."""
        if self._calls is not None:
            self._calls.stop()
        if self._part is not None:
            self._part.abort()
        self._spool.close()

    def _call(self, call: Callable[[], object]) -> None:
        if self._calls is None:
            call()
        else:
            self._calls.put(call)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return file_errors.as_value_error(self._path, ValueError)


class _Spool:
    """Arrays in a temporary file, which is made when the first one comes."""

    def __init__(self) -> None:
        self._file: Any = None
        self._num_arrays = 0

    def put(self, array: np.ndarray) -> None:
        """Add an array; raises ValueError if that fails."""
        with file_errors.as_value_error("a temporary file"):
            self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115, `close` closes it
            np.save(self._file, array)
        self._num_arrays += 1

    def take(self) -> Iterator[np.ndarray]:
        """Yield the arrays in order."""
        with file_errors.as_value_error("a temporary file"):
            if self._file is not None:
                self._file.seek(0)
            for _ in range(self._num_arrays):
                yield np.load(self._file)

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # closing flushes, which may fail on a full disk
                self._file.close()
