"""How the codes of several codebooks become one sequence of a language model, and back.

    delay, 3 codebooks of 4 frames       flatten, order="frame"        order="codebook"
    codebook 0   a0 a1 a2 a3  P  P       a0 b0 c0 a1 b1 c1 a2 ...      a0 a1 a2 a3 b0 b1 ...
    codebook 1    P b0 b1 b2 b3  P
    codebook 2    P  P c0 c1 c2 c3

Arrays are numpy; leading axes are batches and kept as they are. None of these functions changes
its arguments.

Shapes: K codebooks, F frames, S steps, C channels.

Sources: the delay pattern and the flattening of MusicGen (arXiv 2306.05284, section 2.2 and figure
1); the offsets of AudioLM (arXiv 2209.03143), which MusicLM (arXiv 2301.11325)
takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from encodec_hk.system import rules

ORDERS = ("frame", "codebook")


def delay(codes: Any, pad: int, delays: Sequence[int] | None = None) -> np.ndarray:
    """Delay each codebook, so that a model predicts a frame over several steps.

    Args:
      codes: integers [..., K, F].
      pad: the token where a codebook has no code.
      delays: steps of each codebook, K of them; None for 0, 1, ..., K - 1. Codes that
        `interleave` has made of two channels take (0, 0, 1, 1, ...).

    Returns:
      [..., K, S], S = F + max(delays), in the type of `codes`. Sequences of MusicGen and of
      transformers begin with one more column of `pad`.

    Raises:
      ValueError: the codes are not integers [..., K, F], or `delays` or `pad` do not fit them.
    """
    codes = _integers("codes", codes, 2)
    num_codebooks, num_frames = codes.shape[-2:]
    shifts = _delays(delays, num_codebooks)
    shape = (*codes.shape[:-1], num_frames + max(shifts))
    delayed = np.full(shape, _token("pad", pad, codes.dtype), codes.dtype)
    for codebook, shift in enumerate(shifts):
        delayed[..., codebook, shift : shift + num_frames] = codes[..., codebook, :]
    return delayed


def undelay(
    delayed: Any, pad: int, delays: Sequence[int] | None = None, *, num_frames: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Undo `delay`.

    Args:
      delayed: integers [..., K, S].
      pad: the token where a codebook has no code.
      delays: as in `delay`.
      num_frames: F; None for the frames that all codebooks have, S - max(delays). Of a sequence
        that is still being generated, up to S - min(delays) frames have codes of some codebooks.

    Returns:
      The codes [..., K, F], and a mask [..., K, F] that is False where there is none: at steps
      past the end, whose codes are `pad`, and where the sequence itself has `pad`.

    Raises:
      ValueError: the tokens are not integers [..., K, S], are fewer than the largest delay and
        `num_frames` is None, or another argument does not fit them.
    """
    delayed = _integers("delayed", delayed, 2)
    num_codebooks, num_steps = delayed.shape[-2:]
    shifts = _delays(delays, num_codebooks)
    if num_frames is None:
        if num_steps < max(shifts):
            raise rules.error("steps of delayed", num_steps, f"at least {max(shifts)}")
        num_frames = num_steps - max(shifts)
    elif not 0 <= num_frames <= max(num_steps - min(shifts), 0):
        allowed = f"0 to {max(num_steps - min(shifts), 0)}"
        raise rules.error("num_frames", num_frames, allowed)
    pad = _token("pad", pad, delayed.dtype)
    codes = np.full((*delayed.shape[:-1], num_frames), pad, delayed.dtype)
    for codebook, shift in enumerate(shifts):
        own = delayed[..., codebook, shift : shift + num_frames]
        codes[..., codebook, : own.shape[-1]] = own
    return codes, codes != pad


def flatten(
    codes: Any, codebook_size: int, order: str = "frame", offset: int | None = 0
) -> np.ndarray:
    """Put the codes of all codebooks into one sequence.

    Args:
      codes: integers [..., K, F], each from 0 to codebook_size - 1.
      codebook_size: entries of a codebook.
      order: "frame" for all codebooks of a frame, then those of the next; "codebook" for all frames
        of a codebook, then those of the next.
      offset: the token of code 0 of the first codebook. Each codebook has tokens of its own: code c
        of codebook k is the token offset + k * codebook_size + c. None leaves the codes as they
        are, the same for all codebooks.

    Returns:
      [..., K * F]; int32, or int64 where tokens need it. With an offset of None, the type of
      `codes`.

    Raises:
      ValueError: the codes are not integers [..., K, F] in their range, or an argument is not
        allowed.
    """
    codes = _integers("codes", codes, 2)
    _check_flat(codebook_size, order, offset)
    _check_range("codes", codes, 0, codebook_size)
    num_codebooks, num_frames = codes.shape[-2:]
    if offset is not None:
        first = _first_tokens(num_codebooks, codebook_size, offset)
        codes = codes.astype(first.dtype) + first[:, None]
    if order == "frame":
        codes = codes.swapaxes(-1, -2)
    return codes.reshape(*codes.shape[:-2], num_codebooks * num_frames)


def unflatten(
    tokens: Any,
    codebook_size: int,
    num_codebooks: int,
    order: str = "frame",
    offset: int | None = 0,
) -> np.ndarray:
    """Undo `flatten`.

    Args:
      tokens: integers [..., K * F], without special tokens.
      codebook_size: as in `flatten`.
      num_codebooks: K.
      order: as in `flatten`.
      offset: as in `flatten`.

    Returns:
      The codes [..., K, F], in the type of `tokens`.

    Raises:
      ValueError: the tokens are not whole frames or not those of their codebooks, or an argument is
        not allowed.
    """
    tokens = _integers("tokens", tokens, 1)
    _check_flat(codebook_size, order, offset)
    if num_codebooks < 1:
        raise rules.error("num_codebooks", num_codebooks, "at least 1")
    num_frames, rest = divmod(tokens.shape[-1], num_codebooks)
    if rest:
        allowed = f"a multiple of num_codebooks ({num_codebooks})"
        raise rules.error("number of tokens", tokens.shape[-1], allowed)
    if order == "frame":
        codes = tokens.reshape(*tokens.shape[:-1], num_frames, num_codebooks).swapaxes(-1, -2)
    else:
        codes = tokens.reshape(*tokens.shape[:-1], num_codebooks, num_frames)
    first = np.zeros(num_codebooks, np.int64)
    if offset is not None:
        first = _first_tokens(num_codebooks, codebook_size, offset).astype(np.int64)
    for codebook, start in enumerate(first):
        name = f"tokens of codebook {codebook}"
        _check_range(name, codes[..., codebook, :], int(start), int(start) + codebook_size)
    return (codes.astype(np.int64) - first[:, None]).astype(tokens.dtype)


def split_coarse(codes: Any, num_coarse: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Split codes into those of a coarse and of a fine model.

    VALL-E (arXiv 2301.02111) predicts the first of 8 codebooks autoregressively and the others
    after it; MusicLM predicts the first 4 of 12, then the others from them. To undo it, concatenate
    both along the axis of codebooks.

    Args:
      codes: integers [..., K, F].
      num_coarse: codebooks of the coarse model, 1 to K.

    Returns:
      Views of the codes, [..., num_coarse, F] and [..., K - num_coarse, F].

    Raises:
      ValueError: the codes are not integers [..., K, F], or have fewer codebooks.
    """
    codes = _integers("codes", codes, 2)
    if not 1 <= num_coarse <= codes.shape[-2]:
        raise rules.error("num_coarse", num_coarse, f"1 to {codes.shape[-2]}")
    return codes[..., :num_coarse, :], codes[..., num_coarse:, :]


def interleave(codes: Any) -> np.ndarray:
    """Interleave the codebooks of channels that were coded apart, as stereo MusicGen does.

    Args:
      codes: integers [..., C, K, F], such as two rows of one file, left and right.

    Returns:
      [..., K * C, F]: codebook 0 of every channel, then codebook 1 of every channel, ...

    Raises:
      ValueError: the codes are not integers [..., C, K, F].
    """
    codes = _integers("codes", codes, 3)
    *batch, channels, num_codebooks, num_frames = codes.shape
    return codes.swapaxes(-2, -3).reshape(*batch, num_codebooks * channels, num_frames)


def deinterleave(codes: Any, channels: int = 2) -> np.ndarray:
    """Undo `interleave`: [..., K * C, F] to [..., C, K, F].

    Raises:
      ValueError: the codes are not integers [..., K * C, F].
    """
    codes = _integers("codes", codes, 2)
    *batch, rows, num_frames = codes.shape
    if channels < 1 or rows % channels:
        raise rules.error("channels", channels, f"a divisor of the {rows} rows of codes")
    return codes.reshape(*batch, rows // channels, channels, num_frames).swapaxes(-2, -3)


def _integers(name: str, values: Any, min_axes: int) -> np.ndarray:
    """Return values as an array, after a check of type and shape."""
    array = np.asarray(values)
    axes = {1: "[..., N]", 2: "[..., K, F]", 3: "[..., C, K, F]"}[min_axes]
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name}: got {array.dtype}, must be integers {axes}")
    if array.ndim < min_axes or 0 in array.shape[-min_axes:-1]:
        raise ValueError(f"{name}: got shape {list(array.shape)}, must be {axes}")
    return array


def _token(name: str, token: int, dtype: np.dtype) -> int:
    limits = np.iinfo(dtype)
    if not limits.min <= token <= limits.max:
        raise rules.error(name, token, f"a value of {dtype}, the type of the codes")
    return int(token)


def _delays(delays: Sequence[int] | None, num_codebooks: int) -> list[int]:
    if delays is None:
        return list(range(num_codebooks))
    found = [int(shift) for shift in delays]
    if len(found) != num_codebooks or min(found) < 0:
        raise rules.error("delays", found, f"{num_codebooks} numbers of at least 0")
    return found


def _check_flat(codebook_size: int, order: str, offset: int | None) -> None:
    if codebook_size < 1:
        raise rules.error("codebook_size", codebook_size, "at least 1")
    if order not in ORDERS:
        raise rules.error("order", order, f"one of {', '.join(ORDERS)}")
    if offset is not None and offset < 0:
        raise rules.error("offset", offset, "None or at least 0")


def _check_range(name: str, values: np.ndarray, start: int, stop: int) -> None:
    """Check that all values are in [start, stop)."""
    if not values.size:
        return
    for value in (int(values.min()), int(values.max())):
        if not start <= value < stop:
            raise rules.error(name, value, f"{start} to {stop - 1}")


def _first_tokens(num_codebooks: int, codebook_size: int, offset: int) -> np.ndarray:
    """Return the token of code 0 of every codebook, [K], in a type that holds all tokens."""
    size = offset + num_codebooks * codebook_size
    dtype = np.int32 if size <= 2**31 else np.int64
    return (offset + codebook_size * np.arange(num_codebooks)).astype(dtype)
