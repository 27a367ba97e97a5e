"""Data sets of codes: made from any amount of audio, and read by those who train on them.

from encodec_hk import tokens

rows = tokens.open("OUT")
crops = rows.crops(750, seed=0)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from encodec_hk.system import extras

if TYPE_CHECKING:
    from encodec_hk.tokens import token_rows


def open(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], **settings: Any
) -> token_rows.TokenRows:
    """Open a data set of codes.

    Args:
      path: the OUT of `run.py tokenize`, another folder of Parquet files, a file, a glob, a URL of
        these by fsspec, or a list.
      **settings: keyword arguments of `token_rows.TokenRows`.

    Raises:
      ValueError: if pyarrow is not installed, there are no files, one cannot be read, or they are
        not of one checkpoint and number of codebooks.
    """
    extras.require("pyarrow", "tokens")
    # Imported here: the patterns need no pyarrow.
    from encodec_hk.tokens import token_rows

    several = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    paths = dict.fromkeys(file for each in several for file in token_rows.find(each))
    return token_rows.TokenRows(list(paths), **settings)
