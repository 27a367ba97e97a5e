"""Times to encode and decode whole signals of several lengths and batch sizes.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk.benchmark import implementations
from encodec_hk.benchmark import timing
from encodec_hk.system import interruption

_CASE_SECONDS = 20.0  # time after which no further round of a case starts


def measure(
    codec: encodec_hk.Codec,
    contenders: Mapping[str, implementations.Contender],
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
    rng = np.random.default_rng(0)
    for batch in batches:
        for seconds in sorted(lengths):
            shape = (batch, round(seconds * codec.sample_rate), codec.channels)
            audio = (0.1 * rng.standard_normal(shape)).astype(np.float32)
            calls = _calls(contenders, audio)
            for name, contender in contenders.items():
                if contender.compiles_lengths or seconds == min(lengths):
                    interruption.check()
                    calls["encode"][name]()
                    calls["decode"][name]()
            frames = sum(codec.framing.frames(audio.shape[1]))
            for direction, by_name in calls.items():
                runs = timing.in_turns(by_name, max_runs=max_runs, seconds=_CASE_SECONDS)
                yield _case(direction, seconds, batch, runs) | {
                    "multiply_adds": multiply_adds[direction] * frames * batch
                }


def _calls(
    contenders: Mapping[str, implementations.Contender], audio: np.ndarray
) -> dict[str, dict[str, Callable[[], object]]]:
    """Return encode and decode of each contender; decode takes what it encoded last."""
    encoded = {}

    def encode(name: str) -> None:
        encoded[name] = contenders[name].encode(audio)

    def decode(name: str) -> object:
        return contenders[name].decode(encoded[name])

    return {
        "encode": {name: functools.partial(encode, name) for name in contenders},
        "decode": {name: functools.partial(decode, name) for name in contenders},
    }


def _case(
    direction: str, seconds: float, batch: int, runs: Mapping[str, list[timing.TimedRun]]
) -> dict[str, Any]:
    median = {name: timing.median(found) for name, found in runs.items()}
    own = median[implementations.OURS]
    return {
        "direction": direction,
        "seconds": seconds,
        "batch": batch,
        "runs": {name: [run.seconds for run in found] for name, found in runs.items()},
        "median": median,
        "ratio": {name: m / own for name, m in median.items() if name != implementations.OURS},
        "real_time": batch * seconds / own,
        "memory": {name: timing.memory(found) for name, found in runs.items()},
    }


def shortfalls(
    cases: Sequence[Mapping[str, Any]], min_ratios: Sequence[tuple[str, str, float, int, float]]
) -> list[str]:
    """Return a line for each case whose ratio is below its minimum.

    Args:
      cases: yielded by `measure`.
      min_ratios: (reference, direction, seconds, batch, minimum ratio); ignored where no case
        matches.
    """
    lines = []
    for kind, direction, seconds, batch, minimum in min_ratios:
        for case in cases:
            here = (case["direction"], case["seconds"], case["batch"])
            found = case["ratio"].get(kind)
            if here == (direction, seconds, batch) and found is not None and found < minimum:
                lines.append(
                    f"{direction} {seconds:g} s x {batch}: {found:.2f} times as fast as {kind}, "
                    f"must be at least {minimum:g}"
                )
    return lines
