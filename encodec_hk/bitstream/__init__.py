"""Codes in .ecdc files, read and written block by block.

    with open(path, "wb") as file:
        writer = bitstream.open_writer(file, header)
        writer.write(codes)
        writer.finish(num_samples)

    with open(path, "rb") as file:
        for block in bitstream.open_reader(file).blocks(): ...

Modules:
  versions: opens a file of any version.
  interface: what readers and writers of all versions have in common.
  headers: what a file states about its codes.
  version0: Meta's format.
  version1_layout, version1_writer, version1_reader: the format of this project.
  packing: codes as bits.
  transport: bytes of a file or a pipe.
"""

from encodec_hk.bitstream.headers import META_MODELS
from encodec_hk.bitstream.headers import EcdcError
from encodec_hk.bitstream.headers import Header
from encodec_hk.bitstream.headers import MetaModel
from encodec_hk.bitstream.headers import meta_header
from encodec_hk.bitstream.interface import Block
from encodec_hk.bitstream.interface import EcdcReader
from encodec_hk.bitstream.interface import EcdcWriter
from encodec_hk.bitstream.versions import open_reader
from encodec_hk.bitstream.versions import open_writer

__all__ = [
    "META_MODELS",
    "Block",
    "EcdcError",
    "Header",
    "MetaModel",
    "EcdcReader",
    "EcdcWriter",
    "meta_header",
    "open_reader",
    "open_writer",
]
