"""The formats of `run.py export`, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from encodec_hk.export import onnx_files
from encodec_hk.export import stablehlo_files
from encodec_hk.export import web_page

Write = Callable[..., None]
"""(codec, folder, facts, num_codebooks, **options) -> None: fill an empty folder.

`facts` are those of `model_facts`; `num_codebooks` that of --bandwidth, None if it is absent. A
codec that the format cannot hold is a ValueError of one line. `options` are those that the format
names.
"""


class ExportFormat(NamedTuple):
    """A format.

    Attributes:
      write: fills a folder.
      manifest: the file by which a folder of this format is known.
      options: names of what else `write` takes.
    """

    write: Write
    manifest: str
    options: tuple[str, ...] = ()


FORMATS = {
    "onnx": ExportFormat(onnx_files.write, onnx_files.MANIFEST),
    "stablehlo": ExportFormat(stablehlo_files.write, stablehlo_files.MANIFEST),
    "web": ExportFormat(web_page.write, web_page.MANIFEST, ("runtime", "language")),
}
