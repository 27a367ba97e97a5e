"""Errors of files as one line: "PATH: REASON"."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from encodec_hk.system import file_paths


def reason(error: Exception) -> str:
    """Return what an error of the system, of libsndfile or of Python says, in one line."""
    text = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).rstrip(".")


def first_line(error: Exception) -> str:
    """Return the first 200 characters of a message's first line, or the type if it is empty."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]


@contextlib.contextmanager
def as_value_error(path: str | os.PathLike[str], *kinds: type[Exception]) -> Iterator[None]:
    """Turn OSError, and errors of other kinds, into a ValueError "PATH: REASON".

    BrokenPipeError passes through: its reader left, and the file is not at fault.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, BrokenPipeError) or not isinstance(error, (OSError, *kinds)):
            raise
        raise ValueError(f"{file_paths.shown(path)}: {reason(error)}") from error
