"""Codes of version 0 that Meta's language model compresses (`"lm": true`).

The model gives the probabilities of the codes of a frame from the frames before it, and an
arithmetic coder stores the codes in as many bits as they are surprising. Both begin anew with each
segment. The length of a segment in bytes is not stored: it ends where its last code does.

The probabilities are floating-point numbers, and a single one that differs in its last bit makes
all that follows garbage. So a segment is returned only after it has been decoded to its end, and
its end fits.

Shapes: K codebooks, F frames, N entries of a codebook.
"""

from __future__ import annotations

import array
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from encodec_hk.bitstream import arithmetic_coder
from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import packing

_CODE_BYTES = 3  # the most that a code takes

Step = Callable[[np.ndarray | None], np.ndarray]
"""Returns the probabilities of a frame's codes, float32 [K, N], after the codes [K] of the frame
before it; None before the first."""


class CodePredictor(Protocol):
    """A language model of a codec's codes.

    Attributes:
      codec: name of the codec's variant.
      ways: ways to compute it, which give slightly different probabilities; the first one writes.
    """

    codec: str
    ways: Sequence[str]

    def begin(self, num_codebooks: int) -> Step:
        """Begin a segment of codes of the first codebooks."""

    def using(self, way: str) -> contextlib.AbstractContextManager[None]:
        """Compute in one of the ways within the context."""


def check_predictor(predictor: CodePredictor | None, header: headers.Header) -> CodePredictor:
    """Return the language model of a file.

    Raises:
      EcdcError: if there is none, or it is of another codec.
    """
    if predictor is None:
        raise headers.EcdcError(
            "its codes are compressed with Meta's language model (lm: true); "
            "--language=FILE names the converted model"
        )
    if predictor.codec != header.name:
        raise headers.EcdcError(
            f"made with {header.name}, the language model here is of {predictor.codec}; "
            "--language=FILE names another"
        )
    return predictor


class SegmentEncoder:
    """Compresses the codes of a segment, frame by frame."""

    def __init__(self, predictor: CodePredictor, num_codebooks: int):
        self._step = predictor.begin(num_codebooks)
        self._encoder = arithmetic_coder.ArithmeticEncoder()
        self._last: np.ndarray | None = None

    def push(self, codes: np.ndarray) -> bytes:
        """Take codes [K, F]; return the bytes that are complete."""
        for frame in codes.T:
            all_ends = arithmetic_coder.cumulative(self._step(self._last))
            for code, ends in zip(frame.tolist(), all_ends, strict=True):
                start = int(ends[code - 1]) if code else 0
                self._encoder.push(start, int(ends[code]))
            self._last = frame
        return self._encoder.take()

    def finish(self) -> bytes:
        """Return the last bytes of the segment."""
        return self._encoder.finish()


class _Decoded(NamedTuple):
    """What the bytes of a segment decode to in one way.

    Attributes:
      codes: int32 [K, F], up to where the bytes end or break.
      size: bytes read.
      problem: how they end or break; "" if all codes are right.
      is_cut: whether the bytes end too early.
    """

    codes: np.ndarray
    size: int
    problem: str = ""
    is_cut: bool = False


class Version0LanguageReader(interface.EcdcReader):
    """Reads a file of version 0 with a language model. It cannot seek, and decodes all before."""

    def __init__(
        self,
        source: interface.ByteSource,
        header: headers.Header,
        predictor: CodePredictor | None,
    ):
        super().__init__(source, header)
        assert header.num_samples is not None
        self._num_samples = header.num_samples
        self._predictor = predictor
        self._ways = [] if predictor is None else list(predictor.ways)

    def _blocks(self, start_frame: int, recover: bool, decode: bool) -> Iterator[interface.Block]:
        if not decode:
            return
        predictor = check_predictor(self._predictor, self.header)
        header, framing = self.header, self._framing
        whole = framing.segment_frames
        for segment in range(framing.num_segments(self._num_samples)):
            frames, scale = framing.frames_of(segment, self._num_samples), None
            time = self._time(segment * whole)
            if header.normalize:
                scale, _ = self._split(self._source.read(packing.SCALE.size))
                if scale is None:
                    self._break(f"cut off after {time}", recover)
                    return
                if not packing.is_scale(scale):
                    found = f"damaged segment at {time}: its scale is {scale:g}"
                    self._break(found, recover)
                    return
            decoded = self._segment(predictor, frames)
            if decoded.problem:
                known = decoded.codes.shape[1]
                where = f"segment at {time}: " if framing.has_segments else ""
                self._break(where + self._explained(decoded), recover)
                if not decoded.is_cut or not known:
                    return
            yield from self._cut_up(decoded.codes, scale, segment * whole, start_frame)
            if decoded.problem:
                return
        if surplus := len(self._source.read(2**16)):
            count = surplus if surplus < 2**16 else f"at least {surplus}"
            self._notes.append(f"{count} bytes after the end of the codes")

    def _cut_up(
        self, codes: np.ndarray, scale: float | None, position: int, start_frame: int
    ) -> Iterator[interface.Block]:
        """Return a segment, or without segments the signal in blocks of about a second."""
        step, start = self.header.frame_rate, start_frame
        if self._framing.has_segments:
            step = self._framing.segment_frames
            start = start // step * step
        for first in range(0, codes.shape[1], step):
            part = codes[:, first : first + step]
            dropped = max(start - position - first, 0)
            if part.shape[1] > dropped:
                part = np.ascontiguousarray(part[:, dropped:], np.int32)
                yield interface.Block(part, scale, position + first + dropped, False)

    def _segment(self, predictor: CodePredictor, frames: int) -> _Decoded:
        """Decode a segment in the first way that fits; the next one begins with that way."""
        most = _CODE_BYTES * frames * self.header.num_codebooks + _CODE_BYTES
        data = self._source.read(most)
        tried: list[_Decoded] = []
        for way in list(self._ways):
            with predictor.using(way):
                tried.append(_decode(predictor, data, self.header.num_codebooks, frames))
            if not tried[-1].problem:
                self._ways.remove(way)
                self._ways.insert(0, way)
                self._source.unread(data[tried[-1].size :])
                return tried[-1]
        return tried[0]

    def _explained(self, decoded: _Decoded) -> str:
        """Return a problem and its possible causes."""
        seconds = decoded.codes.shape[1] * self.header.hop_length / self.header.sample_rate
        return (
            f"{decoded.problem} {seconds:.2f} s, or written where the language model gives other "
            "probabilities: on another processor, with another PyTorch or number of threads "
            f"(tried: {', '.join(self._ways)})"
        )

    def _break(self, problem: str, recover: bool) -> None:
        """Raise an error, or with `recover` note a warning."""
        if not recover:
            raise headers.EcdcError(problem)
        self._notes.append(problem)


def _decode(predictor: CodePredictor, data: bytes, num_codebooks: int, frames: int) -> _Decoded:
    """Decode the first segment in `data`."""
    step, last = predictor.begin(num_codebooks), None
    decoder = arithmetic_coder.ArithmeticDecoder(data)
    codes = array.array("H")
    problem, is_cut = "", False
    try:
        for _ in range(frames):
            all_ends = arithmetic_coder.cumulative(step(last))
            last = np.array([decoder.pull(ends) for ends in all_ends])
            codes.extend(last.tolist())
    except EOFError:
        problem, is_cut = "cut off after", True
    except arithmetic_coder.DesynchronizedError:
        problem = "damaged at or before"
    else:
        if not decoder.is_at_end:
            problem = "damaged before"
    rows = np.frombuffer(codes, np.uint16).reshape(-1, num_codebooks)
    return _Decoded(rows.T, decoder.bytes_read, problem, is_cut)
