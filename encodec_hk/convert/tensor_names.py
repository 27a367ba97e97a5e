"""Tensor names of the PyTorch implementations beside ours: a table made from the model config.

    rows = names.table(model_config, names.OFFICIAL)

Layers are numbered as the implementations append them to their sequences, activations included,
so a residual layer more, or no LSTM, moves every number after it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator

import ml_collections


@dataclasses.dataclass(frozen=True)
class Row:
    """Where one of our parameters comes from.

    Attributes:
      sources: the PyTorch tensors it is made of; weight norm is folded before, so `weight` it is.
      shape: of each source.
      target: "module/path.param".
      transform: a key of `weights.TRANSFORMS`.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    target: str
    transform: str


@dataclasses.dataclass(frozen=True)
class Naming:
    """How an implementation spells the parts that all of them have.

    Attributes:
      name: of the implementation.
      sequence: the attribute that holds the layers of encoder and decoder.
      conv, conv_norm: from a layer to its convolution and to its GroupNorm.
      transposed, transposed_norm: the same of a transposed convolution.
      codebook: the path of a codebook, from its number.
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
    "inited": "says that k-means initialised the codebook, used in training only",
    "cluster_size": "moving average of an entry's use, training only",
    "embed_avg": "moving average that `embed` is computed from, training only",
}
"""Tensors of a codebook that the networks do not use, and why."""


def detect(keys: Collection[str]) -> Naming | None:
    """The naming that tensor names follow, None where they are not an EnCodec's."""
    for naming in (OFFICIAL, TRANSFORMERS):
        if any(key.startswith(f"encoder.{naming.sequence}.0.") for key in keys):
            return naming
    return None


def ignored(model: ml_collections.ConfigDict, naming: Naming) -> dict[str, str]:
    """Tensors that a source may hold and conversion leaves out, with the reason."""
    return {
        f"{naming.codebook.format(k)}.{tensor}": reason
        for k in range(model.num_codebooks)
        for tensor, reason in IGNORED.items()
    }


def table(model: ml_collections.ConfigDict, naming: Naming) -> tuple[Row, ...]:
    """Every tensor that the networks of a model config use, in the order of computation."""
    norm = model.norm == "time_group_norm"
    return tuple(
        itertools.chain(
            _encoder(model, _Layers(naming, "encoder", norm)),
            _codebooks(model, naming),
            _decoder(model, _Layers(naming, "decoder", norm)),
        )
    )


class _Layers:
    """Counts the layers of one network and names their rows."""

    def __init__(self, naming: Naming, network: str, norm: bool):
        self._naming = naming
        self._prefix = f"{network}.{naming.sequence}"
        self._norm = norm
        self._index = itertools.count()

    def next(self) -> str:
        return f"{self._prefix}.{next(self._index)}"

    def activation(self) -> None:
        next(self._index)  # has no parameters

    def conv(self, layer: str, target: str, shape: tuple[int, int, int]) -> Iterator[Row]:
        """A convolution, shape [out, in, kernel]."""
        naming = self._naming
        yield Row((f"{layer}.{naming.conv}.weight",), shape, f"{target}.w", "conv")
        yield from self._bias(f"{layer}.{naming.conv}", target, shape[0])
        yield from self._group_norm(f"{layer}.{naming.conv_norm}", target, shape[0])

    def transposed(self, layer: str, target: str, shape: tuple[int, int, int]) -> Iterator[Row]:
        """A transposed convolution, shape [in, out, kernel]."""
        naming = self._naming
        yield Row((f"{layer}.{naming.transposed}.weight",), shape, f"{target}.w", "polyphase")
        yield from self._bias(f"{layer}.{naming.transposed}", target, shape[1])
        yield from self._group_norm(f"{layer}.{naming.transposed_norm}", target, shape[1])

    def _bias(self, source: str, target: str, channels: int) -> Iterator[Row]:
        yield Row((f"{source}.bias",), (channels,), f"{target}.b", "same")

    def _group_norm(self, source: str, target: str, channels: int) -> Iterator[Row]:
        if self._norm:
            yield Row((f"{source}.weight",), (channels,), f"{target}/norm.scale", "same")
            yield Row((f"{source}.bias",), (channels,), f"{target}/norm.offset", "same")


def _encoder(model: ml_collections.ConfigDict, layers: _Layers) -> Iterator[Row]:
    width = model.num_filters
    shape = (width, model.channels, model.kernel_size)
    yield from layers.conv(layers.next(), "encoder/conv_in", shape)
    for i, ratio in enumerate(reversed(model.ratios)):
        stage = f"encoder/stage_{i}"
        yield from _residual_layers(model, layers, stage, width)
        layers.activation()
        shape = (2 * width, width, 2 * ratio)
        yield from layers.conv(layers.next(), f"{stage}/downsample", shape)
        width *= 2
    yield from _lstm(model, layers, "encoder/lstm", width)
    layers.activation()
    shape = (model.latent_dim, width, model.last_kernel_size)
    yield from layers.conv(layers.next(), "encoder/conv_out", shape)


def _decoder(model: ml_collections.ConfigDict, layers: _Layers) -> Iterator[Row]:
    width = model.num_filters * 2 ** len(model.ratios)
    shape = (width, model.latent_dim, model.kernel_size)
    yield from layers.conv(layers.next(), "decoder/conv_in", shape)
    yield from _lstm(model, layers, "decoder/lstm", width)
    for i, ratio in enumerate(model.ratios):
        stage = f"decoder/stage_{i}"
        layers.activation()
        shape = (width, width // 2, 2 * ratio)
        yield from layers.transposed(layers.next(), f"{stage}/upsample", shape)
        width //= 2
        yield from _residual_layers(model, layers, stage, width)
    layers.activation()
    shape = (model.channels, width, model.last_kernel_size)
    yield from layers.conv(layers.next(), "decoder/conv_out", shape)


def _residual_layers(
    model: ml_collections.ConfigDict, layers: _Layers, stage: str, width: int
) -> Iterator[Row]:
    hidden = width // model.compress
    for j in range(model.num_residual_layers):
        layer, target = layers.next(), f"{stage}/residual_{j}"
        # The block is activation 0, convolution 1, activation 2, convolution 3.
        shape = (hidden, width, model.residual_kernel_size)
        yield from layers.conv(f"{layer}.block.1", f"{target}/conv_0", shape)
        yield from layers.conv(f"{layer}.block.3", f"{target}/conv_1", (width, hidden, 1))
        if model.shortcut == "conv":
            shape = (width, width, 1)
            yield from layers.conv(f"{layer}.shortcut", f"{target}/shortcut", shape)


def _lstm(
    model: ml_collections.ConfigDict, layers: _Layers, path: str, width: int
) -> Iterator[Row]:
    if not model.num_lstm_layers:
        return
    source = f"{layers.next()}.lstm"
    for n in range(model.num_lstm_layers):
        target = f"{path}/layer_{n}"
        square = (4 * width, width)
        yield Row((f"{source}.weight_ih_l{n}",), square, f"{target}.w_i", "transpose")
        yield Row((f"{source}.weight_hh_l{n}",), square, f"{target}.w_h", "transpose")
        biases = (f"{source}.bias_ih_l{n}", f"{source}.bias_hh_l{n}")
        yield Row(biases, (4 * width,), f"{target}.b", "sum")


def _codebooks(model: ml_collections.ConfigDict, naming: Naming) -> Iterator[Row]:
    sources = tuple(f"{naming.codebook.format(k)}.embed" for k in range(model.num_codebooks))
    shape = (model.codebook_size, model.latent_dim)
    yield Row(sources, shape, "quantizer.codebooks", "stack")
