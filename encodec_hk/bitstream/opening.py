"""Starts to read or to write a file of any version."""

from __future__ import annotations

from typing import BinaryIO

from encodec_hk.bitstream import blocks
from encodec_hk.bitstream import header as header_lib
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import layout
from encodec_hk.bitstream import recovery
from encodec_hk.bitstream import transport
from encodec_hk.bitstream import version0


def open_writer(file: BinaryIO, header: header_lib.Header) -> interface.Writer:
    """Writes the header and returns a writer of what follows.

    Args:
      file: where to write, a pipe too: it is never sought in. It stays open.
      header: of version 0 or 1.

    Raises:
      ValueError: a field of the header has a value that the version does not allow.
    """
    header_lib.check(header)
    return version0.Writer(file, header) if header.version == 0 else blocks.Writer(file, header)


def open_reader(file: BinaryIO) -> interface.Reader:
    """Reads the header and returns a reader of what follows.

    Args:
      file: where to read, a pipe too; it may give fewer bytes than it is asked for. It stays open.

    Raises:
      EcdcError: it is no .ecdc file, or one that this program does not read.
    """
    source = transport.Source(file)
    prelude = source.read(layout.PRELUDE.size)
    magic = prelude[: len(layout.MAGIC)]
    if not prelude:
        raise header_lib.EcdcError("the file is empty (0 bytes)")
    if not layout.MAGIC.startswith(magic):
        raise header_lib.EcdcError(
            f"no .ecdc file: starts with {magic!r}, must be {layout.MAGIC!r}"
        )
    if len(prelude) < layout.PRELUDE.size:
        raise header_lib.EcdcError(f"cut off in its header, after {len(prelude)} bytes")
    _, version, size = layout.PRELUDE.unpack(prelude)
    if version not in header_lib.VERSIONS:
        raise header_lib.EcdcError(f"version {version}, this program reads 0 and 1")
    least, most = (1, version0.MAX_JSON) if version == 0 else layout.HEADER_SIZES
    if not least <= size <= most:
        raise header_lib.EcdcError(f"header of {size} bytes, must be {least} to {most}")
    data = source.read(size)
    if len(data) < size:
        raise header_lib.EcdcError(f"cut off in its header, after {len(data)} of {size} bytes")
    if version == 0:
        return version0.Reader(source, version0.read_header(data))
    return recovery.Reader(source, layout.read_header(prelude + data))
