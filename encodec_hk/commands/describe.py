"""`run.py describe`: the modules of a variant's network, and the values derived from its config."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

import ml_collections

from encodec_hk import config
from encodec_hk.networks import cost


def run(variant: ml_collections.ConfigDict, out: TextIO | None = None) -> None:
    """Print the description of a variant.

    Args:
      variant: a whole configuration.
      out: None for standard output.

    Raises:
      ValueError: if the configuration is not valid.
    """
    config.validate(variant)
    for line in _lines(variant, cost.trace(variant.model)):
        print(line, file=sys.stdout if out is None else out)


def _lines(variant: ml_collections.ConfigDict, calls: Sequence[cost.Call]) -> Iterator[str]:
    model_config = variant.model
    channels = {1: "mono", 2: "stereo"}.get(
        model_config.channels, f"{model_config.channels} channels"
    )
    causal = "causal" if model_config.causal else "not causal"
    yield f"{variant.name}: {model_config.sample_rate} Hz, {channels}, {causal}"
    yield ""
    yield from _tree(calls)
    yield "upsample: a transposed convolution as w [2, in, stride * out], kernel 2 * stride"
    yield ""
    yield from _facts(model_config, calls)
    yield ""
    yield "kbps by number of codebooks (*: a bandwidth of this variant)"
    yield from _bandwidths(model_config)


def _tree(calls: Sequence[cost.Call]) -> Iterator[str]:
    """Yield a line per call; a module with submodules shows the sums over them."""
    rows = [("one second of audio", "output", "parameters", "multiply-adds", "weights")]
    for call in calls:
        # The quantiser's two methods share its parameters, but are separate calls.
        inside = [
            other
            for other in calls
            if (other.path, other.method) == (call.path, call.method)
            or other.path.startswith(f"{call.path}/")
        ]
        name = "  " * call.path.count("/") + call.path.rpartition("/")[2]
        rows.append(
            (
                name if call.method == "__call__" else f"{name}.{call.method}",
                str(list(call.output)),
                f"{sum(other.num_parameters for other in inside):,}",
                f"{sum(other.multiply_adds for other in inside):,}",
                ", ".join(f"{key} {list(shape)}" for key, shape in call.parameters.items()),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, output, parameters, multiply_adds, weights in rows:
        yield (
            f"{name:<{widths[0]}}  {output:<{widths[1]}}  {parameters:>{widths[2]}}  "
            f"{multiply_adds:>{widths[3]}}  {weights}"
        ).rstrip()


def _facts(model_config: ml_collections.ConfigDict, calls: Sequence[cost.Call]) -> Iterator[str]:
    def total(root: str) -> tuple[int, int]:
        inside = [call for call in calls if call.path.split("/")[0] == root]
        return sum(c.num_parameters for c in inside), sum(c.multiply_adds for c in inside)

    def milliseconds(samples: int) -> str:
        return f"{1000 * samples / model_config.sample_rate:.4g} ms"

    encoder, decoder = total("encoder"), total("decoder")
    networks = encoder[0] + decoder[0]
    codebooks = model_config.num_codebooks * model_config.codebook_size * model_config.latent_dim
    surplus = cost.reference_surplus(model_config, calls)
    yield (
        f"parameters       {networks:,} (encoder {encoder[0]:,}, decoder {decoder[0]:,}), "
        f"and {codebooks:,} in {model_config.num_codebooks} codebooks"
    )
    for reason, count in surplus.items():
        if count:
            yield f"                 + {count:,} {reason}"
    yield f"                 = {networks + sum(surplus.values()):,} in PyTorch, codebooks aside"

    hop = config.hop_length(model_config)
    yield f"hop              {hop} samples ({milliseconds(hop)})"
    yield f"frame rate       {config.frame_rate(model_config)} frames per second"

    samples, frames = config.receptive_field(model_config)
    yield (
        f"receptive field  encoder {samples} samples ({milliseconds(samples)}), "
        f"decoder {frames} frames ({milliseconds(frames * hop)})"
    )
    beyond = ["the LSTM's memory is unlimited"] if model_config.num_lstm_layers else []
    if model_config.norm == "time_group_norm":
        beyond.append("time_group_norm sees the whole input")
    if beyond:
        yield f"                 of the convolutions; {', and '.join(beyond)}"

    length = config.segment_length(model_config)
    stride = config.segment_stride(model_config)
    if model_config.causal:
        first = config.minimum_first_block(model_config)
        yield (
            f"look-ahead       {first} frames ({first * hop} samples, "
            f"{milliseconds(first * hop)}) for an exact start, then one frame at a time"
        )
    elif length is not None and stride is not None:
        yield (
            f"look-ahead       not causal: it codes segments of {length} samples, one every "
            f"{stride}: {length / stride:.4g} times the work below"
        )
    elif model_config.norm == "time_group_norm":
        yield "look-ahead       not causal: it codes whole signals"
    else:
        frames, samples = config.lags(model_config)
        yield (
            f"look-ahead       a stream lags by {frames} frames ({milliseconds(frames * hop)}) in "
            f"the encoder and {samples} samples ({milliseconds(samples)}) in the decoder"
        )

    work = {"encoder": encoder[1], "quantiser": total("quantizer")[1], "decoder": decoder[1]}
    parts = ", ".join(f"{name} {count / 1e6:,.1f} M" for name, count in work.items())
    yield f"multiply-adds    {sum(work.values()) / 1e6:,.1f} M per second of audio ({parts})"


def _bandwidths(model_config: ml_collections.ConfigDict, columns: int = 4) -> Iterator[str]:
    own = {config.num_codebooks_for(model_config, kbps) for kbps in model_config.bandwidths}
    cells = [
        f"{count:>5} {config.bandwidth_for(model_config, count):>7g} {'*' if count in own else ' '}"
        for count in range(1, model_config.num_codebooks + 1)
    ]
    for start in range(0, len(cells), columns):
        yield "".join(cells[start : start + columns]).rstrip()
