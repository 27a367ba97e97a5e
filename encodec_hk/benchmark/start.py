"""Time of `run.py infer` on a short file, from the start of the process to its end."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import soundfile

import encodec_hk
from encodec_hk import checkpoint
from encodec_hk.system import interruption

_LATER = 3  # starts after the first


def measure(codec: encodec_hk.Codec, run_py: pathlib.Path) -> dict[str, float]:
    """Time the command on 2 s of noise.

    Args:
      codec: the codec whose weights the command loads.
      run_py: path of the command.

    Returns:
      first: seconds with an empty compilation cache; second: the median of three later starts.

    Raises:
      ValueError: if the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
        folder = pathlib.Path(name)
        weights = folder / "weights.safetensors"
        checkpoint.save(
            weights,
            jax.tree.map(np.asarray, codec.params),
            codec.model_config,
            name=codec.name,
            source=codec.source,
            source_sha256="",
            licence="",
        )
        shape = (2 * codec.sample_rate, codec.channels)
        noise = 0.1 * np.random.default_rng(0).standard_normal(shape)
        soundfile.write(folder / "noise.wav", noise, codec.sample_rate)
        command = [sys.executable, str(run_py), "infer", "noise.wav", "out.wav", "--force"]
        command.append(f"--checkpoint={weights}")
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        times = []
        for _ in range(1 + _LATER):
            interruption.check()
            start = time.perf_counter()
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise ValueError(f"run.py infer: {done.stderr.strip()}")
            times.append(time.perf_counter() - start)
    return {"first": times[0], "second": float(np.median(times[1:]))}
