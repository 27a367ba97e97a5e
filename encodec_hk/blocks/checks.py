"""Checks of the arrays that users hand in. Each returns them in the form that the codec uses.

All raise ValueError with what was got and what is allowed.

Shapes: B items, T samples, C channels, F frames, K codebooks, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np


def audio(audio: Any, channels: int) -> list[np.ndarray]:
    """Return items of audio, float32 [T, C] each, T >= 1, from [B, T, C] or a list of [T, C]."""
    if hasattr(audio, "shape"):  # an array at once: JAX would compile the cut into items
        audio = np.asarray(audio)
        if audio.ndim != 3:
            raise ValueError(
                f"audio: got one array of shape {audio.shape}, must be [B, T, {channels}] or a "
                f"list of [T, {channels}]"
            )
    elif not isinstance(audio, Sequence) or isinstance(audio, str):
        raise ValueError(f"audio: got {type(audio).__name__}, must be an array or a list of them")
    if not len(audio):
        raise ValueError("audio: got no items, at least one is needed")
    items = [samples(item, f"audio[{index}]", channels) for index, item in enumerate(audio)]
    for index, item in enumerate(items):
        if not len(item):
            raise ValueError(f"audio[{index}]: got no samples, at least one is needed")
    return items


def samples(item: Any, name: str, channels: int) -> np.ndarray:
    """Return samples as float32 [T, C], T >= 0, all finite."""
    item = np.asarray(item)
    if item.ndim != 2 or item.shape[1] != channels:
        raise ValueError(f"{name}: got shape {item.shape}, must be [T, {channels}]")
    if not jnp.issubdtype(item.dtype, jnp.floating):
        raise ValueError(f"{name}: got {item.dtype}, must be float in [-1, 1]")
    with np.errstate(over="ignore"):  # reported below
        item = item.astype(np.float32)
    finite = np.isfinite(item).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}: got NaN or infinity at sample {finite.argmin()}, must be finite")
    return item


def codes(codes: Any, model_config: ml_collections.ConfigDict) -> np.ndarray:
    """Return codes as integers [B, K, F], K from 1 to all codebooks."""
    codes = np.asarray(codes)
    code_block(codes, model_config)
    return codes


def code_block(codes: np.ndarray | jax.Array, model_config: ml_collections.ConfigDict) -> None:
    """Check that codes are integers [B, K, F], K from 1 to all codebooks."""
    most = model_config.num_codebooks
    is_right = codes.ndim == 3 and codes.size and 1 <= codes.shape[1] <= most
    if not is_right or not jnp.issubdtype(codes.dtype, jnp.integer):
        raise ValueError(
            f"codes: got {codes.dtype} of shape {codes.shape}, "
            f"must be integers [B, K, F], K from 1 to {most}"
        )


def stream_codes(
    codes: Any, name: str, num_codebooks: int | None, model_config: ml_collections.ConfigDict
) -> np.ndarray:
    """Return codes as int32 [K, F], F >= 0.

    Args:
      codes: of one stream.
      name: of the codes in messages.
      num_codebooks: K; None for any number that the model has.
      model_config: of the model.
    """
    codes = np.asarray(codes)
    most = model_config.num_codebooks
    is_right = codes.ndim == 2 and (
        1 <= codes.shape[0] <= most if num_codebooks is None else codes.shape[0] == num_codebooks
    )
    if not is_right or not np.issubdtype(codes.dtype, np.integer):
        allowed = (
            f"[K, F], K from 1 to {most}" if num_codebooks is None else f"[{num_codebooks}, F]"
        )
        raise ValueError(
            f"{name}: got {codes.dtype} of shape {codes.shape}, must be integers {allowed}"
        )
    code_range(codes, name, model_config)
    return codes.astype(np.int32)


def stream_scales(
    scales: Any, name: str, model_config: ml_collections.ConfigDict
) -> np.ndarray | None:
    """Return scales of one stream as float32 [S], or None."""
    if scales is None:
        return None
    scales = np.asarray(scales)
    if scales.ndim != 1:
        raise ValueError(f"{name}: got shape {scales.shape}, must be [S]")
    if len(scales) and not model_config.normalize:
        raise ValueError(f"{name}: got some, must be None of a model that does not normalise")
    _positive(scales, name)
    return scales.astype(np.float32)


def counts(name: str, counts: Any, batch: int) -> np.ndarray:
    """Return counts of frames or samples as int32 [B], each at least 1."""
    counts = np.asarray(counts)
    if counts.shape != (batch,) or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"{name}: got {counts.dtype} of shape {counts.shape}, must be integers [{batch}]"
        )
    low, high = counts.min(), counts.max()
    if low < 1 or high >= 2**31:
        raise ValueError(f"{name}: got {low if low < 1 else high}, must be 1 to {2**31 - 1}")
    return counts.astype(np.int32)


def scales(
    scales: Any, num_segments: Sequence[int], model_config: ml_collections.ConfigDict
) -> np.ndarray | None:
    """Return scales of a batch as float32 [B, S], S at least the segments of each item, or None."""
    if scales is None:
        if model_config.normalize:
            raise ValueError("scales: got None, must be one for every segment")
        return None
    if not model_config.normalize:
        raise ValueError("scales: got some, must be None of a model that does not normalise")
    scales = np.asarray(scales)
    shape = (len(num_segments), max(num_segments))
    if scales.ndim != 2 or len(scales) != shape[0] or scales.shape[1] < shape[1]:
        raise ValueError(f"scales: got shape {scales.shape}, must be {list(shape)}")
    for index, count in enumerate(num_segments):
        _positive(scales[index, :count], f"scales[{index}]")
    return scales.astype(np.float32)


def code_range(codes: np.ndarray, name: str, model_config: ml_collections.ConfigDict) -> None:
    """Check that codes are entries of a codebook."""
    low, high = codes.min(initial=0), codes.max(initial=0)
    if low < 0 or high >= model_config.codebook_size:
        wrong, allowed = (low if low < 0 else high), f"0 to {model_config.codebook_size - 1}"
        raise ValueError(f"{name}: got {wrong}, must be {allowed}")


def _positive(scales: np.ndarray, name: str) -> None:
    is_number = np.issubdtype(scales.dtype, np.number)
    if not is_number or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"{name}: got {scales.tolist()}, must be finite and above 0")
