"""ConvNeXt blocks and what else the networks of spectra share, as ONNX operators.

Shapes: B rows, F frames, C channels.
"""

from __future__ import annotations

import numpy as np

from encodec_hk.export import onnx_graph
from encodec_hk.export import onnx_layers

Graph = onnx_graph.Graph
Value = onnx_graph.Value

EPSILON = 1e-6  # of the norms


def adaptive_norm(graph: Graph, x: Value, norm: Value) -> Value:
    """Normalise x [B, F, C] over its channels, with one of several scales and offsets."""
    with graph.layer("norm"):
        chosen = [
            graph.op("Gather", graph.weight(name, graph.param(name)), norm)
            for name in ("scale", "offset")
        ]
        return graph.op("LayerNormalization", x, *chosen, axis=-1, epsilon=EPSILON)


def block(graph: Graph, x: Value, norm: Value, causal: bool) -> Value:
    """Map x [B, F, C] -> [B, F, C], as `networks.convnext.ConvNeXt`."""
    with graph.layer("depthwise"):
        weight = graph.param("w")
        kernel, channels = weight.shape
        right = 0 if causal else kernel // 2
        y = graph.op("Transpose", x, perm=[0, 2, 1])
        y, pads = onnx_layers.pad(graph, y, channels, kernel - 1 - right, right, 1, "constant")
        y = graph.op(
            "Conv",
            y,
            graph.weight("w", weight.T[:, None]),
            graph.weight("b", graph.param("b")),
            kernel_shape=[kernel],
            group=channels,
            pads=pads,
        )
        y = graph.op("Transpose", y, perm=[0, 2, 1])
    y = adaptive_norm(graph, y, norm)
    y = graph.op("Gelu", linear(graph, "linear_0", y))
    y = linear(graph, "linear_1", y, gain=graph.param("gamma"))
    return graph.op("Add", x, y)


def linear(graph: Graph, name: str, x: Value, gain: float | np.ndarray = 1.0) -> Value:
    """Return x [B, F, C] times a matrix, plus an offset, times a gain that they absorb."""
    with graph.layer(name):
        w, b = (
            graph.weight(key, np.asarray(gain * graph.param(key), np.float32)) for key in ("w", "b")
        )
        return graph.op("Add", graph.op("MatMul", x, w), b)
