"""Module calls of a network: shapes, parameters and multiply-adds.

The calls are recorded by `hk.intercept_methods` while JAX evaluates shapes: no weight is created.

Shapes: T time steps of one second of audio at a layer's resolution, C channels, K codebooks,
F frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import ml_collections

from encodec_hk import config
from encodec_hk.networks import encodec
from encodec_hk.networks import model

Shape = tuple[int, ...]


class Call(NamedTuple):
    """One call of one module, for one row and one second of audio in whole frames.

    Attributes:
      path: the module's Haiku path.
      method: the method's name, "__call__" except for the quantiser's.
      output: shape without the batch axis: [T, C], for codes [K, F].
      parameters: shapes of the module's own parameters by name, its submodules' excluded.
      multiply_adds: by the module itself: size of its weight matrices times their uses.
    """

    path: str
    method: str
    output: Shape
    parameters: dict[str, Shape]
    multiply_adds: int

    @property
    def name(self) -> str:
        """The path, and after a dot the method if it is not "__call__"."""
        return self.path if self.method == "__call__" else f"{self.path}.{self.method}"

    @property
    def num_parameters(self) -> int:
        """Count the numbers in the module's own parameters."""
        return sum(map(math.prod, self.parameters.values()))


def trace(model_config: ml_collections.ConfigDict) -> list[Call]:
    """Return the calls of encoding with all codebooks and of decoding, callers before callees."""
    networks = model.build(model_config)
    params = networks.param_shapes()
    calls: list[Call | None] = []

    def record(next_f: Any, args: Any, kwargs: Any, context: hk.MethodContext) -> Any:
        is_whole = isinstance(context.module, encodec.EnCodec)
        if is_whole or context.method_name not in ("__call__", "encode", "decode"):
            return next_f(*args, **kwargs)
        index = len(calls)
        calls.append(None)
        result = next_f(*args, **kwargs)
        output = jax.tree.leaves(result)[0]  # layers return (output, state)
        path, method = context.module.module_name, context.method_name
        shapes = {name: value.shape for name, value in params.get(path, {}).items()}
        own = dict(sorted(shapes.items(), key=lambda item: -len(item[1])))  # weights first
        work = _multiply_adds(method, own, args[0].shape, output.shape)
        calls[index] = Call(path, method, output.shape[1:], own, work)
        return result

    frames = config.frame_rate(model_config)
    audio = jnp.zeros((1, frames * config.hop_length(model_config), model_config.channels))
    codes = jnp.zeros((1, model_config.num_codebooks, frames), jnp.int32)

    def codec(params: model.Params) -> None:
        count = model_config.num_codebooks
        networks.encode_block(params, None, audio, None, None, num_codebooks=count)
        networks.decode_block(params, None, codes, None, None)

    with hk.intercept_methods(record):
        jax.eval_shape(codec, params)
    return [call for call in calls if call is not None]


def total(calls: Sequence[Call], name: str) -> tuple[int, int]:
    """Return the parameters and multiply-adds of a call, its submodules' calls included."""
    inside = [call for call in calls if f"{call.name}/".startswith(f"{name}/")]
    return sum(call.num_parameters for call in inside), sum(call.multiply_adds for call in inside)


def multiply_adds_per_frame(
    model_config: ml_collections.ConfigDict, num_codebooks: int
) -> dict[str, float]:
    """Return the multiply-adds per frame of "encode", of "decode", and of each layer."""
    calls = trace(model_config)
    layers = [call.name for call in calls if call.path.count("/") < 2]
    found = {name: total(calls, name)[1] / config.frame_rate(model_config) for name in layers}
    # The quantiser is traced with all codebooks.
    found["quantizer.encode"] *= num_codebooks / model_config.num_codebooks
    found["encode"] = found["encoder"] + found["quantizer.encode"]
    found["decode"] = found["decoder"]
    return found


def reference_surplus(
    model_config: ml_collections.ConfigDict, calls: Sequence[Call]
) -> dict[str, int]:
    """Return, by reason, how many more numbers PyTorch checkpoints hold outside the codebooks."""
    plain = config.networks_of_spectra(model_config)
    # A transposed convolution has a magnitude for each of its input channels.
    magnitudes = sum(
        call.parameters["w"][1 if call.path.endswith("/upsample") else 2]
        for call in calls
        if "w" in call.parameters and call.path.split("/")[0] not in plain
    )
    biases = sum(call.parameters["b"][0] for call in calls if "w_h" in call.parameters)
    return {
        "second bias vectors of the LSTM, added into one here": biases,
        "magnitudes of weight_norm, folded into the weights here": (
            magnitudes if model_config.norm == "weight_norm" else 0
        ),
    }


def _multiply_adds(method: str, parameters: dict[str, Shape], inputs: Shape, output: Shape) -> int:
    if method == "decode":
        return 0  # codebook entries are looked up and added
    if method == "encode":
        return inputs[1] * math.prod(parameters["codebooks"])
    # A strided convolution uses its weights once per output step, a transposed one once per input
    # step: always at the lower of the two resolutions.
    steps = min(inputs[1], output[1])
    weights = (shape for name, shape in parameters.items() if name.startswith("w"))
    return steps * sum(map(math.prod, weights))
