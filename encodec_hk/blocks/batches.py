"""Codes of a batch, with what decoding needs besides.

Shapes: B items, F frames, K codebooks, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import ml_collections
import numpy as np

from encodec_hk.blocks import checks
from encodec_hk.framing import Framing


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Encoded:
    """Codes of B items, and what decoding needs besides. Numpy arrays.

    Attributes:
      codes: int32 [B, K, F], zeros past an item's own frames. The segments of an item follow each
        other along F.
      num_frames: int32 [B], frames of each item.
      num_samples: int32 [B], samples of each item.
      scales: float32 [B, S], the scale of each segment, zeros past an item's own segments; None
        if the variant does not normalise.
    """

    codes: np.ndarray
    num_frames: np.ndarray
    num_samples: np.ndarray
    scales: np.ndarray | None = None


def wrap(
    codes: Any,
    model_config: ml_collections.ConfigDict,
    framing: Framing,
    *,
    num_frames: Sequence[int] | None = None,
    num_samples: Sequence[int] | None = None,
    scales: np.ndarray | None = None,
) -> Encoded:
    """Return bare codes [B, K, F] as `Encoded`; see `Codec.encoded`."""
    codes = checks.codes(codes, model_config)
    batch, _, longest = codes.shape
    if num_frames is None:
        num_frames = [longest] * batch
    frames = checks.counts("num_frames", num_frames, batch)
    if num_samples is None:
        num_samples = [framing.longest(int(count)) for count in frames]
    samples = checks.counts("num_samples", num_samples, batch)
    if scales is None and model_config.normalize:
        scales = np.ones((batch, max(framing.num_segments(int(count)) for count in samples)))
    encoded = Encoded(codes=codes, num_frames=frames, num_samples=samples, scales=scales)
    unwrap(encoded, model_config, framing)
    return encoded


def unwrap(
    encoded: Encoded, model_config: ml_collections.ConfigDict, framing: Framing
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return the codes of each item, int32 [K, F] without padding, and its scales, float32 [S].

    Raises:
      ValueError: codes outside the codebooks, too many of them, or counts that do not fit.
    """
    if not isinstance(encoded, Encoded):
        raise ValueError(
            f"encoded: got {type(encoded).__name__}, must be Encoded: see Codec.encoded for codes"
        )
    codes = checks.codes(encoded.codes, model_config)
    batch, _, longest = codes.shape
    num_frames = checks.counts("num_frames", encoded.num_frames, batch)
    num_samples = checks.counts("num_samples", encoded.num_samples, batch)
    num_segments = [framing.num_segments(int(count)) for count in num_samples]
    scales = checks.scales(encoded.scales, num_segments, model_config)
    items = []
    for index, total in enumerate(num_samples):
        own = framing.num_frames(int(total))
        if own != num_frames[index] or own > longest:
            raise ValueError(
                f"num_frames[{index}]: got {num_frames[index]} of {longest} frames, "
                f"{total} samples have {own}"
            )
        item = codes[index, :, :own]
        checks.code_range(item, f"codes[{index}]", model_config)
        own_scales = None if scales is None else scales[index, : num_segments[index]]
        items.append((item.astype(np.int32), own_scales))
    return items


def stack(items: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
    """Return arrays as one batch, with zeros after those shorter along an axis of theirs."""
    longest = max(item.shape[axis] for item in items)
    shape = list(items[0].shape)
    shape[axis] = longest
    stacked = np.zeros((len(items), *shape), items[0].dtype)
    for row, item in zip(stacked, items, strict=True):
        row[tuple(map(slice, item.shape))] = item
    return stacked
