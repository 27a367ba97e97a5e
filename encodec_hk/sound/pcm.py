"""Sound on pipes: raw PCM, or WAV of unknown length, read and written block by block.

Samples are float32 [T, C] with full scale at 1: T samples, C channels.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

import numpy as np

from encodec_hk.sound import truncation
from encodec_hk.system import file_errors
from encodec_hk.system import interruption

# Raw sample formats by ffmpeg's names, all little-endian: the bits of an integer, None for floats.
RAW_FORMATS: dict[str, int | None] = {"s16le": 16, "s24le": 24, "s32le": 32, "f32le": None}

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MAX_CHUNK = 1 << 16  # bytes of a header chunk
_PIECE = 1 << 20  # bytes of a read: bounds the memory, whatever rate a header claims


class Format(NamedTuple):
    """The format of raw samples."""

    sample_rate: int  # Hz
    channels: int
    raw_format: str = "s16le"  # a name of `RAW_FORMATS`

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of all channels."""
        return self.channels * (RAW_FORMATS[self.raw_format] or 32) // 8


def decode(data: bytes, raw_format: str, channels: int) -> np.ndarray:
    """Return the samples, float32 [T, C], in the bytes of whole frames."""
    bits = RAW_FORMATS[raw_format]
    if bits is None:
        return np.frombuffer(data, "<f4").reshape(-1, channels).astype(np.float32)
    stored = np.frombuffer(data, np.uint8).reshape(-1, bits // 8)  # the upper bytes of 32 bits
    values = np.pad(stored, ((0, 0), (4 - bits // 8, 0))).view("<i4")
    return (values.reshape(-1, channels) / 2.0**31).astype(np.float32)


def integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Return float samples, clipped to [-1, 1], as integers of `bits` bits in int32."""
    scale = 2.0 ** (bits - 1)
    values = np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1)
    return np.ascontiguousarray(values.astype(np.int32))


def encode(samples: np.ndarray, raw_format: str) -> bytes:
    """Return the bytes of samples [T, C]; integer formats clip them to [-1, 1]."""
    bits = RAW_FORMATS[raw_format]
    if bits is None:
        return samples.astype("<f4").tobytes()
    stored = integers(samples, bits).astype("<i4", copy=False)
    return stored.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()


def check_finite(samples: np.ndarray, start: int, sample_rate: int) -> None:
    """Check samples, float [T, C], of which the first is number `start` of its file.

    Raises:
      ValueError: if one is NaN or infinite; the message says where.
    """
    is_finite = np.isfinite(samples)
    if is_finite.all():
        return
    index, channel = np.argwhere(~is_finite)[0]
    index += start
    place = f"sample {index}" + (f" of channel {channel + 1}" if samples.shape[1] > 1 else "")
    raise ValueError(
        f"holds samples that are NaN or infinite, at {index / sample_rate:.4f} s ({place})"
    )


class PcmReader:
    """Reads PCM from a pipe as it arrives.

    Attributes:
      format: of the samples, from the caller or the WAV header; the others as of `SoundReader`.
    """

    num_samples = None  # unknown until the end
    is_exact = False

    def __init__(
        self,
        file: BinaryIO,
        format: Format | None = None,
        *,
        name: str = "stdin",
        recover: bool = False,
    ):
        """Begin to read an unbuffered file, such as stdin opened with `buffering=0`.

        Args:
          file: the pipe; `close` closes it.
          format: of raw samples; None to read the header of a WAV file.
          name: of the pipe, in messages.
          recover: read a WAV file that is cut off up to its end.

        Raises:
          ValueError: if the header is not that of a WAV file with integers or floats.
        """
        self._file = file
        self._name = name
        self._recover = recover
        self._left: int | None = None  # bytes of samples to come; None: unknown
        if format is None:
            with file_errors.as_value_error(name, ValueError):
                format, self._left = _read_header(file)
        self.format = format
        self.warnings: list[str] = []
        self.sample_rate, self.channels = format.sample_rate, format.channels
        self._rest = b""
        self._count = 0

    def read(self, size: int) -> np.ndarray:
        """Wait for samples; return 1 to `size` of them, float32 [T, C], or none at the end.

        Raises:
          CutOffError: if the pipe ends before the end that a WAV header states.
          ValueError: if a sample is NaN or infinite.
        """
        unit = self.format.frame_bytes
        data = self._rest
        while len(data) < unit:
            left = _PIECE if self._left is None else self._left
            wanted = min(size * unit - len(data), _PIECE, left)
            more = self._file.read(wanted) if wanted else b""
            if not more:  # drops an incomplete sample at the end
                self._check_end(len(data))
                data = b""
                break
            if self._left is not None:
                self._left -= len(more)
            data += more
        whole = len(data) // unit * unit
        self._rest = data[whole:]
        samples = decode(data[:whole], self.format.raw_format, self.channels)
        with file_errors.as_value_error(self._name, ValueError):
            check_finite(samples, self._count, self.sample_rate)
        self._count += len(samples)
        return samples

    def _check_end(self, size: int) -> None:
        """Report an end before that in the header, `size` bytes after the last whole sample."""
        if not self._left or interruption.is_requested():
            return
        total = self._count + (size + self._left) // self.format.frame_bytes
        where = truncation.Truncation(self._count / self.sample_rate, total / self.sample_rate)
        if not self._recover:
            raise truncation.CutOffError(f"{self._name}: cut off after {where}")
        self.warnings = [f"cut off after {where}"]

    def close(self) -> None:
        """Close the pipe."""
        self._file.close()


class PcmWriter:
    """Writes PCM into a pipe and flushes after every block."""

    def __init__(self, file: BinaryIO, format: Format, header: bool):
        """Begin to write, with a WAV header of unknown length if `header`."""
        self._file = file
        self._format = format
        if header:
            file.write(_header(format))
            file.flush()

    def write(self, samples: np.ndarray) -> None:
        """Write float [T, C]."""
        self._file.write(encode(samples, self._format.raw_format))
        self._file.flush()

    def close(self) -> None:
        """Do nothing: the pipe belongs to the process."""

    def abort(self) -> None:
        """Do nothing: bytes in a pipe cannot be taken back."""


def _header(format: Format) -> bytes:
    """Return a WAV header of unknown length, as ffmpeg writes into pipes."""
    bits = RAW_FORMATS[format.raw_format]
    rate, unit = format.sample_rate, format.frame_bytes
    kind = _FLOAT if bits is None else _PCM
    per_second = min(rate * unit, truncation.UNKNOWN)
    fmt = struct.pack("<HHIIHH", kind, format.channels, rate, per_second, unit, bits or 32)
    start = struct.pack("<4sI4s4sI", b"RIFF", truncation.UNKNOWN, b"WAVE", b"fmt ", len(fmt))
    return start + fmt + struct.pack("<4sI", b"data", truncation.UNKNOWN)


def _read_header(file: BinaryIO) -> tuple[Format, int | None]:
    """Read the format of a WAV file and the bytes of its samples, None if unknown."""
    start = _read_header_bytes(file, 12)
    if start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        raise ValueError(
            f"got {start[:4]!r}, must be a WAV or .ecdc file, or raw samples with --raw_rate"
        )
    format = None
    long_size = 0
    while True:
        name, size = struct.unpack("<4sI", _read_header_bytes(file, 8))
        if name == b"data":
            if format is None:
                raise ValueError("a WAV file with samples before their format")
            size = long_size if size == truncation.UNKNOWN else size
            return format, None if truncation.is_unknown(size) else size
        if size > _MAX_CHUNK:
            raise ValueError(f"a WAV header with {size} bytes of {name!r}")
        chunk = _read_header_bytes(file, size + size % 2)
        if name == b"fmt ":
            format = _format(chunk)
        elif name == b"ds64" and len(chunk) >= 16:  # RF64 keeps sizes of 64 bits here
            long_size = struct.unpack("<Q", chunk[8:16])[0]


def _format(chunk: bytes) -> Format:
    """Return the format that the chunk `fmt ` of a WAV file describes."""
    if len(chunk) < 16:
        raise ValueError(f"a WAV header with a format of {len(chunk)} bytes")
    kind, channels, rate, _, unit, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE and len(chunk) >= 26:
        kind = struct.unpack("<H", chunk[24:26])[0]
    names = {(_FLOAT, 32): "f32le"} | {(_PCM, n): name for name, n in RAW_FORMATS.items() if n}
    is_known = (kind, bits) in names and unit == channels * bits // 8
    if not is_known or not channels or not rate:
        raise ValueError(
            f"a WAV file of format {kind} with {bits} bits, {channels} channels in {unit} "
            f"bytes, {rate} Hz; must be integers of 16, 24 or 32 bits, or floats of 32"
        )
    return Format(rate, channels, names[kind, bits])


def _read_header_bytes(file: BinaryIO, size: int) -> bytes:
    data = _read(file, size)
    if len(data) < size:
        raise ValueError(f"ended after {len(data)} of {size} bytes of a WAV header")
    return data


def _read(file: BinaryIO, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end."""
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


class Pushback:
    """A pipe whose first bytes can be looked at before they are read."""

    def __init__(self, file: BinaryIO, size: int):
        """Fetch up to `size` bytes as `first`; `read` returns them again."""
        self._file = file
        self.first = self._rest = _read(file, size)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        data, self._rest = self._rest[:size], self._rest[size:]
        return data or self._file.read(size)

    def seekable(self) -> bool:
        """Return False: it is a pipe."""
        return False

    def close(self) -> None:
        """Do nothing: the pipe belongs to the process."""
