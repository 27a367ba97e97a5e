"""Codes and scales as bytes.

Codes have `bits` bits each, consecutive, least significant bit first, as the bit packer of Meta's
`encodec.binary` writes them.
"""

from __future__ import annotations

import functools
import math
import struct

import numpy as np

MAX_BITS = 24  # of a code: 32 bits hold it, whatever bit of a byte it starts at
SCALE = struct.Struct("!f")  # of a segment

_STEP = 2**15  # codes at a time, whole bytes at any width; bounds the memory
_WINDOW = np.dtype("<u4")


def is_scale(scale: float) -> bool:
    """Return whether a number can be the scale of a segment."""
    return 0 < scale < float("inf")


def num_bytes(count: int, bits: int) -> int:
    """Return the bytes of `count` codes; zeros fill up the last one."""
    return -(-count * bits // 8)


def whole_bytes(bits: int) -> int:
    """Return the smallest number of codes that fill whole bytes."""
    return 8 // math.gcd(8, bits)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Pack rows of codes, [N, n], into uint8 [N, num_bytes(n, bits)]; `bits` is 1 to MAX_BITS."""
    rows, count = codes.shape
    group = whole_bytes(bits)
    size = group * bits // 8
    step = max(group, _STEP // max(rows, 1) // group * group)
    packed = np.empty((rows, -(-count // group) * size), np.uint8)
    for start in range(0, count, step):
        part = codes[:, start : start + step]
        groups = -(-part.shape[1] // group)
        values = np.zeros((rows, groups * group), np.uint64)
        values[:, : part.shape[1]] = part
        values = values.reshape(rows, groups, group)
        words = np.zeros((rows, groups, -(-size // 8)), "<u8")
        for index in range(group):
            word, shift = divmod(index * bits, 64)
            code = values[..., index]
            words[..., word] |= code << np.uint64(shift)
            if shift + bits > 64:
                words[..., word + 1] |= code >> np.uint64(64 - shift)
        first = start // group * size
        filled = words.view(np.uint8)[..., :size].reshape(rows, -1)
        packed[:, first : first + filled.shape[1]] = filled
    return packed[:, : num_bytes(count, bits)]


def unpack(data: bytes, bits: int, count: int) -> np.ndarray:
    """Return the first `count` codes of `data`, int32 [count].

    `data` has at least num_bytes(count, bits) bytes; `bits` is 1 to MAX_BITS.
    """
    # 32 bits from each byte on.
    windows = np.ndarray((len(data) + 1,), _WINDOW, data + b"\0\0\0\0", strides=(1,))
    codes = np.empty(count, np.uint32)
    mask = np.uint32(2**bits - 1)
    for start in range(0, count, _STEP):
        part = codes[start : start + _STEP]
        starts, shifts = _starts(bits, len(part))
        first = start * bits // 8
        # No start is out of bounds; mode="clip" avoids a copy of the result.
        windows[first : first + len(part) * bits // 8 + 1].take(starts, out=part, mode="clip")
        np.right_shift(part, shifts, part)
        np.bitwise_and(part, mask, part)
    return codes.view(np.int32)


@functools.lru_cache(maxsize=4)
def _starts(bits: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the byte in which each code starts, and its bit there."""
    starts = np.arange(count) * bits
    return starts // 8, (starts % 8).astype(np.uint32)
