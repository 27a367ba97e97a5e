"""Read and write bytes of a file or a pipe."""

from __future__ import annotations

from typing import BinaryIO

_CHUNK = 2**16  # bytes of a read: bounds the memory, whatever length a file claims


class ByteSource:
    """Reads a file or a pipe, from its current position on.

    Attributes:
      is_seekable: whether `seek` works; False for a pipe.
      size: bytes from the start to the end of the file; None for a pipe.
      position: bytes from the start to the next byte to read.
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
        """Return the next `count` bytes, fewer only at the end of the file."""
        data, self._back = self._back[:count], self._back[count:]
        if len(data) < count:
            chunks = [data]
            missing = count - len(data)
            # A pipe may return fewer bytes than asked for.
            while missing and (chunk := self._file.read(min(missing, _CHUNK))):
                chunks.append(chunk)
                missing -= len(chunk)
            data = b"".join(chunks)
        self.position += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read again."""
        self._back = data + self._back
        self.position -= len(data)

    def seek(self, position: int) -> None:
        """Move to a position."""
        self._back = b""
        self._file.seek(self._start + position)
        self.position = position

    def skip(self, count: int) -> int:
        """Skip bytes; return how many there were."""
        skipped = 0
        while skipped < count and (data := self.read(min(count - skipped, _CHUNK))):
            skipped += len(data)
        return skipped


def write(file: BinaryIO, data: bytes) -> None:
    """Write all bytes; an unbuffered file may take them in several calls."""
    rest = memoryview(data)
    while rest:
        taken = file.write(rest)
        if taken is None:
            raise BlockingIOError("the output is non-blocking and takes no bytes now")
        rest = rest[taken:]
