"""A Vocos decoder as ONNX operators; see `networks.vocos`.

The inverse Fourier transform is a product with the windowed waves of all frequencies, as runtimes
have no inverse of real spectra. A stream keeps the windows that go on after its block, added up,
and the sums of their squares:

    windows   |--------|--------|--------|--------|
                       |--------|--------|--------|--------|
              |- audio of the block -----|- kept for the next -|

Shapes: B rows, F frames, D latent channels, C channels, K codebooks, T = F * hop samples.
"""

from __future__ import annotations

import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.export import onnx_convnext
from encodec_hk.export import onnx_graph
from encodec_hk.export import onnx_layers

Graph = onnx_graph.Graph
Value = onnx_graph.Value

_LARGEST = 100.0  # magnitude or gain
_TINY = 1e-9  # of a squared window, where there is no audio


def build(
    graph: Graph, latents: Value, codes: Value, model_config: ml_collections.ConfigDict
) -> Value:
    """Map latents [B, D, F] of codes [B, K, F] to audio [B, 1, T].

    In a stream, the audio lags by (n_fft - hop) / 2 samples; those that remain if it ends with the
    block are another output, `rest`.
    """
    vocos = model_config.vocos
    options = onnx_layers.ConvOptions(vocos.causal, norm="none", pad_mode="constant")
    count = graph.op("Shape", codes, start=1, end=2)
    index = graph.op("Sub", count, graph.constant([1]))
    norms = graph.constant(config.vocos_norms(model_config))
    norm = graph.op("Squeeze", graph.op("Gather", norms, index))

    with graph.layer("embed"):
        with graph.layer("conv"):
            x = onnx_layers.conv(graph, latents, options, activate=False)
        x = onnx_convnext.adaptive_norm(
            graph, graph.op("Transpose", x, perm=[0, 2, 1]), norm
        )  # [B, F, C]
    for number in range(vocos.num_layers):
        with graph.layer(f"block_{number}"):
            x = onnx_convnext.block(graph, x, norm, vocos.causal)
    with graph.layer("head"):
        return _head(graph, x, model_config)


def _head(graph: Graph, x: Value, model_config: ml_collections.ConfigDict) -> Value:
    """Map x [B, F, C] to audio [B, 1, T], as `networks.fourier_head`."""
    scale, offset = (graph.weight(name, graph.param(name)) for name in ("scale", "offset"))
    x = graph.op("LayerNormalization", x, scale, offset, axis=-1, epsilon=onnx_convnext.EPSILON)
    spectrum = _spectrum(graph, onnx_convnext.linear(graph, "linear", x), model_config.vocos.head)

    hop, n_fft = config.hop_length(model_config), model_config.vocos.n_fft
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    waves = graph.weight("waves", np.asarray(_waves(n_fft) * window, np.float32))
    squares = graph.weight("squares", np.asarray(window**2, np.float32))
    windows = graph.op("MatMul", spectrum, waves)
    squares = graph.op("Expand", squares, graph.op("Shape", windows))
    sums = [_overlap_add(graph, each, hop, n_fft) for each in (windows, squares)]
    if graph.kind == "whole":
        trim = (n_fft - hop) // 2
        return graph.op("Div", *(graph.slice(each, trim, -trim) for each in sums))
    return _continued(graph, graph.op("Concat", *sums, axis=1), n_fft - hop)


def _spectrum(graph: Graph, x: Value, head: str) -> Value:
    """Return spectra [B, F, n_fft + 2], real and then imaginary parts, of what makes them."""
    count = 2 if head == "polar" else 3
    level, *parts = graph.ops("Split", x, outputs=count, num_outputs=count, axis=-1)
    if head == "polar":
        parts = [graph.op(wave, parts[0]) for wave in ("Cos", "Sin")]
    gain = graph.op("Min", graph.op("Exp", level), graph.constant(_LARGEST, np.float32))
    return graph.op("Concat", *(graph.op("Mul", gain, part) for part in parts), axis=-1)


def _overlap_add(graph: Graph, windows: Value, hop: int, n_fft: int) -> Value:
    """Add windows [B, F, n_fft], one every hop -> [B, 1, T + n_fft - hop]."""
    count = n_fft // hop
    windows = graph.op("Reshape", windows, graph.constant([0, 0, count, hop]))
    parts = graph.ops("Split", windows, outputs=count, num_outputs=count, axis=2)
    frames = graph.constant([1])
    shifted = [
        graph.op("Pad", part, graph.constant([index, count - 1 - index]), "", frames)
        for index, part in enumerate(parts)
    ]
    return graph.op("Reshape", graph.op("Sum", *shifted), graph.constant([0, 1, -1]))


def _continued(graph: Graph, sums: Value, overlap: int) -> Value:
    """Add what the block before has kept to sums of windows and of squares [B, 2, T + overlap].

    Returns:
      Audio [B, 1, T].
    """
    if graph.kind == "step":
        first = graph.op("Add", graph.slice(sums, 0, overlap), graph.state("overlap", 2, overlap))
        sums = graph.op("Concat", first, graph.slice(sums, overlap), axis=-1)
    graph.keep("overlap", graph.slice(sums, -overlap), 2, overlap)
    audio, squares = graph.ops("Split", sums, outputs=2, num_outputs=2, axis=1)
    squares = graph.op("Max", squares, graph.constant(_TINY, np.float32))
    audio = graph.op("Div", audio, squares)
    rest = graph.slice(audio, -overlap, -overlap + overlap // 2)
    graph.output("rest", rest, ("batch", 1, overlap // 2))
    return graph.slice(audio, 0, -overlap)


def _waves(n_fft: int) -> np.ndarray:
    """Return the real inverse Fourier transform as a matrix, float64 [n_fft + 2, n_fft].

    The rows are the real parts of all frequencies, then the imaginary parts.
    """
    frequencies = np.arange(n_fft // 2 + 1)[:, None]
    angle = 2 * np.pi * (frequencies * np.arange(n_fft) % n_fft) / n_fft
    count = np.where(frequencies % (n_fft // 2), 2, 1)  # those between stand for their mirror image
    return np.concatenate([count * np.cos(angle), -count * np.sin(angle)]) / n_fft
