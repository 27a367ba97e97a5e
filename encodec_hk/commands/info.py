"""`run.py info`: all that an .ecdc file says of itself, and what state it is in.

The file is read through, block by block, and nothing is decoded: no checkpoint is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, TextIO

from encodec_hk import bitstream
from encodec_hk.system import file_paths


class Counts(NamedTuple):
    """What is in a file.

    Attributes:
      blocks: of codes; segments, where the signal is cut into them.
      frames: of all blocks, damaged ones too.
      damaged: frames of damaged blocks.
      seconds: at which the last block ends.
    """

    blocks: int
    frames: int
    damaged: int
    seconds: float


def run(config: Any, path: str, out: TextIO | None = None) -> int:
    """Prints what an .ecdc file says of itself, and what is wrong with it.

    Args:
      config: not used; every command is given one.
      path: of the file.
      out: where to print, standard output by default.

    Returns:
      0, of a damaged file too.

    Raises:
      ValueError: the file cannot be read, or is none that this program knows.
    """
    del config
    try:
        with open(path, "rb") as file:
            reader = bitstream.open_reader(file)
            counts = _count(reader)
            lines = list(_lines(reader, counts, _size(file)))
    except OSError as error:
        raise ValueError(f"{file_paths.shown(path)}: {error.strerror or error}") from error
    except bitstream.EcdcError as error:
        raise ValueError(f"{file_paths.shown(path)}: {error}") from error
    for line in [f"{file_paths.shown(path)}:", *lines]:
        print(line, file=sys.stdout if out is None else out)
    return 0


def _count(reader: bitstream.EcdcReader) -> Counts:
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
    if reader.num_samples is not None:
        seconds = min(seconds, reader.num_samples / header.sample_rate)
    return Counts(blocks, frames, damaged, seconds)


def _size(file: BinaryIO) -> int | None:
    return file.seek(0, 2) if file.seekable() else None


def _lines(reader: bitstream.EcdcReader, counts: Counts, size: int | None) -> Iterator[str]:
    header = reader.header
    channels = {1: "mono", 2: "stereo"}.get(header.channels, f"{header.channels} channels")
    yield f"format       .ecdc version {header.version}" + (
        "" if size is None else f", {size:,} bytes"
    )
    yield f"model        {header.name}"
    yield f"checkpoint   {header.fingerprint or 'any of that model: the file names none'}"
    signal = f"{header.sample_rate} Hz, {channels}"
    if reader.num_samples is None:
        yield f"signal       {signal}, length not known"
    else:
        length = reader.num_samples / header.sample_rate
        yield f"signal       {signal}, {reader.num_samples:,} samples ({length:.2f} s)"
    yield (
        f"codes        {header.num_codebooks} codebooks of {header.bits} bits, a frame every "
        f"{header.hop_length} samples"
    )
    content = f"content      {counts.frames:,} frames in {counts.blocks:,} "
    if header.segment_length is None:
        content += "blocks"
    else:
        content += f"segments of {header.segment_length} samples, one every {header.segment_stride}"
    yield content + (", each with a scale" if header.normalize else "")
    rate = f"bandwidth    {header.kbps:g} kbps"
    if size is not None and counts.seconds:
        rate += f"; {size * 8 / 1000 / counts.seconds:.4g} kbps as a file"
    yield rate
    warnings = reader.warnings
    yield f"state        {warnings[0] if warnings else 'whole'}"
    for warning in warnings[1:]:
        yield f"             {warning}"
    if counts.damaged:
        yield f"             {counts.damaged:,} of {counts.frames:,} frames are damaged"
