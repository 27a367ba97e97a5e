"""Codes in .ecdc files, read and written block by block; numpy alone.

    with open(path, "wb") as file:
        writer = bitstream.open_writer(file, header)
        writer.write(codes)
        writer.finish(num_samples)

    with open(path, "rb") as file:
        for block in bitstream.open_reader(file).blocks(): ...

Version 0 is Meta's format, version 1 that of this project.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from encodec_hk.bitstream import headers
from encodec_hk.bitstream import interface
from encodec_hk.bitstream import version0
from encodec_hk.bitstream import version0_language
from encodec_hk.bitstream import version1_layout
from encodec_hk.bitstream import version1_reader
from encodec_hk.bitstream import version1_writer
from encodec_hk.bitstream.headers import META_MODELS
from encodec_hk.bitstream.headers import EcdcError
from encodec_hk.bitstream.headers import Header
from encodec_hk.bitstream.headers import meta_header
from encodec_hk.bitstream.interface import Block
from encodec_hk.bitstream.interface import EcdcReader
from encodec_hk.bitstream.interface import EcdcWriter
from encodec_hk.bitstream.interface import EntropyCoder
from encodec_hk.bitstream.version0_language import CodePredictor
from encodec_hk.bitstream.version0_language import check_predictor

__all__ = [
    "META_MODELS",
    "Block",
    "CodePredictor",
    "EcdcError",
    "EcdcReader",
    "EcdcWriter",
    "EntropyCoder",
    "Header",
    "check_predictor",
    "meta_header",
    "open_reader",
    "open_writer",
]


def open_writer(
    file: BinaryIO,
    header: Header,
    *,
    predictor: CodePredictor | None = None,
    coder: EntropyCoder | None = None,
) -> EcdcWriter:
    """Write the header to a file or pipe, which stays open, and return a writer for the codes.

    Args:
      file: where to write.
      header: what to write.
      predictor: Meta's language model, which a header with `lm` needs (version 0).
      coder: the one of the language model that the header names, if any (version 1).

    Raises:
      ValueError: if the version does not allow the value of a field, or the language model is not
        that of the header.
    """
    headers.check(header)
    if header.language != (None if coder is None else coder.fingerprint):
        raise ValueError(f"coder: got another than that of the header, {header.language}")
    if coder is not None and header.num_codebooks > coder.max_codebooks:
        allowed = f"at most {coder.max_codebooks} with this language model"
        raise ValueError(f"num_codebooks: got {header.num_codebooks}, must be {allowed}")
    if header.version == 0:
        return version0.Version0Writer(file, header, predictor)
    return version1_writer.Version1Writer(file, header, coder)


def open_reader(
    file: BinaryIO,
    *,
    predictor: CodePredictor | None = None,
    coder: Callable[[Header], EntropyCoder] | None = None,
) -> EcdcReader:
    """Read the header of a file or pipe, which stays open, and return a reader of the codes.

    Args:
      file: what to read.
      predictor: Meta's language model, for codes that it compresses (`Header.lm`, version 0).
      coder: returns the coder of the language model that a header names (version 1), or raises
        ValueError. It is called before the first block that needs it. Without it, such blocks
        cannot be read.

    Raises:
      EcdcError: if it is not an .ecdc file, or not one that this program reads.
    """
    source = interface.ByteSource(file)
    prelude = source.read(version1_layout.PRELUDE.size)
    magic = prelude[: len(version1_layout.MAGIC)]
    if not prelude:
        raise EcdcError("the file is empty (0 bytes)")
    if not version1_layout.MAGIC.startswith(magic):
        raise EcdcError(f"no .ecdc file: starts with {magic!r}, must be {version1_layout.MAGIC!r}")
    if len(prelude) < version1_layout.PRELUDE.size:
        raise EcdcError(f"cut off in its header, after {len(prelude)} bytes")
    _, version, size = version1_layout.PRELUDE.unpack(prelude)
    if version not in headers.VERSIONS:
        raise EcdcError(f"version {version}, this program reads 0 and 1")
    least, most = (1, version0.MAX_JSON) if version == 0 else version1_layout.HEADER_SIZES
    if not least <= size <= most:
        raise EcdcError(f"header of {size} bytes, must be {least} to {most}")
    data = source.read(size)
    if len(data) < size:
        raise EcdcError(f"cut off in its header, after {len(data)} of {size} bytes")
    if version == 0:
        header = version0.read_header(data)
        if header.lm:
            return version0_language.Version0LanguageReader(source, header, predictor)
        return version0.Version0Reader(source, header)
    layout = version1_layout.read_header(prelude + data)
    return version1_reader.Version1Reader(source, layout, coder)
