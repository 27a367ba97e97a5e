"""Version 0: the files of Meta's `encodec` (`encodec.binary`, `encodec.compress`), byte for byte.

The codes of a signal, or of each segment, are consecutive bits: frame after frame, in a frame
codebook after codebook. The scale of a segment comes before its codes. The format has no
checksums: of damage, only a file that ends too early shows.

Shapes: K codebooks, F frames.
"""

from __future__ import annotations

import bisect
import collections
import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn

import numpy as np

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import packing
from encodec_hk.bitstream import transport

MAX_JSON = 2**16  # bytes; Meta's writer needs less than 100

_FIELDS: dict[str, tuple[type, str]] = {
    "m": (str, "a model's name"),
    "al": (int, "a whole number of samples"),
    "nc": (int, "a whole number of codebooks"),
    "lm": (bool, "true or false"),
}
_SCALE = struct.Struct("!f")


class Version0Writer(interface.EcdcWriter):
    """Writes a file of version 0."""

    def __init__(self, file: BinaryIO, header: headers.Header):
        super().__init__(file, header)
        assert header.num_samples is not None
        fields = {
            "m": header.name,
            "al": int(header.num_samples),
            "nc": int(header.num_codebooks),
            "lm": False,
        }
        text = json.dumps(fields).encode()
        self._put(b"ECDC" + struct.pack("!BI", 0, len(text)) + text)
        self._segment = 0
        self._rest = np.zeros(0, np.int32)  # codes that do not fill whole bytes yet

    def _write(self, codes: np.ndarray, scale: float | None) -> None:
        header = self.header
        if header.segment_frames is not None:
            self._check_segment(codes.shape[1])
            scale_bytes = b"" if scale is None else _SCALE.pack(scale)
            packed = packing.pack(codes.T.reshape(1, -1), header.bits)
            self._put(scale_bytes + packed.tobytes())
            self._segment += 1
            return
        frames, total = self._frames + codes.shape[1], header.num_frames
        if total is not None and frames > total:
            raise ValueError(f"codes: got {frames} frames, must be at most {total}")
        self._frames = frames
        codes = np.concatenate([self._rest, codes.T.reshape(-1)])
        whole = len(codes) - len(codes) % packing.whole_bytes(header.bits)
        self._rest = codes[whole:]
        self._put(packing.pack(codes[None, :whole], header.bits).tobytes())

    def _check_segment(self, frames: int) -> None:
        if self._segment >= (self.header.num_segments or 0):
            raise ValueError(f"codes: got more segments than the {self._segment} of the header")
        expected = self.header.frames_of(self._segment)
        if frames != expected:
            raise ValueError(
                f"codes: got {frames} frames, segment {self._segment} must have {expected}"
            )

    def flush(self) -> None:
        """Flush the file; codes that do not fill whole bytes wait."""
        self._file.flush()

    def _finish(self, num_samples: int | None) -> None:
        header = self.header
        if num_samples != header.num_samples:
            raise ValueError(
                f"num_samples: got {num_samples}, must be {header.num_samples} as in the header"
            )
        if header.segment_frames is None:
            got, total, unit = self._frames, header.num_frames, "frames"
        else:
            got, total, unit = self._segment, header.num_segments, "segments"
        if got != total:
            raise ValueError(f"finish: got {got} {unit}, {num_samples} samples have {total}")
        self._put(packing.pack(self._rest[None], header.bits).tobytes())
        self._file.flush()


class Version0Reader(interface.EcdcReader):
    """Reads a file of version 0."""

    def __init__(self, source: transport.ByteSource, header: headers.Header):
        super().__init__(source, header)
        self._total = header.num_frames or 0
        self._num_segments = header.num_segments
        self._whole = header.segment_frames or 0  # frames of a full segment
        if source.size is not None:
            surplus = source.size - self._start - self._size()
            if surplus > 0:
                self._notes.append(f"{surplus} bytes after the end of the codes")

    def _bytes_of(self, frames: int) -> int:
        return packing.num_bytes(frames * self.header.num_codebooks, self.header.bits)

    def _offset(self, segment: int) -> int:
        """Return the bytes from the first segment to this one; only the last ones are shorter."""
        header = self.header
        whole = min(segment, header.whole_segments)
        scale = _SCALE.size if header.normalize else 0
        size = whole * (scale + self._bytes_of(self._whole))
        for short in range(whole, segment):
            size += scale + self._bytes_of(header.frames_of(short))
        return size

    def _size(self) -> int:
        """Return the bytes of all codes and scales."""
        if self._num_segments is not None:
            return self._offset(self._num_segments)
        return self._bytes_of(self._total)

    def _blocks(self, start_frame: int, recover: bool) -> Iterator[interface.Block]:
        size = self._source.size
        if size is not None and size < self._start + self._size() and not recover:
            self._cut(self._frame_at(size - self._start))
        if self._num_segments is None:
            yield from self._read_frames(start_frame, recover)
        else:
            yield from self._read_segments(start_frame // self._whole, self._num_segments, recover)

    def _read_frames(self, start_frame: int, recover: bool) -> Iterator[interface.Block]:
        header, total = self.header, self._total
        if start_frame >= total:
            return
        # Eight frames fill whole bytes at any width.
        frame = start_frame // 8 * 8
        step = -(-header.frame_rate // 8) * 8
        self._pass_over(self._bytes_of(frame))
        while frame < total:
            frames = min(step, total - frame)
            data = self._source.read(self._bytes_of(frames))
            whole = min(frames, len(data) * 8 // (header.num_codebooks * header.bits))
            first = max(start_frame, frame)
            if frame + whole > first:
                codes = self._unpack(data, whole)[:, first - frame :]
                yield interface.Block(codes, None, first, False)
            frame += whole
            if whole < frames:
                self._cut(frame, recover)
                return

    def _read_segments(self, start: int, stop: int, recover: bool) -> Iterator[interface.Block]:
        header = self.header
        if start >= stop:
            return
        self._pass_over(self._offset(start))
        for index in range(start, stop):
            position, frames = index * self._whole, header.frames_of(index)
            scale = None
            if header.normalize:
                data = self._source.read(_SCALE.size)
                scale = _SCALE.unpack(data)[0] if len(data) == _SCALE.size else 1.0
            data = self._source.read(self._bytes_of(frames))
            whole = min(frames, len(data) * 8 // (header.num_codebooks * header.bits))
            if scale is None or interface.is_scale(scale):
                if whole:
                    yield interface.Block(self._unpack(data, whole), scale, position, False)
            else:
                problem = f"damaged segment at {self._time(position)}: its scale is {scale:g}"
                if not recover:
                    raise headers.EcdcError(f"{problem}; --recover replaces it by silence")
                self._notes.append(problem)
                zeros = np.zeros((header.num_codebooks, whole), np.int32)
                yield interface.Block(zeros, None, position, True)
            if whole < frames:
                self._cut(position + whole, recover)
                return

    def _unpack(self, data: bytes, frames: int) -> np.ndarray:
        count = frames * self.header.num_codebooks
        codes = packing.unpack(data, self.header.bits, count)
        return np.ascontiguousarray(codes.reshape(frames, -1).T)

    def _pass_over(self, count: int) -> None:
        if self._source.is_seekable:
            self._source.seek(self._start + count)
        else:
            self._source.skip(count)

    def _frame_at(self, size: int) -> int:
        """Return the position after the last whole frame in the first `size` bytes."""
        frame_bits = self.header.num_codebooks * self.header.bits
        if self._num_segments is None:
            return size * 8 // frame_bits
        segment = bisect.bisect_right(range(1, self._num_segments), size, key=self._offset)
        rest = size - self._offset(segment) - (_SCALE.size if self.header.normalize else 0)
        return segment * self._whole + max(0, rest) * 8 // frame_bits

    def _cut(self, frame: int, recover: bool = False) -> None:
        header = self.header
        seconds = header.seconds(frame)
        if header.segment_frames is not None:
            seconds += frame % header.segment_frames * header.hop_length / header.sample_rate
        problem = f"cut off after {seconds:.2f} s of {header.duration:.2f} s"
        if not recover:
            raise headers.EcdcError(f"{problem}; --recover decodes up to there")
        self._notes.append(problem)


def read_header(data: bytes) -> headers.Header:
    """Read the JSON header.

    Raises:
      EcdcError: if it is not a valid header, or of a file that this program does not read.
    """
    try:
        # Deep nesting raises RecursionError; thousands of digits raise ValueError.
        fields = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, headers.EcdcError):
            raise
        raise headers.EcdcError(f"header: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise headers.EcdcError(f"header: got {headers.shown(fields)}, must be a JSON object")
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise headers.EcdcError(
            f"header: missing {', '.join(missing)}; must have {', '.join(_FIELDS)}"
        )
    for name, (kind, allowed) in _FIELDS.items():
        if type(fields[name]) is not kind:  # isinstance takes a bool for an int
            raise headers.EcdcError(
                f"header: {name}: got {headers.shown(fields[name])}, must be {allowed}"
            )
    try:
        header = headers.meta_header(fields["m"], fields["nc"], fields["al"])
    except ValueError as error:
        raise headers.EcdcError(f"header: {error}") from error
    if fields["lm"]:
        raise headers.EcdcError(
            "written with the language model (lm: true); this program reads only files without it"
        )
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0]
        raise headers.EcdcError(f"header: {headers.shown(twice)} occurs twice")
    return fields


def _refuse(constant: str) -> NoReturn:
    raise headers.EcdcError(f"header: got {constant}, must be JSON")
