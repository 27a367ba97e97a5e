"""Whole signals, of several lengths and in batches: encode and decode, of all contenders in turns.

Shapes: B items, T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk.benchmark import implementations
from encodec_hk.benchmark import timing

_ROUND_SECONDS = 20.0  # no further round of a case begins after so long


def measure(
    codec: encodec_hk.Codec,
    contenders: Mapping[str, implementations.Contender],
    *,
    lengths: tuple[float, ...],
    batches: tuple[int, ...],
    max_runs: int,
    multiply_adds: Mapping[str, float],
    check: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    """Times every length and batch.

    Args:
      codec: ours.
      contenders: all that is timed, ours first, under `contenders.OURS`.
      lengths: seconds of audio.
      batches: items.
      max_runs: rounds at most; 3 at least where a case takes long.
      multiply_adds: of "encode" and "decode", for one frame.
      check: called between runs.

    Yields:
      For each case and direction: direction, seconds, batch; runs, their seconds by contender;
      median of them; ratio, how many times longer each reference took than ours; real_time, how
      many times faster than the sound ours was; memory in bytes by contender; multiply_adds.
    """
    rng = np.random.default_rng(0)
    for batch in batches:
        for seconds in sorted(lengths):
            audio = _sound(rng, codec, batch, seconds)
            rounds = {name: _Round(contender, audio) for name, contender in contenders.items()}
            for name, contender in contenders.items():
                if contender.compiles_lengths or seconds == min(lengths):
                    check()
                    rounds[name].encode()
                    rounds[name].decode()
            calls: dict[str, dict[str, Callable[[], object]]] = {
                "encode": {name: each.encode for name, each in rounds.items()},
                "decode": {name: each.decode for name, each in rounds.items()},
            }
            frames = sum(codec.framing.frames(audio.shape[1]))
            for direction, by_name in calls.items():
                runs = timing.in_turns(
                    by_name, max_runs=max_runs, seconds=_ROUND_SECONDS, check=check
                )
                yield _case(direction, seconds, batch, runs) | {
                    "multiply_adds": multiply_adds[direction] * frames * batch
                }


class _Round:
    """A contender on one signal: what it has encoded is what it decodes."""

    def __init__(self, contender: implementations.Contender, audio: np.ndarray):
        self._contender = contender
        self._audio = audio
        self._encoded: Any = None

    def encode(self) -> object:
        self._encoded = self._contender.encode(self._audio)
        return None

    def decode(self) -> object:
        return self._contender.decode(self._encoded)


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


def _sound(
    rng: np.random.Generator, codec: encodec_hk.Codec, batch: int, seconds: float
) -> np.ndarray:
    """Noise, float32 [B, T, C]."""
    shape = (batch, round(seconds * codec.sample_rate), codec.channels)
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


def shortfalls(
    cases: list[dict[str, Any]], floors: tuple[tuple[str, str, float, int, float], ...]
) -> list[str]:
    """A line for each case whose ratio is below its floor.

    Args:
      cases: of `measure`.
      floors: (reference, direction, seconds, batch, least ratio); those of what was not measured
        say nothing.
    """
    lines = []
    for kind, direction, seconds, batch, least in floors:
        for case in cases:
            here = (case["direction"], case["seconds"], case["batch"])
            found = case["ratio"].get(kind)
            if here == (direction, seconds, batch) and found is not None and found < least:
                lines.append(
                    f"{direction} {seconds:g} s x {batch}: {found:.2f} times as fast as {kind}, "
                    f"must be at least {least:g}"
                )
    return lines
