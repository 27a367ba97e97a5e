"""The targets of a codec: sound or codes, to files or stdout.

A target takes what the codec returns in pieces, and holds no more than a few seconds. A file gets
its name when it is closed, and is deleted if it is aborted.

Shapes: T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from encodec_hk import bitstream
from encodec_hk.blocks import items
from encodec_hk.sound import pcm
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import part_file

_PIECE = 2**16  # samples to read at once from a temporary file
_TEMPORARY = "a temporary file"


class SoundOut:
    """Sound, resampled and mixed from what the codec returns."""

    def __init__(
        self,
        writer: sound_files.SoundWriter | pcm.PcmWriter,
        sample_rate: int,
        target_rate: int,
        channels: int,
        target_channels: int,
        *,
        clips: bool,
        rescale: bool,
    ):
        """Begin to write.

        Args:
          writer: the output.
          sample_rate: Hz, of the codec.
          target_rate: Hz, of the output.
          channels: C, of the codec.
          target_channels: C, of the output.
          clips: whether the output cannot hold values above full scale.
          rescale: scale the whole output if its peak exceeds full scale. Until the peak is known,
            the samples wait in a temporary file.
        """
        self._writer = writer
        self._resampler = resampling.Resampler(sample_rate, target_rate, channels)
        self._channels = target_channels
        self._clips = clips
        self._rescale = rescale
        self._spool = _open_spool() if rescale else None
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
        """Write what the resampler and the temporary file hold.

        Args:
          num_samples: T of the output; None for as many as came in, at the output's rate.
        """
        self._put(self._resampler.finish(num_samples))
        if self._spool is None:
            return
        gain = np.float32(sound_files.FULL_SCALE / self._peak if self._peak > 1 else 1)
        with file_errors.as_value_error(_TEMPORARY):
            self._spool.seek(0)
        while data := self._spool.read(4 * self._channels * _PIECE):
            samples = np.frombuffer(data, np.float32).reshape(-1, self._channels)
            self._writer.write(samples * gain)

    def close(self) -> None:
        """Complete the output."""
        self._writer.close()
        _close_spool(self._spool)

    def abort(self) -> None:
        """Delete the output."""
        self._writer.abort()
        _close_spool(self._spool)

    def _put(self, samples: np.ndarray) -> None:
        if not len(samples):
            return
        samples = resampling.mix(samples, self._channels)
        self._peak = max(self._peak, float(np.abs(samples).max()))
        if self._spool is not None:
            with file_errors.as_value_error(_TEMPORARY):
                self._spool.write(samples.astype(np.float32).tobytes())
        else:
            self._writer.write(np.clip(samples, -1, 1) if self._clips else samples)


class CodesOut:
    """Codes, written to an .ecdc file.

    Version 0 stores the length of the signal at the start of the file. Until the length is known,
    the codes wait in a temporary file.

    Attributes:
      warnings: always empty.
    """

    warnings: tuple[str, ...] = ()

    def __init__(
        self,
        path: pathlib.Path,
        header: bitstream.Header,
        file: BinaryIO | None = None,
        *,
        is_live: bool,
    ):
        """Begin to write.

        Args:
          path: the file, or a name for messages.
          header: the header; its `num_samples` is None if the length is not certain.
          file: a pipe to write instead of the file.
          is_live: flush every piece.
        """
        self._path = path
        self._header = header
        self._is_live = is_live
        self._spool: Any = None
        self._part = None
        self._writer: bitstream.EcdcWriter | None = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._errors())
            stack.callback(self.abort)
            self._part = part_file.PartFile(path) if file is None else None
            self._file = file or self._part.file  # type: ignore[union-attr]
            if header.version == 0 and header.num_samples is None:
                # Check the header now, as if the length were known.
                bitstream.open_writer(io.BytesIO(), dataclasses.replace(header, num_samples=1))
                self._spool = _open_spool()
            else:
                self._writer = bitstream.open_writer(self._file, header)
            stack.pop_all()

    def write(self, parts: Iterable[items.Codes]) -> None:
        """Write codes, in parts that are one segment each if the variant has segments."""
        with self._errors():
            for codes, scales in parts:
                scale = None if scales is None else np.reshape(scales, 1)
                if self._writer is not None:
                    self._writer.write(codes, scale)
                    continue
                head = np.array([codes.shape[1], 0 if scale is None else scale[0]], np.float32)
                self._spool.write(head.tobytes() + codes.astype(np.uint16).tobytes())
            if self._is_live and self._writer is not None:
                self._writer.flush()

    def finish(self, num_samples: int | None) -> None:
        """Write the end of the file, for a signal of `num_samples` samples."""
        with self._errors():
            if self._writer is None:
                header = dataclasses.replace(self._header, num_samples=num_samples)
                self._writer = bitstream.open_writer(self._file, header)
                self._spool.seek(0)
                while head := self._spool.read(8):
                    frames, scale = np.frombuffer(head, np.float32)
                    size = int(frames) * header.num_codebooks
                    codes = np.frombuffer(self._spool.read(2 * size), np.uint16)
                    codes = codes.reshape(header.num_codebooks, -1).astype(np.int32)
                    self._writer.write(codes, scale[None] if header.normalize else None)
            self._writer.finish(num_samples)
            self._file.flush()

    def close(self) -> None:
        """Complete the file."""
        with self._errors():
            if self._part is not None:
                self._part.commit()
            _close_spool(self._spool)

    def abort(self) -> None:
        """Delete the file."""
        if self._part is not None:
            self._part.abort()
        _close_spool(self._spool)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return file_errors.as_value_error(self._path, ValueError)


def _open_spool() -> Any:
    """Open a temporary file, which is deleted when it is closed."""
    with file_errors.as_value_error(_TEMPORARY):
        return tempfile.TemporaryFile()


def _close_spool(spool: Any) -> None:
    if spool is not None:
        with contextlib.suppress(OSError):  # closing flushes, which may fail on a full disk
            spool.close()
