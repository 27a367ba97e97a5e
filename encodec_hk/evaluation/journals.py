"""What a run has finished, line by line, so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any

Entry = dict[str, Any]


def key_of(*parts: Any) -> str:
    """A name, 32 hexadecimal digits, of all that a result depends on: anything JSON can hold."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal:
    """Entries by key, in a file of a JSON object a line: {"key": ..., and the entry's own}.

    A line that is no such object, such as the last one after a power cut, counts as not written. Of
    two with one key the later counts. Entries with keys that nobody asks for stay: a model that
    comes back finds them.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens a journal, which is made where there is none.

        Raises:
          ValueError: it cannot be read or written.
        """
        self._entries: dict[str, Entry] = {}
        path = pathlib.Path(path)
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

    def get(self, key: str) -> Entry | None:
        """The entry of a key, None where there is none."""
        return self._entries.get(key)

    def add(self, key: str, entry: Entry) -> None:
        """Writes an entry, at once."""
        line = json.dumps({"key": key, **entry}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._entries[key] = entry

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
