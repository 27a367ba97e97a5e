"""A journal of finished work, from which the next run continues."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Any


def key_of(*parts: Any) -> str:
    """Return 32 hexadecimal digits for all that a result depends on, of types that JSON holds."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Entries by key, in a file with a JSON object per line: {"key": ..., the entry's fields}.

    A damaged line, such as the last one after a power cut, is ignored. A later entry replaces an
    earlier one with the same key. Entries are never removed, so a model may return after others.
    """

    def __init__(self, path: pathlib.Path):
        """Open a journal, or create it; raise ValueError if it cannot be read or written."""
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            self._file = path.open("a+b")
            self._file.seek(0)
            data = self._file.read()
            if data and not data.endswith(b"\n"):
                self._file.write(b"\n")
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from error
        for line in data.splitlines():
            try:
                entry = json.loads(line)
                self._entries[entry.pop("key")] = entry
            except (ValueError, KeyError, AttributeError, TypeError):
                continue

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the entry of a key, or None."""
        return self._entries.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Write an entry to the file at once."""
        line = json.dumps({"key": key, **entry}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._entries[key] = entry

    def close(self) -> None:
        """Close the file."""
        self._file.close()
