"""`run.py bench`: how fast a variant codes a stream, frame by frame, on this machine."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from encodec_hk import checkpoint as checkpoint_lib
from encodec_hk import codec as codec_lib
from encodec_hk import config as config_lib
from encodec_hk import model as model_lib
from encodec_hk import part_file
from encodec_hk.commands import infer
from encodec_hk.commands import interruption
from encodec_hk.commands import machine

_WARM_UP = 20  # pushes that are not counted


def run(
    config: ml_collections.ConfigDict | None,
    *,
    checkpoint: str | None = None,
    bandwidth: float | None = None,
    frames: int = 750,
    threads: int | None = None,
    out: str | None = None,
) -> int:
    """Times the pushes of a stream encoder and a stream decoder, in turns; prints a table.

    A push is one frame, or one segment of a variant that is cut into segments. Each is timed on its
    own, from samples in numpy to codes in numpy and back.

    Args:
      config: a whole configuration; None for the one in the checkpoint.
      checkpoint: the file of weights; None for the configuration's own, or where that is not there
        for random ones, which take as long.
      bandwidth: kbps; None for the configuration's default.
      frames: pushes to time, each way.
      threads: of the computation, on as many cores; None for all cores.
      out: a JSON file to write the figures to.

    Returns:
      The exit status, 0.

    Raises:
      ValueError: an argument is wrong.
    """
    if frames < 1:
        raise ValueError(f"--frames: got {frames}, must be a whole number above 0")
    _limit(threads)
    codec, weights = _load(config, checkpoint)
    figures = {
        "name": codec.name,
        "weights": weights,
        "kbps": codec.bandwidth if bandwidth is None else bandwidth,
        "machine": machine.processor("model name")[0].rpartition(":")[2].strip(),
        "device": jax.devices()[0].device_kind,
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "jax": jax.__version__,
        **_measure(codec, bandwidth, frames),
    }
    print(_table(figures))
    if out is not None:
        part = part_file.PartFile(out)
        part.file.write((json.dumps(figures, indent=1) + "\n").encode())
        part.commit()
    return 0


def _limit(threads: int | None) -> None:
    """Keeps the process to some cores; before JAX begins, which counts them for its threads."""
    if threads is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("--threads: this system cannot keep a process to some cores")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise ValueError(f"--threads: got {threads}, must be 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[:threads])


def _load(
    config: ml_collections.ConfigDict | None, checkpoint: str | None
) -> tuple[codec_lib.Codec, str]:
    """The codec, and what its weights are."""
    if config is None or checkpoint or _exists(config.checkpoint):
        return infer.load_codec(config, checkpoint), "trained"
    config_lib.validate(config)
    rng = np.random.default_rng(0)

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        width = max(int(np.prod(shape.shape[:-1])), 1) ** -0.5
        return rng.uniform(-width, width, shape.shape).astype(np.float32)

    params: model_lib.Params = jax.tree.map(draw, checkpoint_lib.expected_params(config.model))
    settings = config.inference.to_dict()
    return codec_lib.Codec(config.model, params, name=config.name, **settings), "random"


def _exists(path: str) -> bool:
    return any(pathlib.Path(folder, path).exists() for folder in (".", infer.ROOT))


def _measure(codec: codec_lib.Codec, bandwidth: float | None, frames: int) -> dict[str, Any]:
    """Times pushes, in ms."""
    encoder = codec.stream_encoder(bandwidth)
    decoder = codec.stream_decoder(bandwidth, hold_back=False)
    start = time.perf_counter()
    encoder.warm_up()
    decoder.warm_up()
    compile_seconds = time.perf_counter() - start
    size = codec.framing.stride if codec.has_segments else codec.hop_length
    rng = np.random.default_rng(0)
    first = config_lib.minimum_first_block(codec.model_config) * codec.hop_length
    sound = 0.1 * rng.standard_normal((first + (frames + _WARM_UP) * size, codec.channels))
    sound = sound.astype(np.float32)
    at, times = first, []
    codes = encoder.push(sound[:first])
    decoder.push(codes, encoder.scales)
    for _ in range(frames + _WARM_UP):
        interruption.check()
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


def _table(figures: dict[str, Any]) -> str:
    length = figures["ms_of_a_push"]
    lines = [
        f"{figures['name']}, {figures['kbps']:g} kbps, {figures['weights']} weights; "
        f"{figures['machine']}, threads: {figures['threads']}, jax {figures['jax']}",
        f"compiled in {figures['compile_seconds']:.1f} s; "
        f"{figures['pushes']} pushes of {length:.4g} ms each",
        f"{'':8}{'median':>10}{'99 %':>10}{'real time':>12}",
    ]
    for name in ("encode", "decode"):
        median, late = figures[name]["median_ms"], figures[name]["p99_ms"]
        lines.append(f"{name:8}{median:>7.2f} ms{late:>7.2f} ms{length / median:>10.1f} x")
    return "\n".join(lines)
