"""`run.py bench`: how fast a variant is on this machine, beside others and the machine's limit."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

import encodec_hk
from encodec_hk import checkpoint as checkpoint_lib
from encodec_hk import config as config_lib
from encodec_hk.benchmark import implementations
from encodec_hk.benchmark import layers
from encodec_hk.benchmark import start
from encodec_hk.benchmark import stream
from encodec_hk.benchmark import timing
from encodec_hk.benchmark import timing_tables
from encodec_hk.benchmark import whole
from encodec_hk.commands import checkpoints
from encodec_hk.commands import describe
from encodec_hk.networks import model
from encodec_hk.system import file_paths
from encodec_hk.system import interruption
from encodec_hk.system import machine
from encodec_hk.system import part_file

MEASURES = ("whole", "layers", "stream", "start")
SUFFIXES = (".json", ".md")

_SETTINGS: dict[str, Any] = {  # of a checkpoint that comes without a configuration
    "seconds": (1, 10, 60),
    "batches": (1, 8),
    "max_runs": 7,
    "min_ratios": (),
}


def run(
    config: ml_collections.ConfigDict | None,
    *,
    checkpoint: str | None = None,
    bandwidth: float | None = None,
    measure: Sequence[str] = MEASURES,
    compare: Sequence[str] = (),
    frames: int = 750,
    threads: int | None = None,
    out: str | None = None,
) -> int:
    """Measures, and prints tables; what to measure whole signals on is in `config.bench`.

    Args:
      config: a whole configuration; None for the one in the checkpoint.
      checkpoint: the file of weights; None for the configuration's own, or where that is not there
        for random ones, which take as long.
      bandwidth: kbps; None for the configuration's default.
      measure: of `MEASURES`: whole signals, the layers of a block, pushes of a stream, starts of
        `run.py infer`.
      compare: of `contenders.KINDS`, to time whole signals beside; one that is not there, or has no
        such model, is named and left out.
      frames: pushes to time, each way.
      threads: of the computation, on as many cores; None for all cores.
      out: a .json file for the figures, or an .md file for the tables.

    Returns:
      The exit status: 0; 1 where a ratio is below its floor in `config.bench.min_ratios`.

    Raises:
      ValueError: an argument is wrong.
    """
    _check_names("--measure", measure, MEASURES)
    _check_names("--compare", compare, implementations.KINDS)
    if frames < 1:
        raise ValueError(f"--frames: got {frames}, must be a whole number above 0")
    if out is not None and pathlib.Path(out).suffix not in SUFFIXES:
        raise ValueError(f"--out: got {out}, must end in {' or '.join(SUFFIXES)}")
    settings = _SETTINGS if config is None else config.bench
    config_lib.validate_bench(settings)
    _limit(threads)
    codec, weights = _load(config, checkpoint)
    kbps = codec.bandwidth if bandwidth is None else bandwidth
    count = config_lib.num_codebooks_for(codec.model_config, kbps)
    num_threads = machine.num_cores()
    contenders = {implementations.OURS: implementations.ours(codec, kbps)}
    for kind in compare if "whole" in measure else ():
        try:
            contenders[kind] = implementations.reference(kind, codec, kbps, num_threads)
        except ValueError as error:
            print(f"--compare={kind}: {error}")
    multiply_adds = _multiply_adds(codec, count)
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
        figures["whole"] = []
        for case in whole.measure(
            codec,
            contenders,
            lengths=settings["seconds"],
            batches=settings["batches"],
            max_runs=settings["max_runs"],
            multiply_adds=multiply_adds,
            check=interruption.check,
        ):
            figures["whole"].append(case)
        figures["matrix_multiply_adds"] = max(figures["matrix_multiply_adds"], timing.matrix_peak())
    if "layers" in measure:
        figures["layers"] = [
            layer
            for batch in settings["batches"]
            for layer in layers.measure(
                codec,
                batch=batch,
                num_codebooks=count,
                multiply_adds=multiply_adds,
                check=interruption.check,
            )
        ]
    if "stream" in measure:
        figures["stream"] = stream.measure(codec, kbps, frames=frames, check=interruption.check)
    if "start" in measure:
        run_py = file_paths.ROOT / "run.py"
        figures["start"] = start.measure(codec, run_py, interruption.check)
    print(timing_tables.text(figures))
    if out is not None:
        is_json = out.endswith(".json")
        _write(
            out,
            json.dumps(figures, indent=1) + "\n" if is_json else timing_tables.markdown(figures),
        )
    short = whole.shortfalls(figures.get("whole", []), settings["min_ratios"])
    for line in short:
        print(f"too slow: {line}")
    return 1 if short else 0


def _check_names(flag: str, names: Iterable[str], allowed: Sequence[str]) -> None:
    for name in names:
        if name not in allowed:
            raise ValueError(f"{flag}: got {name!r}, must be of {', '.join(allowed)}")


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
) -> tuple[encodec_hk.Codec, str]:
    """The codec, and what its weights are."""
    if config is None or checkpoint or _exists(config.checkpoint):
        return checkpoints.load_codec(config, checkpoint), "trained"
    config_lib.validate(config)
    rng = np.random.default_rng(0)

    def draw(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        width = max(int(np.prod(shape.shape[:-1])), 1) ** -0.5
        return rng.uniform(-width, width, shape.shape).astype(np.float32)

    params: model.Params = jax.tree.map(draw, checkpoint_lib.expected_params(config.model))
    settings = config.inference.to_dict()
    return encodec_hk.Codec(config.model, params, name=config.name, **settings), "random"


def _exists(path: str) -> bool:
    return any(pathlib.Path(folder, path).exists() for folder in (".", file_paths.ROOT))


def _multiply_adds(codec: encodec_hk.Codec, num_codebooks: int) -> dict[str, float]:
    """Multiply-adds for a frame: of "encode", of "decode", and of each layer."""
    model = codec.model_config
    calls = [call for call in describe.trace(model) if call.multiply_adds]
    share = num_codebooks / model.num_codebooks
    found = {"encode": 0.0, "decode": 0.0}
    for call in calls:
        network, _, rest = call.path.partition("/")
        count = call.multiply_adds / codec.frame_rate * (1 if rest else share)
        name = f"{network}/{rest.split('/')[0]}" if rest else f"{network}.{call.method}"
        found[name] = found.get(name, 0.0) + count
        found["decode" if network == "decoder" else "encode"] += count
    return found


def _write(path: str, text: str) -> None:
    part = part_file.PartFile(path)
    part.file.write(text.encode())
    part.commit()
