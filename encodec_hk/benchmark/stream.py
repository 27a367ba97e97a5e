"""Times of single frames of a stream, or of single segments for variants with segments."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk import config
from encodec_hk.system import interruption

_WARM_UP = 20  # pushes that are not counted


def measure(codec: encodec_hk.Codec, bandwidth: float, *, frames: int) -> dict[str, Any]:
    """Time the pushes of a stream encoder and of a stream decoder, in turns.

    Both are timed from numpy to numpy.

    Args:
      codec: the codec.
      bandwidth: kbps.
      frames: pushes to time in each direction.

    Returns:
      ms_of_a_push, pushes, compile_seconds; for encode and decode, median_ms and p99_ms.
    """
    encoder = codec.stream_encoder(bandwidth)
    decoder = codec.stream_decoder(bandwidth, hold_back=False)
    start = time.perf_counter()
    encoder.warm_up()
    decoder.warm_up()
    compile_seconds = time.perf_counter() - start
    size = codec.framing.stride if codec.framing.has_segments else codec.hop_length
    first = config.minimum_first_block(codec.model_config) * codec.hop_length
    shape = (first + (frames + _WARM_UP) * size, codec.channels)
    noise = (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    decoder.push(encoder.push(noise[:first]))
    times = []
    for at in range(first, len(noise), size):
        interruption.check()
        started = time.perf_counter()
        codes = encoder.push(noise[at : at + size])
        between = time.perf_counter()
        decoder.push(codes)
        times.append((between - started, time.perf_counter() - between))
    counted = 1000 * np.array(times[_WARM_UP:])
    found: dict[str, Any] = {
        "ms_of_a_push": 1000 * size / codec.sample_rate,
        "pushes": frames,
        "compile_seconds": compile_seconds,
    }
    for name, values in zip(("encode", "decode"), counted.T, strict=True):
        found[name] = {
            "median_ms": float(np.median(values)),
            "p99_ms": float(np.percentile(values, 99)),
        }
    return found
