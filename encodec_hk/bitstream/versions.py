"""Open a file of any version, to read or to write."""

from __future__ import annotations

from typing import BinaryIO

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import transport
from encodec_hk.bitstream import version0
from encodec_hk.bitstream import version1_layout
from encodec_hk.bitstream import version1_reader
from encodec_hk.bitstream import version1_writer


def open_writer(file: BinaryIO, header: headers.Header) -> interface.EcdcWriter:
    """Write the header and return a writer for the codes.

    Args:
      file: a binary file or pipe, which stays open.
      header: a header of version 0 or 1.

    Raises:
      ValueError: if the version does not allow the value of a field.
    """
    headers.check(header)
    if header.version == 0:
        return version0.Version0Writer(file, header)
    return version1_writer.Version1Writer(file, header)


def open_reader(file: BinaryIO) -> interface.EcdcReader:
    """Read the header and return a reader of the codes.

    Args:
      file: a binary file or pipe, which stays open.

    Raises:
      EcdcError: if it is not an .ecdc file, or not one that this program reads.
    """
    source = transport.ByteSource(file)
    prelude = source.read(version1_layout.PRELUDE.size)
    magic = prelude[: len(version1_layout.MAGIC)]
    if not prelude:
        raise headers.EcdcError("the file is empty (0 bytes)")
    if not version1_layout.MAGIC.startswith(magic):
        raise headers.EcdcError(
            f"no .ecdc file: starts with {magic!r}, must be {version1_layout.MAGIC!r}"
        )
    if len(prelude) < version1_layout.PRELUDE.size:
        raise headers.EcdcError(f"cut off in its header, after {len(prelude)} bytes")
    _, version, size = version1_layout.PRELUDE.unpack(prelude)
    if version not in headers.VERSIONS:
        raise headers.EcdcError(f"version {version}, this program reads 0 and 1")
    least, most = (1, version0.MAX_JSON) if version == 0 else version1_layout.HEADER_SIZES
    if not least <= size <= most:
        raise headers.EcdcError(f"header of {size} bytes, must be {least} to {most}")
    data = source.read(size)
    if len(data) < size:
        raise headers.EcdcError(f"cut off in its header, after {len(data)} of {size} bytes")
    if version == 0:
        return version0.Version0Reader(source, version0.read_header(data))
    return version1_reader.Version1Reader(source, version1_layout.read_header(prelude + data))
