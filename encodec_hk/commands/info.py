"""`run.py info`: what an .ecdc file contains, and whether it is complete.

All blocks are read, and none is decoded: no checkpoint is needed.
"""

from __future__ import annotations

import sys
from typing import Any, BinaryIO, TextIO

from encodec_hk import bitstream
from encodec_hk.system import file_errors
from encodec_hk.system import file_paths
from encodec_hk.transcode import stdio


def run(variant: Any, path: str, out: TextIO | None = None) -> int:
    """Print the header of an .ecdc file, its contents and its damage; no variant is needed.

    Args:
      variant: ignored.
      path: the file, or "-" for stdin.
      out: where to print; None for stdout.

    Returns:
      The exit status: 0 if the file is complete, or cannot be checked without a language model;
      else 1.

    Raises:
      ValueError: if the file cannot be read, or is not an .ecdc file of a known version.
    """
    del variant
    is_stdin = path == stdio.NAME
    named = sys.stdin.fileno() if is_stdin else path
    with (
        file_errors.as_value_error(path, bitstream.EcdcError),
        open(named, "rb", closefd=not is_stdin) as file,
    ):
        lines, is_complete = _lines(file)
    print(f"{file_paths.shown(path)}:", file=out)
    for name, text in lines:
        print(f"{name:13}{text}", file=out)
    return 0 if is_complete else 1


def _lines(file: BinaryIO) -> tuple[list[tuple[str, str]], bool]:
    """Return the names and texts of the lines about a file, and whether it is complete."""
    reader = bitstream.open_reader(file)
    num_blocks = frames = damaged = 0
    end = 0.0  # seconds, of the last block
    for block in reader.blocks(recover=True, decode=False):
        count = block.codes.shape[1]
        num_blocks += 1
        frames += count
        damaged += count if block.is_damaged else 0
        seconds = count * reader.header.hop_length / reader.header.sample_rate
        end = max(end, reader.header.seconds(block.start_frame) + seconds)
    header = reader.header
    needs_model = header.lm
    if needs_model:
        end = header.duration or 0.0
    channels = {1: "mono", 2: "stereo"}.get(header.channels, f"{header.channels} channels")
    length = "length unknown"
    if header.duration is not None:
        end = min(end, header.duration)
        length = f"{header.num_samples:,} samples ({header.duration:.2f} s)"
    units = "blocks"
    if header.segment_length is not None:
        units = f"segments of {header.segment_length} samples, one every {header.segment_stride}"
    scales = ", each with a scale" if header.normalize else ""
    version, rate = f".ecdc version {header.version}", f"{header.kbps:g} kbps"
    if file.seekable():
        size = file.seek(0, 2)
        version += f", {size:,} bytes"
        rate += f"; {size * 8 / 1000 / end:.4g} kbps as a file" if end else ""
    codes = (
        f"{header.num_codebooks} codebooks of {header.bits} bits, a frame every "
        f"{header.hop_length} samples"
    )
    content = f"{frames:,} frames in {num_blocks:,} {units}{scales}"
    if needs_model:
        content = "not read: needs the language model"
    state, *more = list(reader.warnings) or ["not checked" if needs_model else "complete"]
    if damaged:
        more.append(f"{damaged:,} of {frames:,} frames are damaged")
    lines = [
        ("format", version),
        ("model", header.name),
        ("checkpoint", header.fingerprint or "not stored: any of that model"),
        ("signal", f"{header.sample_rate} Hz, {channels}, {length}"),
        ("codes", codes),
        ("content", content),
        ("bandwidth", rate),
        *_language(reader),
        ("state", state),
        *(("", text) for text in more),
    ]
    return lines, not reader.warnings


def _language(reader: bitstream.EcdcReader) -> list[tuple[str, str]]:
    """Return the line about the language model of a file, if it has one."""
    if reader.header.lm:
        return [("language", "model of Meta's")]
    if reader.header.language is None:
        return []
    coded, plain = reader.coded_bytes, reader.plain_bytes
    saved = f"; {coded:,} instead of {plain:,} bytes of codes" if plain else ""
    if plain:
        saved += f", {100 * (1 - coded / plain):.1f} % saved"
    return [("language", f"model {reader.header.language}{saved}")]
