"""What `run.py infer` writes: sound or codes, to files or stdout.

A target takes pieces of what the codec gives, and holds no more than a few seconds. One that is
not closed leaves nothing behind.

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
from encodec_hk.blocks import streams
from encodec_hk.sound import pcm
from encodec_hk.sound import resampling
from encodec_hk.sound import sound_files
from encodec_hk.system import file_errors
from encodec_hk.system import part_file

_SPOOLED = 2**16  # samples of a read from a temporary file
_TEMPORARY = "a temporary file"


class SoundOut:
    """Sound, resampled and mixed from what the codec gives.

    Attributes:
      peak: largest absolute sample so far, full scale 1.
    """

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
        """Begins to write.

        Args:
          writer: the output.
          sample_rate: Hz, of the codec.
          target_rate: Hz, of the output.
          channels: of the codec.
          target_channels: of the output.
          clips: whether the output holds no values above full scale.
          rescale: scale what is too loud, as a whole, which is kept in a temporary file till then.
        """
        self._writer = writer
        self._resampler = resampling.Resampler(sample_rate, target_rate, channels)
        self._channels = target_channels
        self._clips = clips
        self._rescale = rescale
        self._spool = _spool() if rescale else None
        self.peak = 0.0

    @property
    def limited(self) -> str:
        """What was done to samples above full scale; empty where there were none."""
        if self.peak <= 1 or not (self._rescale or self._clips):
            return ""
        return "scaled to fit" if self._rescale else "clipped; --rescale scales it to fit"

    def write(self, samples: np.ndarray) -> None:
        """Writes samples [T, C] as the codec gives them; ValueError where that fails."""
        self._put(self._resampler.push(samples))

    def finish(self, num_samples: int | None) -> None:
        """Writes the rest.

        Args:
          num_samples: of the output; None: as many as were written last.
        """
        self._put(self._resampler.finish(num_samples))
        if self._spool is not None:
            gain = np.float32(sound_files.FULL_SCALE / self.peak if self.peak > 1 else 1)
            with file_errors.as_value_error(_TEMPORARY):
                self._spool.seek(0)
            size = 4 * self._channels * _SPOOLED
            while data := self._spool.read(size):
                samples = np.frombuffer(data, np.float32).reshape(-1, self._channels)
                self._writer.write(samples * gain)

    def close(self) -> None:
        """Ends the output."""
        self._writer.close()
        _close(self._spool)

    def abort(self) -> None:
        """Takes the output away."""
        self._writer.abort()
        _close(self._spool)

    def _put(self, samples: np.ndarray) -> None:
        if not len(samples):
            return
        samples = resampling.mix(samples, self._channels)
        self.peak = max(self.peak, float(np.abs(samples).max()))
        if self._spool is not None:
            with file_errors.as_value_error(_TEMPORARY):
                self._spool.write(samples.astype(np.float32).tobytes())
        else:
            self._writer.write(np.clip(samples, -1, 1) if self._clips else samples)


class CodesOut:
    """Codes into an .ecdc file.

    Version 0 says at its start how long the signal is. Where that is not known, the codes are kept
    in a temporary file until it is.
    """

    def __init__(
        self,
        path: pathlib.Path,
        header: bitstream.Header,
        file: BinaryIO | None = None,
        *,
        is_live: bool,
    ):
        """Begins to write.

        Args:
          path: of the file.
          header: of the file; its `num_samples` None where it is not known for certain.
          file: a pipe to write to, instead of a file of this path.
          is_live: hand on every piece at once.
        """
        self._path = path
        self._header = header
        self._is_live = is_live
        self._spool: Any = None
        self._part = None
        self._writer: bitstream.EcdcWriter | None = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(file_errors.as_value_error(path, ValueError))
            stack.callback(self.abort)
            self._part = part_file.PartFile(path) if file is None else None
            self._file = file or self._part.file  # type: ignore[union-attr]
            if header.version == 0 and header.num_samples is None:
                # What is wrong with the header shows now.
                bitstream.open_writer(io.BytesIO(), dataclasses.replace(header, num_samples=1))
                self._spool = _spool()
            else:
                self._writer = bitstream.open_writer(self._file, header)
            stack.pop_all()

    def write(self, parts: Iterable[streams.Codes]) -> None:
        """Writes codes, parts that are segments where the variant has those."""
        with file_errors.as_value_error(self._path, ValueError):
            for codes, scale in parts:
                if self._writer is None:
                    head = np.array([codes.shape[1], 0 if scale is None else scale], np.float32)
                    self._spool.write(head.tobytes() + codes.astype(np.uint16).tobytes())
                else:
                    self._writer.write(codes, None if scale is None else np.array([scale]))
            if self._is_live and self._writer is not None:
                self._writer.flush()

    def finish(self, num_samples: int | None) -> None:
        """Ends the file of a signal of so many samples."""
        with file_errors.as_value_error(self._path, ValueError):
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
        """Gives the file its name."""
        with file_errors.as_value_error(self._path, ValueError):
            if self._part is not None:
                self._part.commit()
            _close(self._spool)

    def abort(self) -> None:
        """Takes the file away."""
        if self._part is not None:
            self._part.abort()
        _close(self._spool)


def _spool() -> Any:
    """A temporary file, which is deleted as it is closed."""
    with file_errors.as_value_error(_TEMPORARY):
        return tempfile.TemporaryFile()


def _close(spool: Any) -> None:
    """Ends a temporary file."""
    if spool is not None:
        with contextlib.suppress(OSError):  # what was not written yet may not be writable
            spool.close()
