"""Codes with what decoding needs besides, and the checks of what users hand in.

Glossary of shapes: B items, T samples, C channels, F frames, K codebooks, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk import segments


@chex.dataclass(frozen=True, mappable_dataclass=False)
class Encoded:
    """Codes of B items, and what decoding needs besides. Numpy arrays.

    Attributes:
      codes: int32 [B, K, F], zeros past an item's own frames. Segments of an item follow each
        other along F.
      num_frames: int32 [B], frames of each item.
      num_samples: int32 [B], samples of each item.
      scales: float32 [B, S], the scale of each segment, zeros past an item's own segments; None
        where the variant does not normalise.
    """

    codes: np.ndarray
    num_frames: np.ndarray
    num_samples: np.ndarray
    scales: np.ndarray | None = None


def check_audio(item: np.ndarray, name: str, channels: int) -> np.ndarray:
    """Audio [T, C] as float32; ValueError where it is not finite floats of `channels` channels."""
    if item.ndim != 2 or item.shape[1] != channels:
        raise ValueError(f"{name}: got shape {item.shape}, must be [T, {channels}]")
    if not len(item):
        raise ValueError(f"{name}: got no samples, at least one is needed")
    if not jnp.issubdtype(item.dtype, jnp.floating):
        raise ValueError(f"{name}: got {item.dtype}, must be float in [-1, 1]")
    item = item.astype(np.float32)
    finite = np.isfinite(item).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}: got NaN or infinity at sample {finite.argmin()}, must be finite")
    return item


def check_encoded(
    encoded: Encoded, model_config: ml_collections.ConfigDict, framing: segments.Framing
) -> tuple[list[np.ndarray], list[list[int]]]:
    """Takes codes apart.

    Returns:
      Of each item, its codes, int32 [F, K] without padding, and the frames of its segments.

    Raises:
      ValueError: codes outside the codebooks, too many of them, or counts that do not fit.
    """
    codes = np.asarray(encoded.codes)
    check_codes(codes, model_config)
    batch, _, frames = codes.shape
    columns = {"num_frames": encoded.num_frames, "num_samples": encoded.num_samples}
    if encoded.scales is not None:
        columns["scales"] = encoded.scales
    elif model_config.normalize:
        raise ValueError("scales: got None, the model needs one for every segment")
    for name, value in columns.items():
        if len(value) != batch:
            raise ValueError(f"{name}: got {len(value)} items, codes have {batch}")
    items, lengths = [], []
    for index in range(batch):
        num_samples = int(encoded.num_samples[index])
        own = framing.frames(num_samples)
        if sum(own) != encoded.num_frames[index] or not 0 < sum(own) <= frames:
            raise ValueError(
                f"num_frames[{index}]: got {encoded.num_frames[index]} of {frames} frames, "
                f"{num_samples} samples have {sum(own)}"
            )
        if encoded.scales is not None and encoded.scales.shape[1] < len(own):
            raise ValueError(
                f"scales: got {encoded.scales.shape[1]}, item {index} has {len(own)} segments"
            )
        item = codes[index, :, : sum(own)].T
        low, high = item.min(), item.max()
        if low < 0 or high >= model_config.codebook_size:
            wrong, allowed = (low if low < 0 else high), f"0 to {model_config.codebook_size - 1}"
            raise ValueError(f"codes[{index}]: got {wrong}, must be {allowed}")
        items.append(item.astype(np.int32))
        lengths.append(own)
    return items, lengths


def check_codes(codes: np.ndarray, model_config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where codes are not integers [B, K, F] of 1 to all codebooks."""
    most = model_config.num_codebooks
    is_right = codes.ndim == 3 and codes.size and 1 <= codes.shape[1] <= most
    if not is_right or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            f"codes: got {codes.dtype} of shape {codes.shape}, "
            f"must be integers [B, K, F], K from 1 to {most}"
        )


def stack(items: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks arrays [n, ...] of different n, with zeros after the shorter ones."""
    longest = max(len(item) for item in items)
    stacked = np.zeros((len(items), longest, *items[0].shape[1:]), items[0].dtype)
    for row, item in zip(stacked, items, strict=True):
        row[: len(item)] = item
    return stacked
