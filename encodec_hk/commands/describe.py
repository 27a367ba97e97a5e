"""`run.py describe`: the modules of a variant's network, and the values derived from its config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

import ml_collections

from encodec_hk import config
from encodec_hk.networks import cost
from encodec_hk.networks import reach


def run(variant: ml_collections.ConfigDict, out: TextIO | None = None) -> None:
    """Print the description of a variant, a whole configuration; to standard output without `out`.

    Raises:
      ValueError: if the configuration is not valid.
    """
    config.validate(variant)
    model_config = variant.model
    number = model_config.channels
    channels = {1: "mono", 2: "stereo"}.get(number, f"{number} channels")
    causal = "causal" if model_config.causal else "not causal"
    calls = cost.trace(model_config)
    lines = [
        f"{variant.name}: {model_config.sample_rate} Hz, {channels}, {causal}",
        "",
        *_tree(calls),
        _note(model_config),
        "",
        *_facts(model_config, calls),
        "",
        "kbps by number of codebooks (*: a bandwidth of this variant)",
        *_bandwidths(model_config),
    ]
    print("\n".join(lines), file=out)


def _tree(calls: Sequence[cost.Call]) -> Iterator[str]:
    """Yield a line per call; a module with submodules shows the sums over them."""
    rows = [("one second of audio", "output", "parameters", "multiply-adds", "weights")]
    for call in calls:
        num_parameters, multiply_adds = cost.total(calls, call.name)
        weights = (f"{key} {list(shape)}" for key, shape in call.parameters.items())
        rows.append(
            (
                "  " * call.path.count("/") + call.name.rpartition("/")[2],
                str(list(call.output)),
                f"{num_parameters:,}",
                f"{multiply_adds:,}",
                ", ".join(weights),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, "<<>><", widths, strict=True)
        yield "  ".join(f"{cell:{align}{width}}" for cell, align, width in cells).rstrip()


def _note(model_config: ml_collections.ConfigDict) -> str:
    notes = []
    if config.has_fourier(model_config):
        notes.append("encoder: of spectra")
    if config.has_vocos(model_config):
        notes.append("decoder: of spectra; its norms have a row for each of vocos.bandwidths")
    if notes:
        return "; ".join(notes)
    return "upsample: a transposed convolution as w [2, in, stride * out], kernel 2 * stride"


def _facts(model_config: ml_collections.ConfigDict, calls: Sequence[cost.Call]) -> Iterator[str]:
    def milliseconds(samples: int) -> str:
        return f"{1000 * samples / model_config.sample_rate:.4g} ms"

    encoder, encoding = cost.total(calls, "encoder")
    decoder, decoding = cost.total(calls, "decoder")
    codebooks, quantising = cost.total(calls, "quantizer.encode")
    yield (
        f"parameters       {encoder + decoder:,} (encoder {encoder:,}, decoder {decoder:,}), "
        f"and {codebooks:,} in {model_config.num_codebooks} codebooks"
    )
    if not config.has_fourier(model_config):  # which PyTorch checkpoints have not
        surplus = cost.reference_surplus(model_config, calls)
        for reason, count in surplus.items():
            if count:
                yield f"                 + {count:,} {reason}"
        in_pytorch = encoder + decoder + sum(surplus.values())
        yield f"                 = {in_pytorch:,} in PyTorch, codebooks aside"
    hop = config.hop_length(model_config)
    yield f"hop              {hop} samples ({milliseconds(hop)})"
    yield f"frame rate       {config.frame_rate(model_config)} frames per second"
    samples, frames = reach.receptive_field(model_config)
    yield (
        f"receptive field  encoder {samples} samples ({milliseconds(samples)}), "
        f"decoder {frames} frames ({milliseconds(frames * hop)})"
    )
    has_lstm = model_config.num_lstm_layers and len(config.networks_of_spectra(model_config)) < 2
    beyond = ["the LSTM's memory is unlimited"] if has_lstm else []
    if model_config.norm == "time_group_norm":
        beyond.append("time_group_norm sees the whole input")
    if beyond:
        yield f"                 of the convolutions; {', and '.join(beyond)}"
    length = config.segment_length(model_config)
    stride = config.segment_stride(model_config)
    if model_config.causal:
        first = reach.minimum_first_blocks(model_config)[0]
        start = f"{first} frames ({first * hop} samples, {milliseconds(first * hop)})"
        yield (
            f"look-ahead       {start} for an exact start, then one frame at a time"
            if first > 1
            else "look-ahead       none: a stream gives one frame at a time, from the first on"
        )
        if samples := reach.lags(model_config)[1]:
            lag = f"{samples} samples ({milliseconds(samples)})"
            yield f"                 a stream of the decoder lags by {lag}"
    elif length is not None and stride is not None:
        yield (
            f"look-ahead       not causal: it codes segments of {length} samples, one every "
            f"{stride}: {length / stride:.4g} times the work below"
        )
    elif model_config.norm == "time_group_norm":
        yield "look-ahead       not causal: it codes whole signals"
    else:
        frames, samples = reach.lags(model_config)
        yield (
            f"look-ahead       a stream lags by {frames} frames ({milliseconds(frames * hop)}) in "
            f"the encoder and {samples} samples ({milliseconds(samples)}) in the decoder"
        )
    work = {"encoder": encoding, "quantiser": quantising, "decoder": decoding}
    parts = ", ".join(f"{name} {count / 1e6:,.1f} M" for name, count in work.items())
    yield f"multiply-adds    {sum(work.values()) / 1e6:,.1f} M per second of audio ({parts})"


def _bandwidths(model_config: ml_collections.ConfigDict) -> Iterator[str]:
    own = {config.num_codebooks_for(model_config, kbps) for kbps in model_config.bandwidths}
    cells = [
        f"{count:>5} {config.bandwidth_for(model_config, count):>7g} {'*' if count in own else ' '}"
        for count in range(1, model_config.num_codebooks + 1)
    ]
    for start in range(0, len(cells), 4):
        yield "".join(cells[start : start + 4]).rstrip()
