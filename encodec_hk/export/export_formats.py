"""The formats of `run.py export`, by name."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import encodec_hk
from encodec_hk.export import onnx_files
from encodec_hk.export import stablehlo_files

Write = Callable[[encodec_hk.Codec, pathlib.Path, dict[str, Any], int | None], None]
"""(codec, folder, facts, num_codebooks) -> None: fill an empty folder.

`facts` are those of `model_facts`; `num_codebooks` that of --bandwidth, None if it is absent. A
codec that the format cannot hold is a ValueError of one line.
"""


class ExportFormat(NamedTuple):
    """A format.

    Attributes:
      write: fills a folder.
      manifest: the file by which a folder of this format is known.
    """

    write: Write
    manifest: str


FORMATS = {
    "onnx": ExportFormat(onnx_files.write, onnx_files.MANIFEST),
    "stablehlo": ExportFormat(stablehlo_files.write, stablehlo_files.MANIFEST),
}
