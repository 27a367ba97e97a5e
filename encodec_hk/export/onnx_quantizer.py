"""Residual vector quantisation as ONNX operators; see `networks.quantizer`.

Shapes: B rows, F frames, K codebooks in use, N entries of a codebook, D latent channels.
"""

from __future__ import annotations

import numpy as np

from encodec_hk.export import onnx_graph
from encodec_hk.networks import quantizer

Graph = onnx_graph.Graph
Value = onnx_graph.Value


def encode(graph: Graph, latents: Value, count: Value) -> Value:
    """Quantise latents [B, D, F] with `count` codebooks -> codes [B, K, F].

    The codebooks are in a loop, so that each call may choose how many it takes. A loop of eight
    costs a single frame 0.25 ms more than eight stages in a row, ten frames or more nothing.
    Distances are computed as in `networks.quantizer.encode`, because rounding decides near-ties.
    """
    codebooks = graph.param("codebooks")
    books = graph.weight("codebooks", codebooks)
    squares = graph.weight("squares", quantizer.energies(codebooks)[:, None])
    rows = graph.op("Transpose", latents, perm=[0, 2, 1])
    channels = codebooks.shape[-1]
    vectors = graph.op("Reshape", rows, graph.constant([-1, channels]))  # [B * F, D]

    stage = graph.subgraph()
    with stage.layer("stage"):
        index = stage.input("codebook", (), np.int64)
        goes_on = stage.input("goes_on", (), np.bool_)
        residual = stage.input("residual", ("vectors", channels))
        book = stage.op("Gather", books, index)  # [N, D]
        product = stage.op("Gemm", residual, book, alpha=-2.0, transB=1)
        energy = stage.op("ReduceSumSquare", residual, stage.constant([1]))
        distance = stage.op("Add", energy, product)
        distance = stage.op("Add", distance, stage.op("Gather", squares, index))
        codes = stage.op("ArgMin", distance, axis=1, keepdims=0)  # of equal ones the first
        rest = stage.op("Sub", residual, stage.op("Gather", book, codes))
        stage.output("still_goes_on", goes_on, (), np.bool_)
        stage.output("rest", rest, ("vectors", channels))
        stage.output("stage_codes", codes, ("vectors",), np.int64)
    go_on = graph.constant(True, np.bool_)
    _, codes = graph.ops("Loop", count, go_on, vectors, outputs=2, body=stage.body("stage"))

    sizes = [graph.op("Shape", latents, start=at, end=at + 1) for at in (0, 2)]
    shape = graph.op("Concat", graph.constant([-1]), *sizes, axis=0)
    return graph.op("Transpose", graph.op("Reshape", codes, shape), perm=[1, 0, 2])


def decode(graph: Graph, codes: Value) -> Value:
    """Return the latents [B, D, F] of codes [B, K, F]: the sum of their entries."""
    codebooks = graph.param("codebooks")
    stages, entries, channels = codebooks.shape
    books = graph.weight("codebooks", codebooks.reshape(stages * entries, channels))
    starts = graph.constant(np.arange(stages)[:, None] * entries)
    starts = graph.slice(starts, 0, graph.op("Shape", codes, start=1, end=2), axis=0)
    vectors = graph.op("Gather", books, graph.op("Add", codes, starts))  # [B, K, F, D]
    latents = graph.op("ReduceSum", vectors, graph.constant([1]), keepdims=0)
    return graph.op("Transpose", latents, perm=[0, 2, 1])
