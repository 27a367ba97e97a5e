"""Codes with what decoding needs besides, and the checks of what users hand in.

Glossary of shapes: B items, T samples, C channels, F frames, K codebooks, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import jax.numpy as jnp
import ml_collections
import numpy as np

from encodec_hk.blocks import segments


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


def wrap(
    codes: Any,
    model_config: ml_collections.ConfigDict,
    framing: segments.Framing,
    *,
    num_frames: Sequence[int] | None = None,
    num_samples: Sequence[int] | None = None,
    scales: np.ndarray | None = None,
) -> Encoded:
    """Bare codes [B, K, F] and what there is besides: see `Codec.encoded`."""
    codes = check_codes(codes, model_config)
    batch, _, longest = codes.shape
    if num_frames is None:
        num_frames = [longest] * batch
    frames = check_counts("num_frames", num_frames, batch)
    if num_samples is None:
        num_samples = [framing.longest(int(count)) for count in frames]
    samples = check_counts("num_samples", num_samples, batch)
    if scales is None and model_config.normalize:
        scales = np.ones((batch, max(len(framing.frames(int(n))) for n in samples)))
    encoded = Encoded(codes=codes, num_frames=frames, num_samples=samples, scales=scales)
    check_encoded(encoded, model_config, framing)
    return encoded


def check_audio(audio: Any, channels: int) -> list[np.ndarray]:
    """Items of audio, float32 [T, C] each.

    Raises:
      ValueError: there are none, or one is not finite floats [T, C] of `channels` channels.
    """
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
    return [_check_item(item, f"audio[{index}]", channels) for index, item in enumerate(audio)]


def _check_item(item: Any, name: str, channels: int) -> np.ndarray:
    item = check_samples(item, name, channels)
    if not len(item):
        raise ValueError(f"{name}: got no samples, at least one is needed")
    return item


def check_samples(item: Any, name: str, channels: int) -> np.ndarray:
    """Samples as float32 [T, C], T >= 0; ValueError where they are not finite floats so shaped."""
    item = np.asarray(item)
    if item.ndim != 2 or item.shape[1] != channels:
        raise ValueError(f"{name}: got shape {item.shape}, must be [T, {channels}]")
    if not jnp.issubdtype(item.dtype, jnp.floating):
        raise ValueError(f"{name}: got {item.dtype}, must be float in [-1, 1]")
    with np.errstate(over="ignore"):  # said below
        item = item.astype(np.float32)
    finite = np.isfinite(item).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}: got NaN or infinity at sample {finite.argmin()}, must be finite")
    return item


def check_codes(codes: Any, model_config: ml_collections.ConfigDict) -> np.ndarray:
    """Codes as an array; ValueError where they are not integers [B, K, F], 1 to all codebooks."""
    codes = np.asarray(codes)
    most = model_config.num_codebooks
    is_right = codes.ndim == 3 and codes.size and 1 <= codes.shape[1] <= most
    if not is_right or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            f"codes: got {codes.dtype} of shape {codes.shape}, "
            f"must be integers [B, K, F], K from 1 to {most}"
        )
    return codes


def check_stream_codes(
    codes: Any, name: str, num_codebooks: int, model_config: ml_collections.ConfigDict
) -> np.ndarray:
    """Codes as int32 [K, F], F >= 0; ValueError where they are not such, of the codebooks."""
    codes = np.asarray(codes)
    is_right = codes.ndim == 2 and codes.shape[0] == num_codebooks
    if not is_right or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(
            f"{name}: got {codes.dtype} of shape {codes.shape}, must be integers "
            f"[{num_codebooks}, F]"
        )
    _check_range(codes, name, model_config)
    return codes.astype(np.int32)


def check_stream_scales(
    scales: Any, name: str, model_config: ml_collections.ConfigDict
) -> np.ndarray:
    """Scales as float32 [S], none where None is given; ValueError where they cannot be."""
    scales = np.asarray([] if scales is None else scales)
    if scales.ndim != 1:
        raise ValueError(f"{name}: got shape {scales.shape}, must be [S]")
    if len(scales) and not model_config.normalize:
        raise ValueError(f"{name}: got some, must be None of a model that does not normalise")
    _check_positive(scales, name)
    return scales.astype(np.float32)


def check_counts(name: str, counts: Any, batch: int) -> np.ndarray:
    """Counts of frames or samples as int32 [B]; ValueError where they are not."""
    counts = np.asarray(counts)
    if counts.shape != (batch,) or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"{name}: got {counts.dtype} of shape {counts.shape}, must be integers [{batch}]"
        )
    low, high = counts.min(), counts.max()
    if low < 1 or high >= 2**31:
        raise ValueError(f"{name}: got {low if low < 1 else high}, must be 1 to {2**31 - 1}")
    return counts.astype(np.int32)


def check_encoded(
    encoded: Encoded, model_config: ml_collections.ConfigDict, framing: segments.Framing
) -> tuple[list[np.ndarray], list[list[int]], np.ndarray | None]:
    """Takes codes apart.

    Returns:
      Of each item, its codes, int32 [F, K] without padding, and the frames of its segments; and the
      scales, float32 [B, S], of variants that normalise.

    Raises:
      ValueError: codes outside the codebooks, too many of them, or counts that do not fit.
    """
    if not isinstance(encoded, Encoded):
        raise ValueError(
            f"encoded: got {type(encoded).__name__}, must be Encoded: see Codec.encoded for codes"
        )
    codes = check_codes(encoded.codes, model_config)
    batch, _, longest = codes.shape
    num_frames = check_counts("num_frames", encoded.num_frames, batch)
    num_samples = check_counts("num_samples", encoded.num_samples, batch)
    frames = [framing.frames(int(count)) for count in num_samples]
    scales = _check_scales(encoded.scales, [len(own) for own in frames], model_config.normalize)
    items = []
    for index, own in enumerate(frames):
        if sum(own) != num_frames[index] or sum(own) > longest:
            raise ValueError(
                f"num_frames[{index}]: got {num_frames[index]} of {longest} frames, "
                f"{num_samples[index]} samples have {sum(own)}"
            )
        item = codes[index, :, : sum(own)].T
        _check_range(item, f"codes[{index}]", model_config)
        items.append(item.astype(np.int32))
    return items, frames, scales


def _check_scales(scales: Any, counts: list[int], normalizes: bool) -> np.ndarray | None:
    """Scales as float32 [B, S], S at least each item's count of segments."""
    if scales is None and normalizes:
        raise ValueError("scales: got None, must be one for every segment")
    if scales is None:
        return None
    if not normalizes:
        raise ValueError("scales: got some, must be None of a model that does not normalise")
    scales = np.asarray(scales)
    shape = (len(counts), max(counts))
    if scales.ndim != 2 or len(scales) != shape[0] or scales.shape[1] < shape[1]:
        raise ValueError(f"scales: got shape {scales.shape}, must be {list(shape)}")
    for index, count in enumerate(counts):
        _check_positive(scales[index, :count], f"scales[{index}]")
    return scales.astype(np.float32)


def _check_range(codes: np.ndarray, name: str, model_config: ml_collections.ConfigDict) -> None:
    low, high = codes.min(initial=0), codes.max(initial=0)
    if low < 0 or high >= model_config.codebook_size:
        wrong, allowed = (low if low < 0 else high), f"0 to {model_config.codebook_size - 1}"
        raise ValueError(f"{name}: got {wrong}, must be {allowed}")


def _check_positive(scales: np.ndarray, name: str) -> None:
    is_number = np.issubdtype(scales.dtype, np.number)
    if not is_number or not (np.isfinite(scales) & (scales > 0)).all():
        raise ValueError(f"{name}: got {scales.tolist()}, must be finite and above 0")


def stack(items: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks arrays [n, ...] of different n, with zeros after the shorter ones."""
    longest = max(len(item) for item in items)
    stacked = np.zeros((len(items), longest, *items[0].shape[1:]), items[0].dtype)
    for row, item in zip(stacked, items, strict=True):
        row[: len(item)] = item
    return stacked
