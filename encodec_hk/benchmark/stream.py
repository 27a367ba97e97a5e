"""Single frames of a stream, or single segments of a variant that is cut into segments."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk import config

_WARM_UP = 20  # pushes that are not counted


def measure(
    codec: encodec_hk.Codec, bandwidth: float, *, frames: int, check: Callable[[], None]
) -> dict[str, Any]:
    """Times the pushes of a stream encoder and a stream decoder, in turns.

    Each is timed on its own, from samples in numpy to codes in numpy and back.

    Args:
      codec: whose streams.
      bandwidth: kbps.
      frames: pushes to time, each way.
      check: called between pushes.

    Returns:
      ms_of_a_push, pushes, compile_seconds; of encode and decode median_ms and p99_ms.
    """
    encoder = codec.stream_encoder(bandwidth)
    decoder = codec.stream_decoder(bandwidth, hold_back=False)
    start = time.perf_counter()
    encoder.warm_up()
    decoder.warm_up()
    compile_seconds = time.perf_counter() - start
    size = codec.framing.stride if codec.has_segments else codec.hop_length
    rng = np.random.default_rng(0)
    first = config.minimum_first_block(codec.model_config) * codec.hop_length
    sound = 0.1 * rng.standard_normal((first + (frames + _WARM_UP) * size, codec.channels))
    sound = sound.astype(np.float32)
    at, times = first, []
    codes = encoder.push(sound[:first])
    decoder.push(codes, encoder.scales)
    for _ in range(frames + _WARM_UP):
        check()
        started = time.perf_counter()
        codes = encoder.push(sound[at : at + size])
        between = time.perf_counter()
        decoder.push(codes, encoder.scales if codec.model_config.normalize else None)
        times.append((between - started, time.perf_counter() - between))
        at += size
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
