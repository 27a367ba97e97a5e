"""The table of PyTorch tensor names and our parameters, derived from a model config.

    rows = tensor_names.table(model_config, tensor_names.OFFICIAL)

The implementations number all layers of a network, activations included, so one more residual
layer, or no LSTM, changes every later number.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator

import ml_collections


@dataclasses.dataclass(frozen=True)
class TableRow:
    """The sources of one of our parameters.

    Attributes:
      sources: names of the PyTorch tensors, after weight norm is folded.
      shape: shape of each source.
      target: "module/path.param".
      transform: a key of `weights.TRANSFORMS`.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    target: str
    transform: str


@dataclasses.dataclass(frozen=True)
class Naming:
    """The names that one implementation gives to the parts of a network.

    Attributes:
      name: name of the implementation.
      sequence: attribute that holds the layers of the encoder or decoder.
      conv, conv_norm: paths from a layer to its convolution and its GroupNorm.
      transposed, transposed_norm: the same for a transposed convolution.
      codebook: path of a codebook, with {} for its number.
    """

    name: str
    sequence: str
    conv: str
    conv_norm: str
    transposed: str
    transposed_norm: str
    codebook: str


OFFICIAL = Naming(
    name="official",  # Meta's encodec, and audiocraft
    sequence="model",
    conv="conv.conv",
    conv_norm="conv.norm",
    transposed="convtr.convtr",
    transposed_norm="convtr.norm",
    codebook="quantizer.vq.layers.{}._codebook",
)
TRANSFORMERS = Naming(
    name="transformers",
    sequence="layers",
    conv="conv",
    conv_norm="norm",
    transposed="conv",
    transposed_norm="norm",
    codebook="quantizer.layers.{}.codebook",
)

IGNORED = {
    "inited": "whether k-means has initialised the codebook, for training only",
    "cluster_size": "moving average of each entry's use, for training only",
    "embed_avg": "moving average from which `embed` is computed, for training only",
}
"""Tensors of a codebook that the networks do not use, and why."""


def detect(keys: Collection[str]) -> Naming | None:
    """Return the naming of an EnCodec's tensors, None if they are of another network."""
    for naming in (OFFICIAL, TRANSFORMERS):
        if any(key.startswith(f"encoder.{naming.sequence}.0.") for key in keys):
            return naming
    return None


def ignored(model_config: ml_collections.ConfigDict, naming: Naming) -> dict[str, str]:
    """Return the tensors that conversion skips, with the reasons."""
    return {
        f"{naming.codebook.format(k)}.{tensor}": reason
        for k in range(model_config.num_codebooks)
        for tensor, reason in IGNORED.items()
    }


def table(model_config: ml_collections.ConfigDict, naming: Naming) -> tuple[TableRow, ...]:
    """Return a row for each parameter of a model, in the order of computation."""
    has_norm = model_config.norm == "time_group_norm"
    return (
        *_encoder(model_config, _Layers(naming, "encoder", has_norm)),
        _codebooks(model_config, naming),
        *_decoder(model_config, _Layers(naming, "decoder", has_norm)),
    )


class _Layers:
    """Numbers the layers of one network and makes their rows."""

    def __init__(self, naming: Naming, network: str, has_norm: bool):
        self._naming = naming
        self._prefix = f"{network}.{naming.sequence}"
        self._has_norm = has_norm
        self._index = itertools.count()

    def next(self) -> str:
        return f"{self._prefix}.{next(self._index)}"

    def activation(self) -> None:
        next(self._index)  # has no parameters

    def conv(
        self, layer: str, target: str, shape: tuple[int, int, int], *, transposed: bool = False
    ) -> Iterator[TableRow]:
        """Yield the rows of a convolution.

        Args:
          layer: path of the layer.
          target: path of our module.
          shape: [out, in, kernel]; [in, out, kernel] if transposed.
          transposed: whether the convolution is transposed.
        """
        naming = self._naming
        conv, norm, transform, channels = naming.conv, naming.conv_norm, "conv", shape[0]
        if transposed:
            conv, norm = naming.transposed, naming.transposed_norm
            transform, channels = "polyphase", shape[1]
        yield TableRow((f"{layer}.{conv}.weight",), shape, f"{target}.w", transform)
        yield TableRow((f"{layer}.{conv}.bias",), (channels,), f"{target}.b", "same")
        if self._has_norm:
            yield TableRow((f"{layer}.{norm}.weight",), (channels,), f"{target}/norm.scale", "same")
            yield TableRow((f"{layer}.{norm}.bias",), (channels,), f"{target}/norm.offset", "same")


def _encoder(model_config: ml_collections.ConfigDict, layers: _Layers) -> Iterator[TableRow]:
    width = model_config.num_filters
    shape = (width, model_config.channels, model_config.kernel_size)
    yield from layers.conv(layers.next(), "encoder/conv_in", shape)
    for i, ratio in enumerate(reversed(model_config.ratios)):
        stage = f"encoder/stage_{i}"
        yield from _residual_layers(model_config, layers, stage, width)
        layers.activation()
        shape = (2 * width, width, 2 * ratio)
        yield from layers.conv(layers.next(), f"{stage}/downsample", shape)
        width *= 2
    yield from _lstm(model_config, layers, "encoder/lstm", width)
    layers.activation()
    shape = (model_config.latent_dim, width, model_config.last_kernel_size)
    yield from layers.conv(layers.next(), "encoder/conv_out", shape)


def _decoder(model_config: ml_collections.ConfigDict, layers: _Layers) -> Iterator[TableRow]:
    width = model_config.num_filters * 2 ** len(model_config.ratios)
    shape = (width, model_config.latent_dim, model_config.kernel_size)
    yield from layers.conv(layers.next(), "decoder/conv_in", shape)
    yield from _lstm(model_config, layers, "decoder/lstm", width)
    for i, ratio in enumerate(model_config.ratios):
        stage = f"decoder/stage_{i}"
        layers.activation()
        shape = (width, width // 2, 2 * ratio)
        yield from layers.conv(layers.next(), f"{stage}/upsample", shape, transposed=True)
        width //= 2
        yield from _residual_layers(model_config, layers, stage, width)
    layers.activation()
    shape = (model_config.channels, width, model_config.last_kernel_size)
    yield from layers.conv(layers.next(), "decoder/conv_out", shape)


def _residual_layers(
    model_config: ml_collections.ConfigDict, layers: _Layers, stage: str, width: int
) -> Iterator[TableRow]:
    hidden = width // model_config.compress
    for j in range(model_config.num_residual_layers):
        layer, target = layers.next(), f"{stage}/residual_{j}"
        # The block is activation 0, convolution 1, activation 2, convolution 3.
        shape = (hidden, width, model_config.residual_kernel_size)
        yield from layers.conv(f"{layer}.block.1", f"{target}/conv_0", shape)
        yield from layers.conv(f"{layer}.block.3", f"{target}/conv_1", (width, hidden, 1))
        if model_config.shortcut == "conv":
            shape = (width, width, 1)
            yield from layers.conv(f"{layer}.shortcut", f"{target}/shortcut", shape)


def _lstm(
    model_config: ml_collections.ConfigDict, layers: _Layers, path: str, width: int
) -> Iterator[TableRow]:
    if not model_config.num_lstm_layers:
        return
    source = f"{layers.next()}.lstm"
    for n in range(model_config.num_lstm_layers):
        target = f"{path}/layer_{n}"
        square = (4 * width, width)
        yield TableRow((f"{source}.weight_ih_l{n}",), square, f"{target}.w_i", "transpose")
        yield TableRow((f"{source}.weight_hh_l{n}",), square, f"{target}.w_h", "transpose")
        biases = (f"{source}.bias_ih_l{n}", f"{source}.bias_hh_l{n}")
        yield TableRow(biases, (4 * width,), f"{target}.b", "sum")


def _codebooks(model_config: ml_collections.ConfigDict, naming: Naming) -> TableRow:
    sources = tuple(f"{naming.codebook.format(k)}.embed" for k in range(model_config.num_codebooks))
    shape = (model_config.codebook_size, model_config.latent_dim)
    return TableRow(sources, shape, "quantizer.codebooks", "stack")
