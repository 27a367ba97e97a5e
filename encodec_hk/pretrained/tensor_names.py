"""The table of PyTorch tensor names and our parameters, derived from a model config.

    rows = tensor_names.table(model_config, tensor_names.OFFICIAL)

The implementations number all layers of a network, activations included, so one more residual
layer, or no LSTM, changes every later number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

import ml_collections


@dataclasses.dataclass(frozen=True)
class TableRow:
    """The sources of one of our parameters.

    Attributes:
      sources: names of the PyTorch tensors, after weight norm is folded.
      target: "module/path.param".
      transform: a key of `weights.TRANSFORMS`.
      stride: stride of a transposed convolution.
    """

    sources: tuple[str, ...]
    target: str
    transform: str
    stride: int = 1


@dataclasses.dataclass(frozen=True)
class Naming:
    """The names that one implementation gives to the parts of a network.

    Attributes:
      sequence: attribute that holds the layers of the encoder or decoder.
      conv: paths from a layer to its convolution and its GroupNorm.
      transposed: the same for a transposed convolution.
      codebook: path of a codebook, with {} for its number.
    """

    sequence: str
    conv: tuple[str, str]
    transposed: tuple[str, str]
    codebook: str


OFFICIAL = Naming(  # Meta's encodec, and audiocraft
    sequence="model",
    conv=("conv.conv", "conv.norm"),
    transposed=("convtr.convtr", "convtr.norm"),
    codebook="quantizer.vq.layers.{}._codebook",
)
TRANSFORMERS = Naming(
    sequence="layers",
    conv=("conv", "norm"),
    transposed=("conv", "norm"),
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


def ignored(model_config: ml_collections.ConfigDict, naming: Naming) -> set[str]:
    """Return the names of the tensors that conversion skips."""
    codebooks = (naming.codebook.format(k) for k in range(model_config.num_codebooks))
    return {f"{codebook}.{tensor}" for codebook in codebooks for tensor in IGNORED}


def table(model_config: ml_collections.ConfigDict, naming: Naming) -> tuple[TableRow, ...]:
    """Return a row for each parameter of a model."""
    codebooks = (f"{naming.codebook.format(k)}.embed" for k in range(model_config.num_codebooks))
    return (
        *_network_rows("encoder", model_config, naming),
        *_network_rows("decoder", model_config, naming),
        TableRow(tuple(codebooks), "quantizer.codebooks", "stack"),
    )


def _layers(network: str, model_config: ml_collections.ConfigDict) -> list[str]:
    """Return our names of the layers of a network, in the order in which PyTorch numbers them."""
    residuals = [f"residual_{j}" for j in range(model_config.num_residual_layers)]
    lstm = ["lstm"] if model_config.num_lstm_layers else []
    if network == "encoder":
        stage = [*residuals, "activation", "downsample"]
    else:
        stage = ["activation", "upsample", *residuals]
    stages = [f"stage_{i}/{layer}" for i in range(len(model_config.ratios)) for layer in stage]
    middle = [*stages, *lstm] if network == "encoder" else [*lstm, *stages]
    return ["conv_in", *middle, "activation", "conv_out"]


def _network_rows(
    network: str, model_config: ml_collections.ConfigDict, naming: Naming
) -> Iterator[TableRow]:
    strides = iter(model_config.ratios)

    def conv(source: str, target: str, stride: int | None = None) -> Iterator[TableRow]:
        """Yield the rows of a convolution; of a transposed one if a stride is given."""
        paths = naming.conv if stride is None else naming.transposed
        conv, norm = (f"{source}.{path}" for path in paths)
        if stride is None:
            yield TableRow((f"{conv}.weight",), f"{target}.w", "transpose")
        else:
            yield TableRow((f"{conv}.weight",), f"{target}.w", "polyphase", stride)
        yield TableRow((f"{conv}.bias",), f"{target}.b", "same")
        if model_config.norm == "time_group_norm":
            yield TableRow((f"{norm}.weight",), f"{target}/norm.scale", "same")
            yield TableRow((f"{norm}.bias",), f"{target}/norm.offset", "same")

    for index, name in enumerate(_layers(network, model_config)):
        source, target = f"{network}.{naming.sequence}.{index}", f"{network}/{name}"
        kind = name.rpartition("/")[2]
        if kind == "lstm":
            yield from _lstm(f"{source}.lstm", target, model_config.num_lstm_layers)
        elif kind.startswith("residual"):
            # The block is activation 0, convolution 1, activation 2, convolution 3.
            yield from conv(f"{source}.block.1", f"{target}/conv_0")
            yield from conv(f"{source}.block.3", f"{target}/conv_1")
            if model_config.shortcut == "conv":
                yield from conv(f"{source}.shortcut", f"{target}/shortcut")
        elif kind == "upsample":
            yield from conv(source, target, stride=next(strides))
        elif kind != "activation":
            yield from conv(source, target)


def _lstm(source: str, target: str, num_layers: int) -> Iterator[TableRow]:
    for n in range(num_layers):
        layer = f"{target}/layer_{n}"
        yield TableRow((f"{source}.weight_ih_l{n}",), f"{layer}.w_i", "transpose")
        yield TableRow((f"{source}.weight_hh_l{n}",), f"{layer}.w_h", "transpose")
        biases = (f"{source}.bias_ih_l{n}", f"{source}.bias_hh_l{n}")
        yield TableRow(biases, f"{layer}.b", "sum")
