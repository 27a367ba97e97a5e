"""Bytes in and out of a file that may be a pipe."""

from __future__ import annotations

from typing import BinaryIO

_CHUNK = 2**16  # bytes to ask a file for at once: so no length in a file makes a large buffer


class ByteSource:
    """A file read forwards; where it can seek, at any place too.

    Places are counted from where the file stood when the source was made.

    Attributes:
      is_seekable: whether `seek` works; it does not on a pipe.
      size: bytes from the start to the end of the file, as it was then; None on a pipe.
      position: bytes from the start to what is read next.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._back = b""
        self._start = 0
        self.is_seekable = file.seekable()
        self.size: int | None = None
        self.position = 0
        if self.is_seekable:
            self._start = file.tell()
            self.size = file.seek(0, 2) - self._start
            file.seek(self._start)

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer only where the file ends."""
        data, self._back = self._back[:count], self._back[count:]
        if len(data) < count:
            chunks = [data]
            missing = count - len(data)
            # A pipe may give fewer bytes than it is asked for.
            while missing and (chunk := self._file.read(min(missing, _CHUNK))):
                chunks.append(chunk)
                missing -= len(chunk)
            data = b"".join(chunks)
        self.position += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Puts bytes back, to be read again."""
        self._back = data + self._back
        self.position -= len(data)

    def seek(self, position: int) -> None:
        """Goes to a place."""
        self._back = b""
        self._file.seek(self._start + position)
        self.position = position

    def skip(self, count: int) -> int:
        """Passes over bytes; returns how many there were."""
        skipped = 0
        while skipped < count and (data := self.read(min(count - skipped, _CHUNK))):
            skipped += len(data)
        return skipped


def write(file: BinaryIO, data: bytes) -> None:
    """Writes all bytes; a file without a buffer may take fewer at a time."""
    rest = memoryview(data)
    while rest:
        taken = file.write(rest)
        if taken is None:
            raise BlockingIOError("the output does not wait: it takes no bytes now")
        rest = rest[taken:]
