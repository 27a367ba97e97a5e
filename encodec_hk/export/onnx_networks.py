"""The networks of a codec as ONNX graphs.

Shapes: B rows, C audio channels, T samples, F frames, K codebooks, D latent channels.
"""

from __future__ import annotations

import ml_collections
import numpy as np

from encodec_hk import config
from encodec_hk.export import onnx_fourier
from encodec_hk.export import onnx_graph
from encodec_hk.export import onnx_layers
from encodec_hk.export import onnx_quantizer
from encodec_hk.export import onnx_vocos

Graph = onnx_graph.Graph
Value = onnx_graph.Value


def build_encoder(
    graph: Graph, model_config: ml_collections.ConfigDict, num_codebooks: int | None
) -> None:
    """Build the graph from audio to codes; without `num_codebooks`, that is an input."""
    audio = graph.input("audio", ("batch", model_config.channels, "samples"))
    if num_codebooks is None:
        count = graph.input("num_codebooks", (), np.int64)
    else:
        count = graph.constant(num_codebooks)
    if model_config.normalize:
        scale = _scale(graph, audio)
        audio = graph.op("Div", audio, graph.op("Unsqueeze", scale, graph.constant([2])))
    with graph.layer("encoder"):
        if config.has_fourier(model_config):
            latents = onnx_fourier.build(graph, audio, model_config)
        else:
            latents = _seanet_encoder(graph, audio, model_config)
    with graph.layer("quantizer"):
        codes = onnx_quantizer.encode(graph, latents, count)
    graph.output("codes", codes, ("batch", "codebooks", "frames"), np.int64)
    if model_config.normalize:
        graph.output("scale", scale, ("batch", 1))


def build_decoder(graph: Graph, model_config: ml_collections.ConfigDict) -> None:
    """Build the graph from codes to audio."""
    codes = graph.input("codes", ("batch", "codebooks", "frames"), np.int64)
    with graph.layer("quantizer"):
        latents = onnx_quantizer.decode(graph, codes)
    with graph.layer("decoder"):
        if config.has_vocos(model_config):
            audio = onnx_vocos.build(graph, latents, codes, model_config)
        else:
            audio = _seanet_decoder(graph, latents, model_config)
    if model_config.normalize:
        scale = graph.input("scale", ("batch", 1))
        audio = graph.op("Mul", audio, graph.op("Unsqueeze", scale, graph.constant([2])))
    graph.output("audio", audio, ("batch", model_config.channels, "samples"))


def _seanet_encoder(graph: Graph, x: Value, model_config: ml_collections.ConfigDict) -> Value:
    """Map audio [B, C, T] to latents [B, D, F], as `networks.seanet.Encoder`."""
    options = _options(model_config)
    with graph.layer("conv_in"):
        x = onnx_layers.conv(graph, x, options, activate=False)
    for index, stride in enumerate(reversed(model_config.ratios)):
        with graph.layer(f"stage_{index}"):
            x = _residuals(graph, x, model_config)
            with graph.layer("downsample"):
                x = onnx_layers.conv(graph, x, options, stride=stride)
    x = _lstm(graph, x, model_config)
    with graph.layer("conv_out"):
        return onnx_layers.conv(graph, x, options)


def _seanet_decoder(graph: Graph, x: Value, model_config: ml_collections.ConfigDict) -> Value:
    """Map latents [B, D, F] to audio [B, C, T], as `networks.seanet.Decoder`."""
    options = _options(model_config)
    with graph.layer("conv_in"):
        x = onnx_layers.conv(graph, x, options, activate=False)
    x = _lstm(graph, x, model_config)
    for index, stride in enumerate(model_config.ratios):
        with graph.layer(f"stage_{index}"):
            with graph.layer("upsample"):
                x = onnx_layers.conv_transpose(graph, x, options, stride=stride)
            x = _residuals(graph, x, model_config)
    with graph.layer("conv_out"):
        return onnx_layers.conv(graph, x, options)


def _residuals(graph: Graph, x: Value, model_config: ml_collections.ConfigDict) -> Value:
    """Run the residual layers of a stage, as `networks.seanet.Residual`."""
    options = _options(model_config)
    for index in range(model_config.num_residual_layers):
        with graph.layer(f"residual_{index}"):
            with graph.layer("conv_0"):
                dilation = model_config.dilation_base**index
                y = onnx_layers.conv(graph, x, options, dilation=dilation)
            with graph.layer("conv_1"):
                y = onnx_layers.conv(graph, y, options)
            if model_config.shortcut == "conv":
                with graph.layer("shortcut"):
                    x = onnx_layers.conv(graph, x, options, activate=False)
            x = graph.op("Add", x, y)
    return x


def _lstm(graph: Graph, x: Value, model_config: ml_collections.ConfigDict) -> Value:
    if not model_config.num_lstm_layers:
        return x
    with graph.layer("lstm"):
        return onnx_layers.lstm(graph, x, model_config.num_lstm_layers)


def _options(model_config: ml_collections.ConfigDict) -> onnx_layers.ConvOptions:
    return onnx_layers.ConvOptions(model_config.causal, model_config.norm, model_config.pad_mode)


def _scale(graph: Graph, audio: Value) -> Value:
    """Return the scales [B, 1] of audio [B, C, T], as `blocks.segments.rms_scale`."""
    mono = graph.op("ReduceMean", audio, graph.constant([1]), keepdims=0)
    power = graph.op("ReduceMean", graph.op("Mul", mono, mono), graph.constant([1]))
    return graph.op("Add", graph.op("Sqrt", power), graph.constant(1e-8, np.float32))
