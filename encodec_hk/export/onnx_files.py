"""A folder of ONNX files of a codec: what `run.py export --format=onnx` writes."""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import encodec_hk
from encodec_hk.export import model_facts
from encodec_hk.export import onnx_graph
from encodec_hk.export import onnx_networks

MANIFEST = "stream.json"

_NOT_CAUSAL = "the network looks ahead: it takes whole signals"


def write(
    codec: encodec_hk.Codec,
    folder: pathlib.Path,
    facts: dict[str, Any],
    num_codebooks: int | None = None,
) -> None:
    """Write a codec into an empty folder.

    Args:
      codec: the codec. A network that is causal is written for streams too.
      folder: the folder.
      facts: of the codec, as `model_facts.facts` returns them; they go into every file.
      num_codebooks: of the encoder's codes; None makes it an input of the encoder.

    Raises:
      ValueError: the package onnx is not installed.
    """
    model_config = codec.model_config
    entries: dict[str, Any] = {"encoder": None}
    if codec.has_encoder:
        build = functools.partial(
            onnx_networks.build_encoder, model_config=model_config, num_codebooks=num_codebooks
        )
        entries["encoder"] = {"num_codebooks": num_codebooks, **_stream(codec, "encoder")}
        _write_network(codec, folder, facts, "encoder", entries["encoder"], build)
    build = functools.partial(onnx_networks.build_decoder, model_config=model_config)
    entries["decoder"] = _stream(codec, "decoder")
    _write_network(codec, folder, facts, "decoder", entries["decoder"], build)
    model_facts.write(folder / MANIFEST, {**facts, **entries})


def _stream(codec: encodec_hk.Codec, network: str) -> dict[str, Any]:
    """Return what the manifest says about streams of a network."""
    if not model_facts.is_causal(codec, network):
        return {"streams": False, "why_not": _NOT_CAUSAL}
    return {"streams": True, **model_facts.stream(codec, network)}


def _write_network(
    codec: encodec_hk.Codec,
    folder: pathlib.Path,
    facts: dict[str, Any],
    network: str,
    entry: dict[str, Any],
    build: Callable[[onnx_graph.Graph], None],
) -> None:
    """Write the graphs and the parameters of a network; add its states to its entry."""
    weights = onnx_graph.Weights(f"{network}.weights")
    kinds: tuple[onnx_graph.Kind, ...] = ("whole", "start", "step")
    graphs = {}
    for kind in kinds if entry["streams"] else kinds[:1]:
        graph = onnx_graph.Graph(codec.params, weights, kind)
        build(graph)
        graphs[network if kind == "whole" else f"{network}_{kind}"] = graph
    if entry["streams"]:
        entry["states"] = [
            {"name": name, "shape": ["batch", *shape]}
            for name, shape in graphs[f"{network}_step"].states.items()
        ]
    metadata = {**facts, network: entry}
    strings = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
    }
    for name, graph in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph.model(name, strings))
    weights.write(folder)
