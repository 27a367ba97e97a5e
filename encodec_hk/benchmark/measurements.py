"""The four measurements: whole signals, layers of a block, pushes of a stream, starts of `infer`.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import soundfile

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk.benchmark import implementations
from encodec_hk.benchmark import timing
from encodec_hk.convert import pytorch_codecs
from encodec_hk.networks import quantizer
from encodec_hk.networks import reach
from encodec_hk.system import interruption

_CASE_SECONDS = 20.0  # after which no further round of a case starts
_LAYER_SECONDS = 2.0
_WARM_UP = 20  # pushes that are not counted
_LATER = 3  # starts after the first


def whole(
    codec: encodec_hk.Codec,
    contenders: Mapping[str, pytorch_codecs.Contender],
    *,
    lengths: tuple[float, ...],
    batches: tuple[int, ...],
    max_runs: int,
    multiply_adds: Mapping[str, float],
) -> Iterator[dict[str, Any]]:
    """Time the contenders in turns on every length and batch size.

    Args:
      codec: our codec.
      contenders: the implementations to time by name, ours as `implementations.OURS`.
      lengths: seconds of audio.
      batches: numbers of items.
      max_runs: maximum number of rounds; slow cases get at least 3.
      multiply_adds: per frame, by direction ("encode", "decode").

    Yields:
      For each case: direction, seconds, batch; runs (seconds of each, by contender); median (by
      contender); ratio (time of each reference relative to ours); real_time (seconds of audio per
      second of our codec); memory (bytes, by contender); multiply_adds.
    """
    encoded: dict[str, Any] = {}

    def encode(name: str, audio: np.ndarray) -> None:
        encoded[name] = contenders[name].encode(audio)

    def decode(name: str) -> object:
        return contenders[name].decode(encoded[name])

    for batch in batches:
        for seconds in sorted(lengths):
            audio = _noise(batch, round(seconds * codec.sample_rate), codec.channels)
            calls: dict[str, dict[str, Callable[[], object]]] = {
                "encode": {name: functools.partial(encode, name, audio) for name in contenders},
                "decode": {name: functools.partial(decode, name) for name in contenders},
            }
            for name, contender in contenders.items():
                if contender.compiles_lengths or seconds == min(lengths):
                    interruption.check()
                    calls["encode"][name]()
                    calls["decode"][name]()
            frames = sum(codec.framing.frames(audio.shape[1]))
            for direction, by_name in calls.items():
                timed = timing.in_turns(by_name, max_runs=max_runs, seconds=_CASE_SECONDS)
                median = {name: each.median for name, each in timed.items()}
                own = median[implementations.OURS]
                yield {
                    "direction": direction,
                    "seconds": seconds,
                    "batch": batch,
                    "runs": {name: each.seconds for name, each in timed.items()},
                    "median": median,
                    "ratio": {
                        name: m / own for name, m in median.items() if name != implementations.OURS
                    },
                    "real_time": batch * seconds / own,
                    "memory": {name: each.memory for name, each in timed.items()},
                    "multiply_adds": multiply_adds[direction] * frames * batch,
                }


def layers(
    codec: encodec_hk.Codec, *, batch: int, num_codebooks: int, multiply_adds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Time the layers on one block of noise, each compiled alone, on the output of the one before.

    The sum is not the time of the block: alone, a layer is not fused with its neighbours, and it
    reads and writes its activations once more.

    The block has `batch` rows; `multiply_adds` are per frame, by layer name ("encoder/stage_0").

    Returns:
      For each layer its name, batch, seconds (the median) and multiply_adds.
    """
    frames = codec.block_frames
    x = jnp.asarray(_noise(batch, frames * codec.hop_length, codec.channels))
    start = jnp.zeros((batch,), jnp.int32)
    if codec.model.encoder_state(1) is not None:
        start -= 1000 * x.shape[1]  # the block is not the first of its rows
    found = []

    def add(name: str, function: Callable[..., jax.Array], *args: Any) -> jax.Array:
        call = functools.partial(jax.jit(function).lower(*args).compile(), *args)
        y: jax.Array = jax.block_until_ready(call())
        timed = timing.in_turns({"": call}, max_runs=25, seconds=_LAYER_SECONDS)[""]
        work = multiply_adds.get(name, 0.0) * frames * batch
        found.append({"name": name, "batch": batch, "seconds": timed.median, "multiply_adds": work})
        return y

    def add_network(network: str, x: jax.Array) -> jax.Array:
        for index, name in enumerate(codec.model.layer_names(network)):
            layer = functools.partial(codec.model.layer_block, network=network, index=index)
            x = add(f"{network}/{name}", layer, codec.params, x, start)
        return x

    def encode(codebooks: jax.Array, x: jax.Array, energies: jax.Array) -> jax.Array:
        return quantizer.encode(codebooks, x, num_codebooks, energies)

    latents = add_network("encoder", x)
    codebooks = codec.params["quantizer"]["codebooks"]
    energies = jnp.asarray(quantizer.energies(np.asarray(codebooks)))
    codes = add("quantizer.encode", encode, codebooks, latents, energies)
    add_network("decoder", add("quantizer.decode", quantizer.decode, codebooks, codes))
    return found


def stream(codec: encodec_hk.Codec, bandwidth: float, *, frames: int) -> dict[str, Any]:
    """Time pushes of single frames, or of single segments for variants with segments.

    An encoder and a decoder are timed in turns, from numpy to numpy, `frames` pushes each.

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
    first = max(reach.minimum_first_blocks(codec.model_config)) * codec.hop_length
    noise = _noise(1, first + (frames + _WARM_UP) * size, codec.channels)[0]
    decoder.push(encoder.push(noise[:first]))
    times = []
    for at in range(first, len(noise), size):
        interruption.check()
        start = time.perf_counter()
        codes = encoder.push(noise[at : at + size])
        between = time.perf_counter()
        decoder.push(codes)
        times.append((between - start, time.perf_counter() - between))
    counted = 1000 * np.array(times[_WARM_UP:])
    medians, late = np.median(counted, axis=0).tolist(), np.percentile(counted, 99, axis=0).tolist()
    return {
        "ms_of_a_push": 1000 * size / codec.sample_rate,
        "pushes": frames,
        "compile_seconds": compile_seconds,
        "encode": {"median_ms": medians[0], "p99_ms": late[0]},
        "decode": {"median_ms": medians[1], "p99_ms": late[1]},
    }


def start(codec: encodec_hk.Codec, program: Sequence[str]) -> dict[str, float]:
    """Time `infer` on 2 s of noise, from the start of the process to its end.

    Args:
      codec: what the processes load.
      program: the command that starts the program, word by word.

    Returns:
      first: seconds with an empty compilation cache; second: the median of three later starts.

    Raises:
      ValueError: if the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
        folder = pathlib.Path(name)
        checkpoint.save(
            folder / "weights.safetensors",
            jax.tree.map(np.asarray, codec.params),
            codec.model_config,
            name=codec.name,
            source=codec.source,
            source_sha256="",
            licence="",
        )
        noise = _noise(1, 2 * codec.sample_rate, codec.channels)[0]
        soundfile.write(folder / "noise.wav", noise, codec.sample_rate)
        command = [*program, "infer", "noise.wav", "out.wav", "--force"]
        command.append("--checkpoint=weights.safetensors")
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        times = []
        for _ in range(1 + _LATER):
            interruption.check()
            start = time.perf_counter()
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise ValueError(f"infer: {done.stderr.strip()}")
            times.append(time.perf_counter() - start)
    return {"first": times[0], "second": float(np.median(times[1:]))}


def _noise(batch: int, samples: int, channels: int) -> np.ndarray:
    """Return noise, float32 [B, T, C]."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((batch, samples, channels))).astype(np.float32)
