"""Exported networks under ONNX Runtime, as implementations to time.

Shapes: B items, T samples, C channels, K codebooks, F frames.
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import numpy as np

import encodec_hk
from encodec_hk.convert import pytorch_codecs
from encodec_hk.convert import pytorch_onnx
from encodec_hk.export import model_facts
from encodec_hk.export import onnx_files
from encodec_hk.system import extras

KINDS = ("onnxruntime", "transformers_onnx")


def build(
    kind: str, codec: encodec_hk.Codec, bandwidth: float, *, num_threads: int
) -> pytorch_codecs.Contender:
    """Return an implementation with a codec's weights, at a bandwidth in kbps, on the CPU.

    `kind` is one of `KINDS`: the files of `run.py export --format=onnx`, or those that PyTorch
    writes of transformers' network.

    Raises:
      ValueError: a package is not installed, or the codec cuts signals into segments, or
        transformers has no such network.
    """
    runtime = extras.require("onnxruntime", "onnx")
    if codec.framing.has_segments:
        raise ValueError("a model that cuts signals into segments is not timed under ONNX Runtime")
    with tempfile.TemporaryDirectory(prefix="encodec_hk-") as name:
        folder = pathlib.Path(name)
        if kind == "transformers_onnx":
            pytorch_onnx.write(codec, bandwidth, folder)
        else:
            count = codec.count_codebooks(bandwidth, None)
            onnx_files.write(codec, folder, model_facts.facts(codec, ""), count)
        encoder, decoder = (
            _session(runtime, folder / f"{network}.onnx", num_threads)
            for network in ("encoder", "decoder")
        )

    def encode(audio: np.ndarray) -> np.ndarray:
        return encoder.run(["codes"], {"audio": np.ascontiguousarray(audio.swapaxes(1, 2))})[0]

    def decode(codes: np.ndarray) -> np.ndarray:
        return decoder.run(["audio"], {"codes": codes})[0]

    return pytorch_codecs.Contender(encode, decode)


def _session(runtime: Any, path: pathlib.Path, num_threads: int) -> Any:
    """Load a file, with all that it names, to run on so many threads."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Threads that wait for the next call would slow down whoever is timed after this one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
