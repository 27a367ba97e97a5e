"""The arithmetic coder of Meta's `encodec.quantization.ac`, in whole numbers.

Meta's computes in float64, whose products here stay under 2**49, so both agree to the last bit.

A coder narrows a range, `low` to `high`, to the share of each symbol. Once the top bits of both
are equal, they are final and leave the range. Before each symbol the range is doubled until it has
25 bits. Each doubling is one bit of the stream. Bits fill bytes from the least significant on.

Shapes: N symbols of a code, K codebooks.
"""

from __future__ import annotations

import numpy as np

_BITS = 24  # of the total of a distribution
_ROUNDOFF = np.float32(1e-8)  # probabilities are rounded down to multiples of it
_LEAST = 2  # share of the least probable symbol
_CHUNK = 2**10  # bytes at a time that become bits


class DesynchronizedError(ValueError):
    """No symbol is coded by the bits that follow: they were written with other distributions."""


def cumulative(probabilities: np.ndarray) -> np.ndarray:
    """Return the ends of the symbols' shares, int64 [K, N], of probabilities, float32 [K, N].

    The steps and their float32 roundings are those of `build_stable_quantized_cdf`.
    """
    rounded = np.floor(probabilities / _ROUNDOFF) * _ROUNDOFF
    total = np.float32(2**_BITS - _LEAST * probabilities.shape[-1])
    shares = np.floor(total * rounded).astype(np.int64) + _LEAST
    return np.cumsum(shares, axis=-1)


class ArithmeticEncoder:
    """Encodes symbols; the bytes are taken as they become complete."""

    def __init__(self) -> None:
        self._low = self._high = 0
        self._size = 0  # bits of the range
        self._bits: list[str] = []  # of the stream, the oldest first

    def push(self, start: int, end: int) -> None:
        """Encode a symbol whose share is from `start` to before `end`.

        Raises:
          ValueError: if the share exceeds the range.
        """
        low, width = self._low, self._high - self._low + 1
        doublings = _BITS + 1 - width.bit_length()
        if doublings > 0:
            low <<= doublings
            width <<= doublings
            self._size += doublings
        high = low + ((end - 1) * width >> _BITS)
        low -= -start * width >> _BITS  # rounded up
        if high >> self._size:  # the sum of the shares was rounded up
            raise ValueError("a code has no share of the probabilities; Meta's program stops too")
        left = (low ^ high).bit_length()
        if left < self._size:
            self._bits.append(format(low >> left, f"0{self._size - left}b"))
            mask = (1 << left) - 1
            low, high, self._size = low & mask, high & mask, left
        self._low, self._high = low, high

    def take(self) -> bytes:
        """Return the bytes that are complete, and were not returned before."""
        bits = "".join(self._bits)
        whole = len(bits) // 8 * 8
        self._bits = [bits[whole:]]
        return _bytes_of(bits[:whole])

    def finish(self) -> bytes:
        """Return the rest of the bytes; a new encoder begins the next stream."""
        if self._size:
            self._bits.append(format(self._low, f"0{self._size}b"))
        self._low = self._high = self._size = 0
        bits = "".join(self._bits)
        self._bits = []
        return _bytes_of(bits + "0" * (-len(bits) % 8))


class ArithmeticDecoder:
    """Decodes symbols. It reads no more bytes than the encoder wrote."""

    def __init__(self, data: bytes):
        """Begin to decode bytes; others may follow them."""
        self._low = self._high = self._value = 0
        self._size = 0  # bits of the range
        self._data = data
        self._taken = 0  # bytes of which `_bits` are or were
        self._bits = ""  # to read, from `_place` on
        self._place = 0

    @property
    def bytes_read(self) -> int:
        """Return the number of bytes read, the last one perhaps in part."""
        return self._taken - (len(self._bits) - self._place) // 8

    @property
    def is_at_end(self) -> bool:
        """Return whether a stream can end here: the encoder's last bits are its `low`."""
        padding = (len(self._bits) - self._place) % 8
        return self._value == self._low and "1" not in self._bits[self._place :][:padding]

    def _read(self, count: int) -> int:
        if len(self._bits) - self._place < count:
            more = self._data[self._taken : self._taken + _CHUNK]
            self._bits = self._bits[self._place :] + _bits_of(more)
            self._place = 0
            self._taken += len(more)
            if len(self._bits) < count:
                raise EOFError("the bytes do not suffice")
        self._place += count
        return int(self._bits[self._place - count : self._place], 2)

    def pull(self, ends: np.ndarray) -> int:
        """Decode a symbol; `ends` is a row of `cumulative`.

        Raises:
          EOFError: if the bytes do not suffice.
          DesynchronizedError: if no symbol is coded here.
        """
        low, value = self._low, self._value
        width = self._high - low + 1
        doublings = _BITS + 1 - width.bit_length()
        if doublings > 0:
            low <<= doublings
            width <<= doublings
            value = value << doublings | self._read(doublings)
            self._size += doublings
        symbol = int(ends.searchsorted((value - low << _BITS) // width, "right"))
        if symbol == len(ends):
            raise DesynchronizedError("the bits are of no symbol")
        high = low + ((int(ends[symbol]) - 1) * width >> _BITS)
        if symbol:
            low -= -int(ends[symbol - 1]) * width >> _BITS
        if not low <= value <= high or high >> self._size:
            raise DesynchronizedError("the bits are of no symbol")
        left = (low ^ high).bit_length()
        if left < self._size:
            mask = (1 << left) - 1
            low, high, value, self._size = low & mask, high & mask, value & mask, left
        self._low, self._high, self._value = low, high, value
        return symbol


def _bits_of(data: bytes) -> str:
    """Return the bits of bytes as text, the least significant of each byte first."""
    return format(int.from_bytes(data, "little"), f"0{8 * len(data)}b")[::-1] if data else ""


def _bytes_of(bits: str) -> bytes:
    return int(bits[::-1], 2).to_bytes(len(bits) // 8, "little") if bits else b""
