"""`run.py bench`: speed of a variant on this machine, beside others and the machine's limit."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections

from encodec_hk import config
from encodec_hk.benchmark import implementations
from encodec_hk.benchmark import measurements
from encodec_hk.benchmark import timing
from encodec_hk.benchmark import timing_tables
from encodec_hk.commands import checkpoints
from encodec_hk.configs import base
from encodec_hk.networks import cost
from encodec_hk.system import extras
from encodec_hk.system import invocation
from encodec_hk.system import machine
from encodec_hk.system import part_file
from encodec_hk.system import rules

MEASURES = ("whole", "layers", "stream", "start")  # the default
_ALL_MEASURES = (*MEASURES, "tokenize")
SUFFIXES = (".json", ".md")


def run(
    variant: ml_collections.ConfigDict | None,
    *,
    checkpoint: str | None = None,
    bandwidth: float | None = None,
    measure: Sequence[str] = MEASURES,
    compare: Sequence[str] = (),
    frames: int = 750,
    threads: int | None = None,
    out: str | None = None,
) -> int:
    """Measure and print tables; `config.bench` holds lengths, batch sizes and minimum ratios.

    Args:
      variant: None to use the checkpoint's model and the default `bench`.
      checkpoint: a checkpoint file; None for the configuration's own. If that does not exist, the
        weights are random, which are as fast.
      bandwidth: kbps; None for the configuration's default.
      measure: whole signals, the layers of a block, pushes of a stream, starts of `run.py infer`,
        data sets made by `run.py tokenize`: some of "whole", "layers", "stream", "start" and
        "tokenize".
      compare: some of `implementations.KINDS`, to time on the same whole signals. One that is not
        installed or has no such network is reported and skipped.
      frames: pushes to time in each direction.
      threads: cores, and threads of the computation; None for all cores.
      out: a .json file for the figures, or an .md file for the tables.

    Returns:
      The exit status: 0; 1 if a ratio is below its minimum in `config.bench.min_ratios`.

    Raises:
      ValueError: if an argument is wrong.
    """
    for flag, names, allowed in (
        ("--measure", measure, _ALL_MEASURES),
        ("--compare", compare, implementations.KINDS),
    ):
        for name in names:
            if name not in allowed:
                raise rules.error(flag, name, f"one of {', '.join(allowed)}")
    if frames < 1:
        raise rules.error("--frames", frames, "a whole number above 0")
    if out is not None and pathlib.Path(out).suffix not in SUFFIXES:
        raise ValueError(f"--out: got {out}, must end in {' or '.join(SUFFIXES)}")
    settings = (base.get_config() if variant is None else variant).bench
    config.validate_bench(settings)
    if threads is not None:
        machine.limit_cores(threads, field="--threads")
    if variant is None or checkpoint or checkpoints.own_file(variant.checkpoint):
        codec, weights = checkpoints.load_codec(variant, checkpoint), "trained"
    else:
        codec, weights = implementations.random_codec(variant), "random"
    codec.check_encoder()
    kbps = codec.bandwidth if bandwidth is None else bandwidth
    num_codebooks = config.num_codebooks_for(codec.model_config, kbps)
    num_threads = machine.num_cores()
    contenders = {implementations.OURS: implementations.ours(codec, kbps)}
    for kind in compare if "whole" in measure else ():
        try:
            contenders[kind] = implementations.build(kind, codec, kbps, num_threads=num_threads)
        except ValueError as error:
            print(f"--compare={kind}: {error}")
    multiply_adds = cost.multiply_adds_per_frame(codec.model_config, num_codebooks)
    figures: dict[str, Any] = {
        "name": codec.name,
        "weights": weights,
        "kbps": kbps,
        "machine": machine.processor("model name")[0].rpartition(":")[2].strip(),
        "device": jax.devices()[0].device_kind,
        "threads": num_threads,
        "versions": implementations.versions(tuple(contenders)[1:]),
        "block_seconds": codec.block_frames / codec.frame_rate,
    }
    if {"whole", "layers"} & set(measure):
        figures["matrix_multiply_adds"] = timing.matrix_peak()
    if "whole" in measure:
        cases = measurements.whole(
            codec,
            contenders,
            lengths=settings.seconds,
            batches=settings.batches,
            max_runs=settings.max_runs,
            multiply_adds=multiply_adds,
        )
        figures["whole"] = list(cases)
        figures["matrix_multiply_adds"] = max(figures["matrix_multiply_adds"], timing.matrix_peak())
    if "layers" in measure:
        figures["layers"] = [
            layer
            for batch in settings.batches
            for layer in measurements.layers(
                codec, batch=batch, num_codebooks=num_codebooks, multiply_adds=multiply_adds
            )
        ]
    if "stream" in measure:
        figures["stream"] = measurements.stream(codec, kbps, frames=frames)
    if "start" in measure:
        figures["start"] = measurements.start(codec, invocation.to_start())
    if "tokenize" in measure:
        extras.require("pyarrow", "tokens")
        from encodec_hk.benchmark import tokenizing

        figures["tokenize"] = tokenizing.measure(codec, kbps)
    print(timing_tables.text(figures))
    if out is not None:
        is_json = out.endswith(".json")
        text = json.dumps(figures, indent=1) + "\n" if is_json else timing_tables.markdown(figures)
        part_file.write(out, text.encode())
    too_slow = timing_tables.shortfalls(figures.get("whole", []), settings.min_ratios)
    for line in too_slow:
        print(f"too slow: {line}")
    return 1 if too_slow else 0
