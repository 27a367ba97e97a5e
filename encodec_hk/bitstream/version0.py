"""Version 0: the files of Meta's `encodec` (`encodec.binary`, `encodec.compress`), byte for byte.

The codes of a signal, or of each segment, are consecutive bits: frame after frame, in a frame
codebook after codebook. The scale of a segment comes before its codes. The format has no
checksums: of damage, only a file that ends too early shows. `version0_language` is about files
whose codes a language model compresses.

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
from encodec_hk.bitstream import version0_language

MAX_JSON = 2**16  # bytes; Meta's writer needs less than 100

_FIELDS: dict[str, tuple[type, str]] = {
    "m": (str, "a model's name"),
    "al": (int, "a whole number of samples"),
    "nc": (int, "a whole number of codebooks"),
    "lm": (bool, "true or false"),
}
# Fields of a fork's files with a language model, its coder's version and precision.
_FORK = ("acv", "tau")


class Version0Writer(interface.EcdcWriter):
    """Writes a file of version 0."""

    def __init__(
        self,
        file: BinaryIO,
        header: headers.Header,
        predictor: version0_language.CodePredictor | None = None,
    ):
        super().__init__(file, header)
        assert header.num_samples is not None
        self._predictor = (
            version0_language.check_predictor(predictor, header) if header.lm else None
        )
        self._segment_coder = self._begin_segment()
        self._num_samples = int(header.num_samples)
        fields = {"m": header.name, "al": self._num_samples, "nc": int(header.num_codebooks)}
        text = json.dumps({**fields, "lm": bool(header.lm)}).encode()
        self._put(b"ECDC" + struct.pack("!BI", 0, len(text)) + text)
        self._segment = 0

    def _begin_segment(self) -> _Packer | version0_language.SegmentEncoder:
        if self._predictor is None:
            return _Packer(self.header.bits)
        return version0_language.SegmentEncoder(self._predictor, self.header.num_codebooks)

    def _write(self, codes: np.ndarray, scale: float | None) -> None:
        if self._framing.has_segments:
            if self._segment >= self._framing.num_segments(self._num_samples):
                raise ValueError(f"codes: got more segments than the {self._segment} of the header")
            got = codes.shape[1]
            expected = self._framing.frames_of(self._segment, self._num_samples)
            if got != expected:
                unit = f"segment {self._segment}"
                raise ValueError(f"codes: got {got} frames, {unit} must have {expected}")
            start = b"" if scale is None else packing.SCALE.pack(scale)
            self._put(start + self._segment_coder.push(codes) + self._segment_coder.finish())
            self._segment_coder = self._begin_segment()
            self._segment += 1
            return
        frames = self._frames + codes.shape[1]
        total = self._framing.num_frames(self._num_samples)
        if frames > total:
            raise ValueError(f"codes: got {frames} frames, must be at most {total}")
        self._frames = frames
        self._put(self._segment_coder.push(codes))

    def flush(self) -> None:
        """Flush the file; codes that do not fill whole bytes wait."""
        self._file.flush()

    def _finish(self, num_samples: int | None) -> None:
        stated = self._num_samples
        if num_samples != stated:
            raise ValueError(f"num_samples: got {num_samples}, must be {stated} as in the header")
        got, total, unit = self._frames, self._framing.num_frames(stated), "frames"
        if self._framing.has_segments:
            got, total, unit = self._segment, self._framing.num_segments(stated), "segments"
        if got != total:
            raise ValueError(f"finish: got {got} {unit}, {num_samples} samples have {total}")
        self._put(self._segment_coder.finish())


class _Packer:
    """Packs the codes of a segment."""

    def __init__(self, bits: int):
        self._bits = bits
        self._rest = np.zeros(0, np.int32)  # codes that do not fill whole bytes yet

    def push(self, codes: np.ndarray) -> bytes:
        """Take codes [K, F]; return the bytes that are complete."""
        codes = np.concatenate([self._rest, codes.T.reshape(-1)])
        whole = len(codes) - len(codes) % packing.whole_bytes(self._bits)
        self._rest = codes[whole:]
        return packing.pack(codes[None, :whole], self._bits).tobytes()

    def finish(self) -> bytes:
        """Return the last bytes of the segment."""
        return packing.pack(self._rest[None], self._bits).tobytes()


class Version0Reader(interface.EcdcReader):
    """Reads a file of version 0. Without segments, the signal is one segment."""

    def __init__(self, source: interface.ByteSource, header: headers.Header):
        super().__init__(source, header)
        assert header.num_samples is not None
        self._num_samples = header.num_samples
        self._num_segments = self._framing.num_segments(header.num_samples)
        self._size = self._offset(self._num_segments)  # bytes of all codes and scales
        surplus = (source.size or 0) - self._start - self._size
        if surplus > 0:
            self._notes.append(f"{surplus} bytes after the end of the codes")

    def _offset(self, segment: int) -> int:
        """Return the bytes from the first segment to this one."""
        size_of, full = self.header.payload_size, self._framing.num_full(self._num_samples)
        shorter = (self._framing.frames_of(i, self._num_samples) for i in range(full, segment))
        return min(segment, full) * size_of(self._framing.segment_frames) + sum(
            map(size_of, shorter)
        )

    def _blocks(self, start_frame: int, recover: bool, decode: bool) -> Iterator[interface.Block]:
        header, whole, size = self.header, self._framing.segment_frames, self._source.size
        if size is not None and size < self._start + self._size and not recover:
            self._cut(self._frame_at(size - self._start))
        # Eight frames fill whole bytes at any width.
        unit, step = 8, -(-header.frame_rate // 8) * 8
        if self._framing.has_segments:
            unit = step = whole
            start_frame = start_frame // whole * whole
        first, stop = start_frame // unit * unit, header.end_frame or 0
        if start_frame >= stop:
            return
        offset = self._offset(first // whole) + first % whole * header.frame_bits // 8
        self._source.seek(self._start + offset)
        for position in range(first, stop, step):
            segment, before = divmod(position, whole)
            frames = min(step, self._framing.frames_of(segment, self._num_samples) - before)
            scale, data = self._split(self._source.read(header.payload_size(frames)))
            found = min(frames, self._frames_in(len(data)))
            if scale is not None and not packing.is_scale(scale):
                problem = f"damaged segment at {self._time(position)}: its scale is {scale:g}"
                if not recover:
                    raise headers.EcdcError(f"{problem}; --recover replaces it by silence")
                self._notes.append(problem)
                zeros = np.zeros((header.num_codebooks, found), np.int32)
                yield interface.Block(zeros, None, position, True)
            elif found > (dropped := max(start_frame - position, 0)):
                codes = self._unpack(data, found)[:, dropped:]
                yield interface.Block(codes, scale, position + dropped, False)
            if found < frames:
                self._cut(position + found, recover)
                return

    def _frame_at(self, size: int) -> int:
        """Return the position after the last whole frame in the first `size` bytes."""
        segment = bisect.bisect_right(range(1, self._num_segments), size, key=self._offset)
        rest = size - self._offset(segment)
        rest -= packing.SCALE.size if self.header.normalize else 0
        return segment * self._framing.segment_frames + self._frames_in(max(0, rest))

    def _cut(self, frame: int, recover: bool = False) -> None:
        segment, rest = divmod(frame, self._framing.segment_frames)
        samples = segment * self._framing.stride + rest * self._framing.hop
        seconds = samples / self.header.sample_rate
        problem = f"cut off after {seconds:.2f} s of {self.header.duration:.2f} s"
        if not recover:
            raise headers.EcdcError(f"{problem}; --recover decodes up to there")
        self._notes.append(problem)


def read_header(data: bytes) -> headers.Header:
    """Read the JSON header.

    Raises:
      EcdcError: if it is not a valid header, or of a file that this program does not read.
    """
    try:
        fields = _json_fields(data)
        header = headers.meta_header(fields["m"], fields["nc"], fields["al"], fields["lm"])
    except ValueError as error:
        raise headers.EcdcError(f"header: {error}") from error
    if header.lm and (foreign := [name for name in _FORK if name in fields]):
        raise headers.EcdcError(
            f"header: got {', '.join(foreign)}: written by a fork of encodec whose arithmetic "
            "coder is another one; this program reads files of Meta's own"
        )
    return header


def _json_fields(data: bytes) -> dict[str, Any]:
    """Return the fields of the JSON header; raises ValueError if one is missing or wrong."""
    try:
        # Deep nesting raises RecursionError; thousands of digits raise ValueError.
        fields = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except headers.EcdcError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"got {headers.shown(fields)}, must be a JSON object")
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}; must have {', '.join(_FIELDS)}")
    for name, (kind, allowed) in _FIELDS.items():
        if type(fields[name]) is not kind:  # isinstance takes a bool for an int
            raise ValueError(f"{name}: got {headers.shown(fields[name])}, must be {allowed}")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice, _ = collections.Counter(name for name, _ in pairs).most_common(1)[0]
        raise headers.EcdcError(f"{headers.shown(twice)} occurs twice")
    return fields


def _refuse(constant: str) -> NoReturn:
    raise headers.EcdcError(f"got {constant}, must be JSON")
