"""Codes in files: .ecdc, read and written block by block.

    with open(path, "wb") as file:
        writer = bitstream.open_writer(file, header)
        writer.write(codes)
        writer.finish(num_samples)

    with open(path, "rb") as file:
        for block in bitstream.open_reader(file).blocks(): ...

`header` is what a file says of its codes, `interface` what readers and writers do, `opening` picks
one. `version0` is Meta's format; of ours, `layout` has the bytes, `blocks` writes and `recovery`
reads. `packing` packs codes into bits, and `transport` is the way to a file or a pipe. Any JAX
or audio is the caller's.
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
