"""An encoder of spectra as ONNX operators; see `networks.fourier_encoder`.

The Fourier transform is a convolution with the windowed waves of all frequencies.

Shapes: B rows, T samples, F frames, C channels, D latent channels.
"""

from __future__ import annotations

import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.export import onnx_convnext
from encodec_hk.export import onnx_graph
from encodec_hk.export import onnx_layers
from encodec_hk.networks import fourier_encoder

Graph = onnx_graph.Graph
Value = onnx_graph.Value


def build(graph: Graph, audio: Value, model_config: ml_collections.ConfigDict) -> Value:
    """Map audio [B, 1, T] to latents [B, D, F]."""
    norm = graph.constant(0)  # of one
    with graph.layer("spectra"):
        spectra = _transformed(graph, audio, model_config)
        x = onnx_convnext.linear(graph, "linear", _seen(graph, spectra, model_config.fourier.n_fft))
        x = onnx_convnext.adaptive_norm(graph, x, norm)
    for index in range(model_config.fourier.num_layers):
        with graph.layer(f"block_{index}"):
            x = onnx_convnext.block(graph, x, norm, model_config.causal)
    with graph.layer("latents"):
        x = onnx_convnext.linear(graph, "linear", onnx_convnext.adaptive_norm(graph, x, norm))
    return graph.op("Transpose", x, perm=[0, 2, 1])


def _transformed(graph: Graph, audio: Value, model_config: ml_collections.ConfigDict) -> Value:
    """Return the spectra of audio [B, 1, T], real and then imaginary parts, [B, F, n_fft]."""
    hop, n_fft = config.hop_length(model_config), model_config.fourier.n_fft
    right = 0 if model_config.causal else (n_fft - hop) // 2
    window = fourier_encoder.window(n_fft, hop, model_config.causal)
    angle = 2 * np.pi * (np.outer(np.arange(n_fft // 2), np.arange(n_fft)) % n_fft) / n_fft
    waves = np.concatenate([np.cos(angle), -np.sin(angle)]) * window
    padded, pads = onnx_layers.pad(graph, audio, 1, n_fft - hop - right, right, hop, "constant")
    spectra = graph.op(
        "Conv",
        padded,
        graph.weight("waves", np.asarray(waves[:, None], np.float32)),
        kernel_shape=[n_fft],
        strides=[hop],
        pads=pads,
    )
    return graph.op("Transpose", spectra, perm=[0, 2, 1])


def _seen(graph: Graph, spectra: Value, n_fft: int) -> Value:
    """Return the levels and the compressed waves of spectra."""

    def scalar(value: float) -> Value:
        return graph.constant(value, np.float32)

    count = n_fft // 2
    parts = graph.ops("Split", spectra, outputs=2, num_outputs=2, axis=-1)
    powers = [graph.op("Mul", part, part) for part in parts]
    level = graph.op("Log", graph.op("Sum", *powers, scalar(fourier_encoder.POWER_FLOOR)))
    exponent = scalar((fourier_encoder.COMPRESSION - 1) / 2)
    gain = graph.op("Exp", graph.op("Mul", graph.slice(level, 0, count // 4), exponent))
    gain = graph.op("Mul", gain, scalar(fourier_encoder.WAVE_SCALE))
    waves = [graph.op("Mul", graph.slice(part, 0, count // 4), gain) for part in parts]
    level = graph.op("Mul", level, scalar(fourier_encoder.LEVEL_SCALE))
    level = graph.op("Add", level, scalar(fourier_encoder.LEVEL_OFFSET))
    return graph.op("Concat", level, *waves, axis=-1)
