"""`run.py info`: what an .ecdc file contains, and whether it is complete.

All blocks are read, and none is decoded: no checkpoint is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, TextIO

from encodec_hk import bitstream
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths


class _Counts(NamedTuple):
    """Contents of a file.

    Attributes:
      blocks: number of blocks; of segments, if the variant has segments.
      frames: frames in all blocks.
      damaged: frames in damaged blocks.
      seconds: time at which the last block ends.
    """

    blocks: int
    frames: int
    damaged: int
    seconds: float


def run(variant: Any, path: str, out: TextIO | None = None) -> int:
    """Print the header of an .ecdc file, its contents and its damage.

    Args:
      variant: not used.
      path: an .ecdc file.
      out: where to print; None for stdout.

    Returns:
      The exit status: 0, even if the file is damaged.

    Raises:
      ValueError: if the file cannot be read, or is not an .ecdc file of a known version.
    """
    del variant
    with file_errors.as_value_error(path, bitstream.EcdcError), open(path, "rb") as file:
        reader = bitstream.open_reader(file)
        counts = _count(reader)
        lines = list(_lines(reader, counts, _size(file)))
    for line in [f"{file_paths.shown(path)}:", *lines]:
        print(line, file=sys.stdout if out is None else out)
    return 0


def _count(reader: bitstream.EcdcReader) -> _Counts:
    header = reader.header
    blocks = frames = damaged = 0
    seconds = 0.0
    for block in reader.blocks(recover=True):
        count = block.codes.shape[1]
        blocks += 1
        frames += count
        damaged += count if block.is_damaged else 0
        length = count * header.hop_length / header.sample_rate
        seconds = max(seconds, header.seconds(block.start_frame) + length)
    if reader.header.duration is not None:
        seconds = min(seconds, reader.header.duration)
    return _Counts(blocks, frames, damaged, seconds)


def _size(file: BinaryIO) -> int | None:
    return file.seek(0, 2) if file.seekable() else None


def _lines(reader: bitstream.EcdcReader, counts: _Counts, size: int | None) -> Iterator[str]:
    header = reader.header
    file = f".ecdc version {header.version}"
    if size is not None:
        file += f", {size:,} bytes"
    yield _line("format", file)
    yield _line("model", header.name)
    yield _line("checkpoint", header.fingerprint or "not stored: any of that model")
    channels = {1: "mono", 2: "stereo"}.get(header.channels, f"{header.channels} channels")
    length = "length unknown"
    if header.num_samples is not None:
        length = f"{header.num_samples:,} samples ({header.duration:.2f} s)"
    yield _line("signal", f"{header.sample_rate} Hz, {channels}, {length}")
    yield _line(
        "codes",
        f"{header.num_codebooks} codebooks of {header.bits} bits, a frame every "
        f"{header.hop_length} samples",
    )
    units = "blocks"
    if header.segment_length is not None:
        units = f"segments of {header.segment_length} samples, one every {header.segment_stride}"
    scales = ", each with a scale" if header.normalize else ""
    yield _line("content", f"{counts.frames:,} frames in {counts.blocks:,} {units}{scales}")
    rate = f"{header.kbps:g} kbps"
    if size is not None and counts.seconds:
        rate += f"; {size * 8 / 1000 / counts.seconds:.4g} kbps as a file"
    yield _line("bandwidth", rate)
    state, *more = list(reader.warnings) or ["complete"]
    if counts.damaged:
        more.append(f"{counts.damaged:,} of {counts.frames:,} frames are damaged")
    yield _line("state", state)
    for text in more:
        yield _line("", text)


def _line(name: str, text: str) -> str:
    return f"{name:13}{text}"
