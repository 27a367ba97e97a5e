"""`run.py describe`: the network of a configuration, module by module, and what follows from it.

The modules are seen by `hk.intercept_methods` while JAX evaluates shapes: no weight is made.

Shapes: T time steps of one second of audio at a layer's resolution, C channels, K codebooks,
F frames.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from encodec_hk import config as config_lib
from encodec_hk.networks import model as model_lib


class Call(NamedTuple):
    """One call of one module, for one row and one second of audio in whole frames.

    Attributes:
      path: the module's Haiku path.
      method: its name; "__call__" for all but the quantiser.
      output: shape without the batch axis, [T, C]; of codes [K, F].
      parameters: shapes of the parameters that the module itself holds, by name.
      multiply_adds: of the module itself: size of its weight matrices times their uses.
    """

    path: str
    method: str
    output: tuple[int, ...]
    parameters: dict[str, tuple[int, ...]]
    multiply_adds: int

    @property
    def num_parameters(self) -> int:
        """Numbers in the module's own parameters."""
        return sum(map(math.prod, self.parameters.values()))


def trace(model_config: ml_collections.ConfigDict) -> list[Call]:
    """The calls of encoding with all codebooks and of decoding, callers before what they call."""
    model = model_lib.build(model_config, is_kept=False)
    params = model.param_shapes()
    calls: list[Call | None] = []

    def record(
        next_f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: hk.MethodContext,
    ) -> Any:
        if context.method_name not in ("__call__", "encode", "decode"):
            return next_f(*args, **kwargs)
        place = len(calls)
        calls.append(None)
        result = next_f(*args, **kwargs)
        output = jax.tree.leaves(result)[0]  # layers return (output, state)
        path = context.module.module_name
        shapes = {name: value.shape for name, value in params.get(path, {}).items()}
        own = dict(sorted(shapes.items(), key=lambda item: -len(item[1])))  # weights first
        calls[place] = Call(
            path=path,
            method=context.method_name,
            output=output.shape[1:],
            parameters=own,
            multiply_adds=_multiply_adds(context.method_name, own, args[0].shape, output.shape),
        )
        return result

    frames = config_lib.frame_rate(model_config)
    samples = frames * config_lib.hop_length(model_config)
    audio = jnp.zeros((1, samples, model_config.channels))
    codes = jnp.zeros((1, model_config.num_codebooks, frames), jnp.int32)
    one = jnp.ones((1,), jnp.int32)

    def codec(params: model_lib.Params) -> None:
        model.encode_block(
            params, None, audio, one * samples, one > 0, num_codebooks=model_config.num_codebooks
        )
        model.decode_block(params, None, codes, one * frames, one > 0)

    with hk.intercept_methods(record):
        jax.eval_shape(codec, params)
    return [call for call in calls if call is not None]


def reference_surplus(model_config: ml_collections.ConfigDict, calls: list[Call]) -> dict[str, int]:
    """How many more numbers PyTorch's checkpoints hold than ours, codebooks aside, by reason."""
    # A transposed convolution has a magnitude for each of its input channels.
    magnitudes = sum(
        call.parameters["w"][1 if call.path.endswith("/upsample") else 2]
        for call in calls
        if "w" in call.parameters
    )
    biases = sum(call.parameters["b"][0] for call in calls if "w_h" in call.parameters)
    return {
        "second bias vectors of the LSTM, added into one here": biases,
        "magnitudes of weight_norm, folded into the weights here": (
            magnitudes if model_config.norm == "weight_norm" else 0
        ),
    }


def run(config: ml_collections.ConfigDict, out: TextIO | None = None) -> None:
    """Prints the description of a configuration.

    Args:
      config: a whole configuration, as `configs/` makes it.
      out: where to print, standard output by default.

    Raises:
      ValueError: the configuration is not valid.
    """
    config_lib.validate(config)
    calls = trace(config.model)
    for line in _lines(config, calls):
        print(line, file=sys.stdout if out is None else out)


def _multiply_adds(
    method: str,
    parameters: dict[str, tuple[int, ...]],
    inputs: tuple[int, ...],
    output: tuple[int, ...],
) -> int:
    if method == "decode":
        return 0  # codebook entries are looked up and added
    if method == "encode":
        return inputs[1] * math.prod(parameters["codebooks"])
    # A strided convolution uses its weights once for every output step, a transposed one once for
    # every input step: always at the lower of the two resolutions.
    steps = min(inputs[1], output[1])
    return steps * sum(math.prod(shape) for shape in parameters.values() if len(shape) > 1)


def _lines(config: ml_collections.ConfigDict, calls: list[Call]) -> Iterator[str]:
    model = config.model
    channels = {1: "mono", 2: "stereo"}.get(model.channels, f"{model.channels} channels")
    causal = "causal" if model.causal else "not causal"
    yield f"{config.name}: {model.sample_rate} Hz, {channels}, {causal}"
    yield ""
    yield from _tree(calls)
    yield "upsample: a transposed convolution as w [2, in, stride * out], kernel 2 * stride"
    yield ""
    yield from _facts(model, calls)
    yield ""
    yield "kbps by number of codebooks (*: a bandwidth of this variant)"
    yield from _bandwidths(model)


def _tree(calls: list[Call]) -> Iterator[str]:
    """One line a call; modules that hold modules show the sums of what they hold."""
    rows = [("one second of audio", "output", "parameters", "multiply-adds", "weights")]
    for call in calls:
        # The quantiser's two methods share its parameters, and are calls of their own.
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


def _facts(model: ml_collections.ConfigDict, calls: list[Call]) -> Iterator[str]:
    def total(root: str) -> tuple[int, int]:
        inside = [call for call in calls if call.path.split("/")[0] == root]
        return sum(c.num_parameters for c in inside), sum(c.multiply_adds for c in inside)

    def milliseconds(samples: int) -> str:
        return f"{1000 * samples / model.sample_rate:.4g} ms"

    encoder, decoder = total("encoder"), total("decoder")
    networks = encoder[0] + decoder[0]
    codebooks = model.num_codebooks * model.codebook_size * model.latent_dim
    surplus = reference_surplus(model, calls)
    yield (
        f"parameters       {networks:,} (encoder {encoder[0]:,}, decoder {decoder[0]:,}), "
        f"and {codebooks:,} in {model.num_codebooks} codebooks"
    )
    for reason, count in surplus.items():
        if count:
            yield f"                 + {count:,} {reason}"
    yield f"                 = {networks + sum(surplus.values()):,} in PyTorch, codebooks aside"

    hop = config_lib.hop_length(model)
    yield f"hop              {hop} samples ({milliseconds(hop)})"
    yield f"frame rate       {config_lib.frame_rate(model)} frames per second"

    samples, frames = config_lib.receptive_field(model)
    yield (
        f"receptive field  encoder {samples} samples ({milliseconds(samples)}), "
        f"decoder {frames} frames ({milliseconds(frames * hop)})"
    )
    beyond = ["the LSTM's memory is unlimited"] if model.num_lstm_layers else []
    if model.norm == "time_group_norm":
        beyond.append("time_group_norm sees the whole input")
    if beyond:
        yield f"                 of the convolutions; {', and '.join(beyond)}"

    if model.causal:
        first = config_lib.minimum_first_block(model)
        yield (
            f"look-ahead       {first} frames ({first * hop} samples, "
            f"{milliseconds(first * hop)}) for an exact start, then one frame at a time"
        )
    elif model.norm != "time_group_norm" and model.segment_seconds is None:
        frames, samples = config_lib.lags(model)
        yield (
            f"look-ahead       a stream lags by {frames} frames ({milliseconds(frames * hop)}) in "
            f"the encoder and {samples} samples ({milliseconds(samples)}) in the decoder"
        )
    else:
        coded = "whole signals"
        length, stride = config_lib.segment_length(model), config_lib.segment_stride(model)
        if length is not None and stride is not None:
            coded = f"segments of {length} samples, one every {stride}: {length / stride:.4g} "
            coded += "times the work below"
        yield f"look-ahead       not causal: it codes {coded}"

    work = {"encoder": encoder[1], "quantiser": total("quantizer")[1], "decoder": decoder[1]}
    parts = ", ".join(f"{name} {count / 1e6:,.1f} M" for name, count in work.items())
    yield f"multiply-adds    {sum(work.values()) / 1e6:,.1f} M per second of audio ({parts})"


def _bandwidths(model: ml_collections.ConfigDict, columns: int = 4) -> Iterator[str]:
    own = {config_lib.num_codebooks_for(model, bandwidth) for bandwidth in model.bandwidths}
    cells = [
        f"{count:>5} {config_lib.bandwidth_for(model, count):>7g} {'*' if count in own else ' '}"
        for count in range(1, model.num_codebooks + 1)
    ]
    for start in range(0, len(cells), columns):
        yield "".join(cells[start : start + columns]).rstrip()
