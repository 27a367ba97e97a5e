"""Validation of configurations, and the values that follow from their fields.

`config` is a whole configuration as `configs/` makes it, `model` its part `config.model`: what a
checkpoint stores. The fields and their sources are commented in `configs/base.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from ml_collections import config_dict

from encodec_hk.system import rules

_MODEL_RULES: dict[str, rules.Rule] = {
    "sample_rate": rules.integer(1),
    "channels": rules.integer(1),
    "causal": rules.BOOL,
    "ratios": rules.tuple_of("whole numbers above 0", lambda value: rules.is_int(value, 1)),
    "num_filters": rules.integer(1),
    "latent_dim": rules.integer(1),
    "num_residual_layers": rules.integer(0),
    "kernel_size": rules.ODD,
    "last_kernel_size": rules.ODD,
    "residual_kernel_size": rules.ODD,
    "dilation_base": rules.integer(1),
    "compress": rules.integer(1),
    "num_lstm_layers": rules.integer(0),
    "norm": rules.one_of("weight_norm", "time_group_norm", "none"),
    "shortcut": rules.one_of("conv", "identity"),
    "pad_mode": rules.one_of("reflect", "constant"),
    "num_codebooks": rules.integer(1),
    "codebook_size": rules.POWER_OF_TWO,
    "bandwidths": rules.tuple_of("numbers above 0 (kbps)", rules.POSITIVE[1]),
    "normalize": rules.BOOL,
    "segment_seconds": (
        "None or a number above 0 (seconds)",
        lambda value: value is None or rules.POSITIVE[1](value),
    ),
    "overlap": ("a number in [0, 1)", lambda value: rules.is_number(value) and 0 <= value < 1),
}
_INFERENCE_RULES: dict[str, rules.Rule] = {
    "bandwidth": rules.POSITIVE,
    "batch_size": rules.integer(1),
    "block_seconds": rules.POSITIVE,
    "decode_precision": rules.one_of("float32", "tensorfloat32", "bfloat16"),
}
_BENCH_RULES: dict[str, rules.Rule] = {
    "seconds": rules.tuple_of("numbers above 0 (seconds)", rules.POSITIVE[1]),
    "batches": rules.tuple_of("whole numbers above 0", lambda value: rules.is_int(value, 1)),
    "max_runs": rules.integer(1),
    "min_ratios": (
        "a tuple of (reference, direction, seconds, batch, ratio)",
        lambda value: isinstance(value, tuple) and all(map(_is_floor, value)),
    ),
}
_CONFIG_RULES: dict[str, rules.Rule] = {
    "name": rules.NAME,
    "checkpoint": rules.NAME,
    "model": ("a ConfigDict", lambda value: isinstance(value, ml_collections.ConfigDict)),
    "inference": ("a ConfigDict", lambda value: isinstance(value, ml_collections.ConfigDict)),
}


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks a whole configuration; sections other than `model` and `inference` are left alone.

    Raises:
      ValueError: one line that names the field, the value it has and what is allowed.
    """
    rules.check_names("config", config.keys(), _CONFIG_RULES, others_allowed=True)
    rules.check_values("config", config, _CONFIG_RULES)
    model, inference = config.model, config.inference
    validate_model(model)

    validate_inference(inference)
    num_codebooks_for(model, inference.bandwidth, field="config.inference.bandwidth")


def validate_model(model: ml_collections.ConfigDict) -> None:
    """Checks a model configuration.

    Raises:
      ValueError: one line that names the field, the value it has and what is allowed.
    """
    path = "config.model"
    rules.check_names(path, model.keys(), _MODEL_RULES)
    rules.check_values(path, model, _MODEL_RULES)
    if model.num_filters % model.compress:
        raise rules.error(
            f"{path}.num_filters", model.num_filters, f"a multiple of compress ({model.compress})"
        )
    for bandwidth in model.bandwidths:
        num_codebooks_for(model, bandwidth, field=f"{path}.bandwidths")
    # Each of these looks at a whole segment before its first output.
    if model.causal and model.norm == "time_group_norm":
        raise rules.error(f"{path}.norm", model.norm, "weight_norm or none where causal is True")
    if model.causal and model.normalize:
        raise rules.error(f"{path}.normalize", model.normalize, "False where causal is True")
    if model.causal and model.segment_seconds is not None:
        raise rules.error(
            f"{path}.segment_seconds", model.segment_seconds, "None where causal is True"
        )
    length = segment_length(model)
    if length is not None and length < hop_length(model):
        seconds = hop_length(model) / model.sample_rate
        raise rules.error(
            f"{path}.segment_seconds", model.segment_seconds, f"at least one hop ({seconds:.6g} s)"
        )


def validate_inference(inference: Mapping[str, Any], path: str = "config.inference") -> None:
    """Checks the settings of inference, all but that the model has the bandwidth.

    Raises:
      ValueError: one line that names the field, the value it has and what is allowed.
    """
    rules.check_names(path, inference.keys(), _INFERENCE_RULES)
    rules.check_values(path, inference, _INFERENCE_RULES)


def validate_bench(bench: Mapping[str, Any]) -> None:
    """Checks the settings of `run.py bench`.

    Raises:
      ValueError: one line that names the field, the value it has and what is allowed.
    """
    rules.check_names("config.bench", bench.keys(), _BENCH_RULES)
    rules.check_values("config.bench", bench, _BENCH_RULES)


class Difference(NamedTuple):
    """A field in which two model configurations differ; None stands for an absent one."""

    field: str
    value: Any
    expected: Any

    def line(self, owner: str) -> str:
        """Return "config.model.FIELD: got VALUE, OWNER has EXPECTED"."""
        return f"config.model.{self.field}: got {self.value!r}, {owner} has {self.expected!r}"


def differences(
    model_config: Mapping[str, Any], expected: Mapping[str, Any], *, folded: bool = False
) -> list[Difference]:
    """Compare two model configurations.

    Args:
      model_config: a model configuration, or its fields as read from JSON (lists equal tuples).
      expected: the same, of a checkpoint or another source.
      folded: whether weight_norm and none count as equal, as they do for folded weights.

    Returns:
      The fields that differ, in alphabetical order.
    """

    def normal(value: Any) -> Any:
        value = tuple(value) if isinstance(value, list) else value
        return "none" if folded and value == "weight_norm" else value

    plain = [dict(fields.items()) for fields in (model_config, expected)]
    found = [
        Difference(field, *(fields.get(field) for fields in plain))
        for field in sorted(set().union(*plain))
    ]
    return [each for each in found if normal(each.value) != normal(each.expected)]


def _is_floor(value: Any) -> bool:
    """Whether a value is a ratio that a benchmark must reach."""
    if not (isinstance(value, tuple) and len(value) == 5):
        return False
    names, numbers = value[:2], value[2:]
    return all(isinstance(name, str) for name in names) and all(map(rules.is_number, numbers))


def hop_length(model: ml_collections.ConfigDict) -> int:
    """Audio samples per latent frame."""
    return math.prod(model.ratios)


def frame_rate(model: ml_collections.ConfigDict) -> int:
    """Latent frames per second, rounded up as the reference does."""
    return -(-model.sample_rate // hop_length(model))


def bits_per_codebook(model: ml_collections.ConfigDict) -> int:
    """Bits of one code."""
    return int(model.codebook_size).bit_length() - 1


def bandwidth_for(model: ml_collections.ConfigDict, num_codebooks: int) -> float:
    """Kbps of codes from the first `num_codebooks` codebooks; ValueError outside 1 to all."""
    if isinstance(num_codebooks, np.integer):
        num_codebooks = int(num_codebooks)
    if not rules.is_int(num_codebooks, 1) or num_codebooks > model.num_codebooks:
        raise rules.error(
            "num_codebooks", num_codebooks, f"a whole number, 1 to {model.num_codebooks}"
        )
    return num_codebooks * (bits_per_codebook(model) * frame_rate(model)) / 1000


def num_codebooks_for(
    model: ml_collections.ConfigDict, bandwidth: float, *, field: str = "bandwidth"
) -> int:
    """Codebooks that a bandwidth in kbps pays for.

    The reference rounds down, `max(1, floor(1000 * kbps / (bits * frame_rate)))`; here a bandwidth
    that is not exactly what its codes cost is an error, so that the number asked for is the truth.

    Args:
      model: a model configuration.
      bandwidth: kbps.
      field: how an error names the bandwidth.

    Raises:
      ValueError: not a whole number of codebooks, to within 1e-6, or not in 1 to all of them.
    """
    if isinstance(bandwidth, np.number):
        bandwidth = bandwidth.item()
    if not rules.is_number(bandwidth):
        raise rules.error(field, bandwidth, "a number (kbps)")
    exact = 1000 * bandwidth / (bits_per_codebook(model) * frame_rate(model))
    nearest = min(max(round(exact), 1), model.num_codebooks)
    if abs(exact - nearest) > 1e-6:
        raise rules.error(
            field,
            bandwidth,
            f"a whole number of codebooks of {bandwidth_for(model, 1):g} kbps, 1 to "
            f"{model.num_codebooks}; nearest is {bandwidth_for(model, nearest):g}",
        )
    return nearest


def segment_length(model: ml_collections.ConfigDict) -> int | None:
    """Samples of a segment; None: the whole signal is one."""
    if model.segment_seconds is None:
        return None
    return int(model.segment_seconds * model.sample_rate)


def segment_stride(model: ml_collections.ConfigDict) -> int | None:
    """Samples from the start of a segment to the start of the next; None: there is no next."""
    length = segment_length(model)
    if length is None:
        return None
    return max(1, int((1 - model.overlap) * length))


def receptive_field(model: ml_collections.ConfigDict) -> tuple[int, int]:
    """What one output depends on through the convolutions.

    The memory of the LSTM is unlimited, and the statistics of time_group_norm and of normalize span
    the segment: neither is counted.

    Returns:
      Audio samples behind one latent frame, and the most latent frames behind one audio sample.
    """
    residual = sum(kernel - 1 for kernel in _residual_kernels(model))
    samples, hop = model.kernel_size, 1
    frames = model.last_kernel_size
    for ratio in reversed(model.ratios):
        samples += hop * (residual + 2 * ratio - 1)
        hop *= ratio
        # n samples in a row lie in up to ceil((n - 1) / ratio) + 1 steps of the layer below, and
        # the transposed convolution reads one step more.
        frames = -(-(frames + residual - 1) // ratio) + 2
    samples += hop * (model.last_kernel_size - 1)
    frames += model.kernel_size - 1
    return samples, frames


def minimum_first_block(model: ml_collections.ConfigDict) -> int:
    """Frames (of `hop_length` samples) that an exact start of a causal stream needs.

    A causal convolution pads its start by the reflection of its first `pad + 1` steps, pad =
    effective kernel - stride. The first block must hold that many at every layer of encoder and
    decoder. Both see the same resolutions: `steps` per frame, from the hop down to 1.

    Other models, and padding with zeros, need no more than the one frame that a block has anyway.
    """
    if not model.causal or model.pad_mode != "reflect":
        return 1
    steps = hop_length(model)
    ends = (model.kernel_size, model.last_kernel_size)
    pads = [(kernel - 1, at) for kernel in ends for at in (1, steps)]
    for ratio in reversed(model.ratios):
        pads += [(kernel - 1, steps) for kernel in _residual_kernels(model)]
        pads.append((ratio, steps))  # downsampling: kernel 2 * ratio, stride ratio
        steps //= ratio
    return max(-(-(pad + 1) // steps) for pad, steps in pads)


def lags(model: ml_collections.ConfigDict) -> tuple[int, int]:
    """How far a stream of blocks lags behind, 0 where the model is causal or takes whole rows.

    A convolution that looks ahead waits for what it needs; what it waits for at a lower resolution
    is whole steps there.

    Returns:
      Frames by which the encoder's codes lag, and samples by which the decoder's audio does.
    """
    if model.causal or model.norm == "time_group_norm":
        return 0, 0
    residual = sum((kernel - 1) // 2 for kernel in _residual_kernels(model))
    encoder = model.kernel_size // 2
    decoder = model.kernel_size // 2
    for ratio in reversed(model.ratios):
        encoder = -(-(encoder + residual + ratio // 2) // ratio)
    for ratio in model.ratios:
        decoder = decoder * ratio + ratio - ratio // 2 + residual
    return encoder + model.last_kernel_size // 2, decoder + model.last_kernel_size // 2


def to_json(model: ml_collections.ConfigDict) -> str:
    """A model configuration as one line of JSON, its fields in alphabetical order."""
    return json.dumps(model.to_dict(), sort_keys=True)


def from_json(text: str) -> ml_collections.ConfigDict:
    """The locked, valid model configuration that `to_json` wrote; tuples come back as tuples.

    Raises:
      ValueError: no JSON object, unknown or missing fields, or a value that is not allowed.
    """
    try:
        fields = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"config.model: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise rules.error("config.model", fields, "a JSON object")
    rules.check_names("config.model", fields, _MODEL_RULES)
    fields = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    model = ml_collections.ConfigDict()
    model.segment_seconds = config_dict.placeholder(object)  # as in configs/base.py
    model.update(fields)
    validate_model(model)
    return model.lock()


def _residual_kernels(model: ml_collections.ConfigDict) -> list[int]:
    """Effective kernel of each residual layer of a stage, in steps."""
    return [
        (model.residual_kernel_size - 1) * model.dilation_base**layer + 1
        for layer in range(model.num_residual_layers)
    ]
