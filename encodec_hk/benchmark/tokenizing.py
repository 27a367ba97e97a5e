"""How much of the rate of encoding is left when a data set is made from files."""

from __future__ import annotations

import contextlib
import json
import pathlib
import tempfile
import time
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk.sound import file_formats
from encodec_hk.sound import sound_files
from encodec_hk.system import interruption
from encodec_hk.tokens import device_loop
from encodec_hk.tokens import shard_work
from encodec_hk.tokens import tokenize_job
from encodec_hk.tokens import tokenizer

FORMATS = (".flac", ".mp3")
_MUSIC = 44100, 2  # Hz and channels of the files of music
_SECONDS = 10.0  # of a file
_DISTINCT = 16  # files; a manifest names them again and again
_ROUNDS = 5
_MOST_ITEMS = 20_000


def measure(
    codec: encodec_hk.Codec, bandwidth: float, *, target: float = 10.0
) -> list[dict[str, Any]]:
    """Time `tokenize` of files in turns with `Codec.encode` of as much audio in memory.

    The files are stereo of 44.1 kHz, as music is, and of the model's own rate and channels, as
    prepared speech is. Both run full batches of items of 10 s. The start of the readers counts,
    compilation does not. The speed of a machine changes from minute to minute: each run of
    `tokenize` is compared with the encoding right before and after it.

    Args:
      codec: the codec.
      bandwidth: kbps.
      target: seconds that each run should take, about.

    Returns:
      For each kind of file: format, sample_rate (Hz), channels, batch, items, readers; the medians
      of encode and tokenize (seconds of audio a second), of their ratios, and of device_waited
      (share of the time).
    """
    places = device_loop.places_of(codec)
    readers = tokenizer.default_readers()
    noise = _sound(round(_SECONDS * codec.sample_rate), codec.channels, 0)
    batch = np.stack([noise] * places)

    def encode(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            codec.encode(batch, bandwidth)
        return times * places * _SECONDS / (time.perf_counter() - start)

    encode(1)
    speed = encode(1)
    batches = max(3, round(speed * target / (places * _SECONDS)))
    items = min(places * batches, _MOST_ITEMS)
    few = -(-batches // 4)
    found = []
    with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
        folder = pathlib.Path(name)
        for suffix, rate, channels in _kinds(codec):
            manifest = _write(folder, suffix, rate, channels, items)
            alone, whole, waited = [encode(few)], [], []
            for turn in range(_ROUNDS):
                interruption.check()
                output = folder / f"{manifest.stem}_{turn}"
                own, own_waited = _tokenize(codec, bandwidth, manifest, output, readers)
                whole.append(own)
                waited.append(own_waited)
                alone.append(encode(few))
            beside = (np.array(alone[:-1]) + alone[1:]) / 2
            found.append(
                {
                    "format": suffix,
                    "sample_rate": rate,
                    "channels": channels,
                    "batch": places,
                    "items": items,
                    "readers": readers,
                    "encode": float(np.median(alone)),
                    "tokenize": float(np.median(whole)),
                    "ratio": float(np.median(np.array(whole) / beside)),
                    "device_waited": float(np.median(waited)),
                }
            )
    return found


def _kinds(codec: encodec_hk.Codec) -> list[tuple[str, int, int]]:
    """Return the suffixes, sample rates in Hz and channels of the files."""
    found = []
    for rate, channels in dict.fromkeys([_MUSIC, (codec.sample_rate, codec.channels)]):
        for suffix in FORMATS:
            with contextlib.suppress(ValueError):  # MP3 does not hold every rate
                file_formats.check_writable(f"sound{suffix}", rate, channels)
                found.append((suffix, rate, channels))
    return found


def _write(folder: pathlib.Path, suffix: str, rate: int, channels: int, items: int) -> pathlib.Path:
    """Write files and a manifest of so many items; return the manifest."""
    name = f"{suffix[1:]}_{rate}_{channels}"
    for index in range(_DISTINCT):
        samples = _sound(round(_SECONDS * rate), channels, index)
        sound_files.write(folder / f"{name}_{index}{suffix}", samples, rate)
    manifest = folder / f"{name}.jsonl"
    entries = (
        {
            "path": f"{name}_{index % _DISTINCT}{suffix}",
            "id": f"{index:06}",
            "duration": _SECONDS,
        }
        for index in range(items)
    )
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return manifest


def _tokenize(
    codec: encodec_hk.Codec,
    bandwidth: float,
    manifest: pathlib.Path,
    output: pathlib.Path,
    readers: int,
) -> tuple[float, float]:
    """Return seconds of audio a second, and the share of the time that the device waited."""
    options = tokenize_job.TokenizeOptions(bandwidth=bandwidth)
    job = tokenize_job.TokenizeJob(codec, str(manifest), str(output), options)
    own = job.tokenizer(shard_work.ErrorLimit("0"), num_readers=readers)
    last: list[device_loop.Progress] = []

    def keep(progress: device_loop.Progress) -> None:
        last[:] = [progress]

    own.run(range(job.plan.num_shards), lambda result: None, keep)
    return last[0].seconds / last[0].elapsed, last[0].device_waited


def _sound(samples: int, channels: int, seed: int) -> np.ndarray:
    """Return tones with noise, float32 [T, C], which codecs of files neither like nor dislike."""
    rng = np.random.default_rng(seed)
    times = np.arange(samples)[:, None] / samples
    tones = sum(np.sin(2 * np.pi * 2000 * k * times * (1 + 0.1 * times)) / k for k in range(1, 6))
    noise = rng.standard_normal((samples, channels))
    return (0.1 * tones + 0.01 * noise).astype(np.float32)
